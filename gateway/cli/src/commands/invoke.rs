//! `rekindle invoke`: one turn, as it happens; the exit status follows it.

use std::io::{IsTerminal, Read};
use std::time::Duration;

use contract::{EventBody, FailReason, InvokeBody, Mode, Options, UnitEvent, UnitName, WorkspaceAt, WorkspaceId};
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::Instant;

use crate::api::{Api, Call};
use crate::failure::Failure;
use crate::follow::Follow;
use crate::render::{Renderer, Style, json_line};
use crate::spinner::{Spinner, waiting_for};
use crate::target::Target;

/// For how long a second Ctrl-C cancels the turn.
const SECOND_THOUGHT: Duration = Duration::from_secs(2);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which unit; it is made when it is first called
    unit: UnitName,
    /// What to do; `-` or nothing: read from standard input
    prompt: Option<String>,
    /// The runner that drives the agent CLI
    #[arg(long)]
    runner: Option<String>,
    /// The deployment default to start from
    #[arg(long)]
    profile: Option<String>,
    /// A workspace to mount, the first is primary [default: the unit's own, rw]
    #[arg(long = "workspace", value_name = "ID[:ro|rw]", value_parser = workspace)]
    workspaces: Vec<WorkspaceAt>,
    /// A tool that the agent may use [default: the profile's]
    #[arg(long = "tool", value_name = "TOOL")]
    tools: Vec<String>,
    /// The model for this turn
    #[arg(long)]
    model: Option<String>,
    /// Print every event as one line of JSON; with --no-stream the turn's record
    #[arg(long)]
    json: bool,
    /// Print the reply when it is whole
    #[arg(long)]
    no_stream: bool,
    /// Calling again with the same key gives the same turn
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Seconds to wait for the end; 0 prints the turn's id and leaves
    #[arg(long, value_name = "SECONDS")]
    wait: Option<u64>,
}

fn workspace(text: &str) -> Result<WorkspaceAt, String> {
    let (id, mode) = match text.rsplit_once(':') {
        None => (text, Mode::Rw),
        Some((id, "rw")) => (id, Mode::Rw),
        Some((id, "ro")) => (id, Mode::Ro),
        Some((_, mode)) => return Err(format!("mode `{mode}` is neither ro nor rw")),
    };
    let id = WorkspaceId::parse(id).map_err(|e| e.to_string())?;
    Ok(WorkspaceAt { id, mode })
}

/// How the turn's wait ended.
#[derive(Debug)]
enum End {
    Complete,
    Failed(FailReason),
    TimeUp,
    LeftAlone,
    Cancel,
}

pub async fn run(args: Args, target: &Target) -> Result<(), Failure> {
    let api = Api::new(target.reach()?)?;
    let body = body(&args)?;
    let key = args.idempotency_key.clone().unwrap_or_else(|| ulid::Ulid::new().to_string());
    let path = format!("/v1/units/{}/invoke", args.unit);
    let call = Call::post(path, &body).header("idempotency-key", key);
    if args.wait == Some(0) {
        return respond_async(&api, call, args.json).await;
    }
    let follow = Follow::new(api.clone(), args.unit.as_str(), call, None);
    let mut turn = Turn {
        renderer: Renderer::new(std::io::stdout(), style(&args, std::io::stdout().is_terminal())),
        spinner: Spinner::new("calling the gateway"),
        id: None,
        api: api.clone(),
        follow,
    };
    let mut interrupts = signal(SignalKind::interrupt())?;
    let deadline = args.wait.map(|s| Instant::now() + Duration::from_secs(s));
    let end = turn.watch(deadline, &mut interrupts).await;
    turn.spinner.clear();
    let (id, unit) = (turn.id, &args.unit);
    if args.json
        && args.no_stream
        && let (Some(id), Ok(End::Complete | End::Failed(_))) = (&id, &end)
    {
        let record: Value = api.json(&Call::get(format!("/v1/turns/{id}"))).await?;
        println!("{}", json_line(&record));
    }
    let look = format!("`rekindle events {unit} -f` shows what it does, `rekindle turns {unit}` what came of it");
    match end? {
        End::Complete => Ok(()),
        End::Failed(reason) => Err(Failure::Turn(reason.as_str().into())),
        End::TimeUp => Err(Failure::StillRunning(format!("the turn still runs; {look}"))),
        End::LeftAlone => Err(Failure::Interrupted(format!("the turn goes on; {look}"))),
        End::Cancel => {
            let Some(id) = id else {
                return Err(Failure::Interrupted(format!("it is not known which turn to cancel; {look}")));
            };
            let call = Call::post(format!("/v1/turns/{id}/cancel"), &serde_json::json!({}));
            api.json::<Value>(&call).await?;
            Err(Failure::Interrupted(format!("turn {id} is being cancelled")))
        }
    }
}

/// 202 and the turn's id.
async fn respond_async(api: &Api, call: Call, json: bool) -> Result<(), Failure> {
    let answer: Value = api.json(&call.header("prefer", "respond-async")).await?;
    match answer.get("turn_id").and_then(Value::as_str) {
        Some(id) if !json => println!("{id}"),
        _ => println!("{}", json_line(&answer)),
    }
    Ok(())
}

fn style(args: &Args, terminal: bool) -> Style {
    match (args.json, args.no_stream, terminal) {
        (true, false, _) => Style::Json,
        (true, true, _) => Style::Silent,
        (false, true, _) | (false, false, false) => Style::Reply { on_terminal: terminal },
        (false, false, true) => Style::Turn,
    }
}

fn body(args: &Args) -> Result<Value, Failure> {
    let prompt = match args.prompt.as_deref() {
        Some(prompt) if prompt != "-" => prompt.to_owned(),
        None if std::io::stdin().is_terminal() => {
            return Err(Failure::Refused("say what to do: rekindle invoke <unit> <prompt>, or `-` to read it".into()));
        }
        _ => {
            let mut bytes = Vec::new();
            std::io::stdin().lock().read_to_end(&mut bytes)?;
            String::from_utf8(bytes).map_err(|_| Failure::Refused("the prompt is not UTF-8".into()))?
        }
    };
    if prompt.trim().is_empty() {
        return Err(Failure::Refused("the prompt is empty".into()));
    }
    let body = InvokeBody {
        prompt,
        runner: args.runner.clone(),
        profile: args.profile.clone(),
        workspaces: (!args.workspaces.is_empty()).then(|| args.workspaces.clone()),
        tools: (!args.tools.is_empty()).then(|| args.tools.clone()),
        options: Options { model: args.model.clone(), ..Options::default() },
    };
    serde_json::to_value(body).map_err(|e| Failure::Other(e.into()))
}

struct Turn<W> {
    api: Api,
    follow: Follow,
    renderer: Renderer<W>,
    spinner: Spinner,
    id: Option<String>,
}

impl<W: std::io::Write> Turn<W> {
    async fn watch(&mut self, deadline: Option<Instant>, interrupts: &mut Signal) -> Result<End, Failure> {
        tokio::select! {
            opened = self.follow.open() => opened?,
            _ = interrupts.recv() => return Ok(End::LeftAlone),
        }
        self.spinner.say(match self.follow.start() {
            Some("cold") => "starting a worker",
            Some("warm") => "handing over the turn",
            _ => "waiting for the unit",
        });
        // Until the first Ctrl-C, so long that it never comes.
        let mut leave_at: Option<Instant> = None;
        let far = Instant::now() + Duration::from_secs(86_400 * 365);
        loop {
            let message = tokio::select! {
                message = self.follow.next() => message?,
                _ = interrupts.recv() => {
                    if leave_at.is_some() {
                        return Ok(End::Cancel);
                    }
                    self.spinner.clear();
                    eprintln!("\nleaving the turn running; Ctrl-C again within 2 s cancels it");
                    leave_at = Some(Instant::now() + SECOND_THOUGHT);
                    continue;
                }
                () = tokio::time::sleep_until(leave_at.unwrap_or(far)) => return Ok(End::LeftAlone),
                () = tokio::time::sleep_until(deadline.unwrap_or(far)) => return Ok(End::TimeUp),
            };
            let Ok(event) = serde_json::from_str::<UnitEvent>(&message.data) else {
                continue;
            };
            if let Some(end) = self.event(&event, &message.data)? {
                return Ok(end);
            }
            if matches!(event.body, EventBody::Gap { .. })
                && let Some(end) = self.look().await?
            {
                return Ok(end);
            }
        }
    }

    /// After a gap the turn's last event may be among what is no longer kept: asks for the turn itself.
    async fn look(&mut self) -> Result<Option<End>, Failure> {
        let Some(id) = &self.id else { return Ok(None) };
        let record: Value = self.api.json(&Call::get(format!("/v1/turns/{id}"))).await?;
        let reason = || serde_json::from_value(record["reason"].clone()).unwrap_or(FailReason::Error);
        Ok(match record["status"].as_str() {
            Some("completed") => Some(End::Complete),
            Some("failed") => Some(End::Failed(reason())),
            _ => None,
        })
    }

    /// Shows one event; how the turn ended, if this was its end.
    fn event(&mut self, event: &UnitEvent, json: &str) -> Result<Option<End>, Failure> {
        let of = event.turn_id.as_ref().map(|t| t.as_str());
        // The answer to an invoke has no other turn's events: the first one that is heard of is it.
        if let (None, Some(turn)) = (&self.id, of) {
            self.follow.of_turn(turn);
            self.id = Some(turn.into());
        }
        if of.is_some() && of != self.id.as_deref() {
            return Ok(None);
        }
        if let Some(text) = waiting_for(event) {
            self.spinner.say(&text);
        }
        if self.renderer.shows(event) {
            self.spinner.clear();
        }
        self.renderer.event(event, json)?;
        Ok(match &event.body {
            EventBody::TurnComplete { .. } => Some(End::Complete),
            EventBody::TurnFailed { reason, is_final: true, .. } => Some(End::Failed(*reason)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::Reach;

    fn args(more: &[&str]) -> Args {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            args: Args,
        }
        let words = ["invoke", "demo", "hi"].iter().chain(more);
        <Alone as clap::Parser>::try_parse_from(words).unwrap().args
    }

    #[test]
    fn the_body_says_only_what_was_chosen() {
        assert_eq!(body(&args(&[])).unwrap(), serde_json::json!({"prompt": "hi", "options": {}}));
        let full =
            args(&["--workspace", "a:ro", "--workspace", "b", "--tool", "Bash", "--model", "m", "--runner", "echo"]);
        assert_eq!(
            body(&full).unwrap(),
            serde_json::json!({
                "prompt": "hi", "runner": "echo", "tools": ["Bash"], "options": {"model": "m"},
                "workspaces": [{"id": "a", "mode": "ro"}, {"id": "b", "mode": "rw"}],
            })
        );
        assert!(workspace("a:rx").is_err());
        assert!(workspace("../a:ro").is_err());
    }

    #[test]
    fn pipes_get_data_only() {
        assert_eq!(style(&args(&[]), true), Style::Turn);
        assert_eq!(style(&args(&[]), false), Style::Reply { on_terminal: false });
        assert_eq!(style(&args(&["--no-stream"]), true), Style::Reply { on_terminal: true });
        assert_eq!(style(&args(&["--json"]), true), Style::Json);
        assert_eq!(style(&args(&["--json", "--no-stream"]), false), Style::Silent);
    }

    #[tokio::test]
    async fn other_turns_are_not_shown_and_do_not_end_it() {
        let api = Api::new(Reach { url: "http://127.0.0.1:9".into(), token: None }).unwrap();
        let mut turn = Turn {
            api: api.clone(),
            follow: Follow::new(api, "demo", Call::get("/"), None),
            renderer: Renderer::new(Vec::new(), Style::Turn),
            spinner: Spinner::new(""),
            id: Some("01JD0000000000000000000001".into()),
        };
        let mut tell = |id: &str, rest: &str| {
            let json = format!(r#"{{"turn_id":"01JD000000000000000000000{id}",{rest}}}"#);
            turn.event(&serde_json::from_str(&json).unwrap(), &json).unwrap()
        };
        assert!(tell("2", r#""type":"message-delta","text":"other""#).is_none());
        assert!(tell("2", r#""type":"turn-complete","duration_ms":1"#).is_none());
        let retried = r#""type":"turn-failed","reason":"worker_lost","attempts":1,"final":false"#;
        assert!(tell("1", retried).is_none());
        let last = tell("1", r#""type":"turn-failed","reason":"error","attempts":2,"final":true"#);
        assert!(matches!(last, Some(End::Failed(FailReason::Error))));
        assert!(matches!(tell("1", r#""type":"turn-complete","duration_ms":1"#), Some(End::Complete)));
    }
}
