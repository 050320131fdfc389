//! What tests of runners share: a turn, a place to run it, and what it said.

use contract::{EventBody, Principal, Start, Trigger, TurnId, TurnMessage, UnitId};
use tempfile::TempDir;

use super::{Context, Outcome, Resume, run};
use crate::events::Sink;
use crate::link::Events;
use crate::processes::Awaited;
use crate::settings::{RunnerConfig, RunnerKind};
use crate::stop::{Stopper, Stops, stopper};

pub(super) struct Place {
    pub dir: TempDir,
    pub turn: TurnMessage,
    pub config: RunnerConfig,
    pub session: Option<Resume>,
    pub stopper: Stopper,
    stops: Stops,
}

impl Place {
    pub fn new(prompt: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["workspace", "state", "home"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        let turn = TurnMessage {
            turn_id: TurnId::new(1, 1),
            prompt: prompt.into(),
            prompt_path: None,
            attempt: 1,
            trigger: Trigger::Message,
            thread: "main".into(),
            principal: Principal { name: "Ann".into(), email: "ann@example.com".into() },
            tools: Vec::new(),
            options: contract::Options::default(),
            start: Start::Cold,
            timeout_sec: 60,
            tell: None,
            unclean: Default::default(),
            cache: None,
            session: None,
            traceparent: None,
        };
        let (stopper, stops) = stopper();
        Self { dir, turn, config: RunnerConfig::default(), session: None, stopper, stops }
    }

    pub fn command(mut self, command: &[&str]) -> Self {
        self.config.command = command.iter().map(|word| (*word).to_owned()).collect();
        self
    }

    /// A shell script as the command.
    pub fn script(self, script: &str) -> Self {
        self.command(&["/bin/sh", "-c", script])
    }

    pub async fn with<T>(&self, f: impl AsyncFnOnce(&Context<'_>) -> T) -> T {
        let unit = UnitId::parse("uaaaaaaaaaaaaaaaaaaaaaaaaa").unwrap();
        let (workspace, state, home) =
            (self.dir.path().join("workspace"), self.dir.path().join("state"), self.dir.path().join("home"));
        let ctx = Context {
            unit: &unit,
            turn: &self.turn,
            prompt: &self.turn.prompt,
            session: self.session.clone(),
            workspace: &workspace,
            state: &state,
            home: &home,
            config: &self.config,
            gateway_port: 7070,
            awaited: &Awaited::default(),
        };
        f(&ctx).await
    }

    pub async fn run(&self, kind: RunnerKind) -> (Outcome, Vec<EventBody>) {
        let (events, seen) = Events::collected();
        let outcome = self
            .with(async |ctx| {
                let mut sink = Sink::new(events, self.turn.turn_id.clone());
                run(kind, ctx, &mut sink, self.stops.clone()).await
            })
            .await;
        (outcome, seen.await.unwrap())
    }
}

pub(super) fn texts(events: &[EventBody]) -> String {
    let text = |event: &EventBody| match event {
        EventBody::MessageDelta { text } => Some(text.clone()),
        _ => None,
    };
    events.iter().filter_map(text).collect()
}
