//! The worker ends at each step of a turn in turn, under the real control plane: with attempts left, at the last one, and with
//! a cancel that arrives between. The turn is settled once, as the record says.

use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use serde_json::json;
use tests::api::Api;
use tests::eventually;
use tests::git::git;
use tests::sse::Event;
use tests::stack::{Backend, Options, Stack};

use crate::support::{MINUTE, find, uid};

/// As `workspace::STEPS`, which the worker's own tests go through one by one.
const STEPS: [&str; 18] = [
    "delivered",
    "accepted",
    "opened",
    "begun",
    "agent",
    "agent-ended",
    "quiet",
    "objects-written",
    "prepared-one",
    "prepared",
    "record-written",
    "record-renamed",
    "recorded",
    "branch-moved",
    "moved",
    "moves-made",
    "commits-told",
    "done",
];
/// Units that are at it at the same time.
const AT_ONCE: usize = 6;

const PROFILES: &str = r#"
[profiles.default]
runner = "exec"
runner_command = ["/bin/sh"]
[profiles.last]
runner = "exec"
runner_command = ["/bin/sh"]
max_attempts = 1
"#;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Again,
    LastAttempt,
    Cancelled,
}

struct Case<'a> {
    stack: &'a Stack,
    api: &'a Api,
    name: String,
    kind: Kind,
    step: &'static str,
}

impl Case<'_> {
    fn workspaces(&self) -> [String; 2] {
        ["a", "b"].map(|w| format!("{}-{w}", self.name))
    }

    fn folders(&self) -> [PathBuf; 2] {
        self.workspaces().map(|id| self.stack.store().join("workspaces").join(id))
    }

    /// Accepted, and which turn it is.
    async fn submit(&self, prompt: &str) -> String {
        let profile = if self.kind == Kind::LastAttempt { "last" } else { "default" };
        let mounts = self.workspaces().map(|id| json!({"id": id, "mode": "rw"}));
        let body = json!({"prompt": prompt, "profile": profile, "workspaces": mounts});
        let path = format!("/v1/units/{}/invoke", self.name);
        let answer = self.api.post_with(&path, &[("prefer", "respond-async")], &body).await.expect(202).json();
        answer["turn_id"].as_str().unwrap_or_else(|| panic!("no turn in {answer:#}")).to_owned()
    }

    /// All events of a turn, up to its terminal one.
    async fn events(&self, turn: &str) -> Vec<Event> {
        let mut stream = self.api.events(&self.name, Some("0")).await;
        let mut seen = Vec::new();
        loop {
            let more = stream.until_any(&["turn-complete", "turn-failed"], MINUTE).await;
            seen.extend(more.into_iter().filter(|e| e.data["turn_id"] == turn));
            if seen.last().is_some_and(is_terminal) {
                return seen;
            }
        }
    }

    async fn run(self) {
        let what = format!("{} ({:?})", self.name, self.kind);
        let other = &self.workspaces()[1];
        let first = self.submit(&format!("echo 1 >kept; echo 1 >/workspaces/{other}/kept")).await;
        assert_eq!(self.events(&first).await.last().unwrap().kind(), "turn-complete", "{what}");
        let state = self.stack.state(&uid(self.api, &self.name).await);
        let tips = self.folders().map(|folder| git(&folder, &["rev-parse", "main"]));
        let how = if self.kind == Kind::Cancelled { " hold" } else { "" };
        // Only once the next turn has begun: the first one may not have passed its last step yet.
        let plan = if self.step == "delivered" || self.step == "accepted" || self.step == "opened" {
            format!("{}{how}", self.step)
        } else {
            format!("opened pass\n{}{how}", self.step)
        };
        std::fs::write(state.join("crash-at"), plan).unwrap();
        tests::git::give_to_worker(&state.join("crash-at"));

        let script = format!("echo 2 >more; echo 2 >/workspaces/{other}/more; echo answer");
        let turn = self.submit(&script).await;
        if self.kind == Kind::Cancelled {
            self.reached(&what, &state).await;
            let answer = self.api.post(&format!("/v1/turns/{turn}/cancel"), &json!({})).await;
            assert!(answer.status.is_success(), "{what}: {answer:?}");
            std::fs::write(state.join("crash-go"), "").unwrap();
        }
        let events = self.events(&turn).await;
        // The last step is behind the last event, so it may be reached a moment later.
        self.reached(&what, &state).await;
        self.check(&what, &turn, &events, &tips).await;
    }

    /// Waits until the worker was where it shall end.
    async fn reached(&self, what: &str, state: &Path) {
        let at = || std::fs::read_to_string(state.join("crash-log")).ok().filter(|at| at == self.step);
        eventually(what, MINUTE, || async { at().map(drop) }).await;
    }

    async fn check(&self, what: &str, turn: &str, events: &[Event], tips: &[String; 2]) {
        let at = |step: &str| STEPS.iter().position(|s| *s == step).unwrap();
        let happened = at(self.step) >= at("record-renamed");
        let completes = happened || self.kind == Kind::Again;
        let trailer = format!("--grep=^Turn: {turn}$");
        let status = self.api.get(&format!("/v1/turns/{turn}")).await.expect(200).json();
        let terminal = &events.last().unwrap().data;
        assert_eq!(terminal["type"], if completes { "turn-complete" } else { "turn-failed" }, "{what}: {events:#?}");
        for (folder, tip) in self.folders().iter().zip(tips) {
            let commits = git(folder, &["log", "--format=%P", &trailer, "main"]);
            let expected = if completes { tip.as_str() } else { "" };
            assert_eq!(commits, expected, "{what}: one commit on top of what was there, or none");
            assert_eq!(git(folder, &["status", "--porcelain"]), "", "{what}");
            assert_eq!(git(folder, &["for-each-ref", "refs/rekindle/pending"]), "", "{what}");
        }
        if completes {
            let done = &find(events, "done").data;
            assert_eq!((&done["reply"], &done["ok"]), (&json!("answer\n"), &json!(true)), "{what}: {done:#}");
            assert!(done["usage"].is_object(), "{what}: {done:#}");
            assert_eq!(status["reply"], "answer\n", "{what}: {status:#}");
        } else if self.kind == Kind::Cancelled {
            assert_eq!(terminal["reason"], "cancelled", "{what}: {terminal:#}");
        }
        assert_eq!(events.iter().filter(|e| is_terminal(e)).count(), 1, "{what}");
    }
}

/// A lost attempt is a `turn-failed` too, but not its turn's last word.
fn is_terminal(event: &Event) -> bool {
    event.kind() == "turn-complete" || (event.kind() == "turn-failed" && event.data["final"] != false)
}

async fn killed_at_each_step(kind: Kind) {
    let options = Options::new(Backend::Process).worker("rekindle-worker-crash").settings(PROFILES);
    let stack = Stack::start(options).await;
    let api = stack.api("ann");
    let case = |step: &'static str| Case { stack: &stack, api: &api, name: step.to_owned(), kind, step };
    let all = stream::iter(STEPS).map(|step| case(step).run()).buffer_unordered(AT_ONCE).collect::<Vec<()>>();
    tokio::time::timeout(Duration::from_secs(150), all).await.expect("all of them in time");
}

#[tokio::test]
async fn a_turn_whose_worker_dies_at_any_step_ends_well() {
    killed_at_each_step(Kind::Again).await;
}

#[tokio::test]
async fn a_turn_whose_last_worker_dies_at_any_step_ends_as_its_record_says() {
    killed_at_each_step(Kind::LastAttempt).await;
}

#[tokio::test]
async fn a_turn_that_is_cancelled_while_its_worker_dies_ends_as_its_record_says() {
    killed_at_each_step(Kind::Cancelled).await;
}
