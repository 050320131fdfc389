//! The tour of the README, on each backend: call, see the work and the commit, stop, call again, and the agent remembers.

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use tests::git::{git, subjects, trailer};
use tests::model::{Model, Reply, Request};
use tests::sse::{Event, kinds};
use tests::stack::{Backend, Options, Stack};

use crate::support::{MINUTE, find, gone, uid};

/// Writes `notes.md` when asked to, and says what it was asked first when asked that.
pub(crate) fn notes(request: &Request) -> Reply {
    match request.tool_results().as_slice() {
        [] if request.prompt().contains("write notes.md") => {
            Reply::write("/workspace/notes.md", "# Reaping\n\nIdle workers are reaped.\n")
        }
        [] => Reply::text(format!("You asked me: {}", request.said("user")[0])),
        [result] if result.is_error => Reply::text(format!("It failed: {}", result.text)),
        _ => Reply::text("I wrote notes.md."),
    }
}

const FIRST_TURN: &[&str] =
    &["worker-ready", "turn-accepted", "tool-call", "tool-result", "message-delta", "commit", "done", "turn-complete"];

async fn tour(backend: Backend) {
    let model = Model::start(notes).await;
    let stack = Stack::start(Options::new(backend).model(model.base_url()).settings(&tests::claude::profile())).await;
    let api = stack.api("ann@example.com");

    let mut stream = api.invoke_streaming("demo", &json!({"prompt": "write notes.md about reaping"})).await;
    let events = stream.until("turn-complete", MINUTE).await;
    let seen: Vec<_> = kinds(&events).into_iter().filter(|k| *k != "queued").collect();
    assert_eq!(seen, FIRST_TURN, "{events:#?}");
    assert!(stream.next().await.is_none(), "the stream of an invoke ends with its turn");

    let uid = uid(&api, "demo").await;
    let workspace = stack.workspace(&uid);
    committed(&workspace, &events);
    let record: serde_json::Value =
        serde_json::from_slice(&std::fs::read(stack.state(&uid).join("record.json")).unwrap()).unwrap();
    assert_eq!(record["turn"], find(&events, "turn-accepted").data["turn_id"], "{record:#}");

    api.post("/v1/units/demo/stop", &json!({})).await;
    gone(&stack, &api, "demo").await;

    let answer = api.invoke("demo", "what did you just write?").await.expect(200);
    assert_eq!(answer.header("rekindle-start"), "cold");
    assert!(answer.header("server-timing").contains("turn;dur="), "{}", answer.header("server-timing"));
    assert_eq!(answer.json()["reply"], "You asked me: write notes.md about reaping");
    // The second turn provably carried the first one's history: the CLI sent it, tool call and all.
    let carried = model.requests().pop().unwrap();
    assert_eq!(carried.called(), ["Write"]);
    assert_eq!(carried.said("assistant"), ["I wrote notes.md."]);
    assert_eq!(carried.header("x-api-key"), stack.secrets().model);
    // It changed nothing, so there is nothing to commit.
    assert_eq!(subjects(&workspace).len(), 2);
    // Nothing of the session is in the repository.
    assert_eq!(git(&workspace, &["ls-tree", "-r", "--name-only", "HEAD"]), "notes.md");
    assert_eq!(git(&workspace, &["status", "--porcelain", "--ignored"]), "");

    let warm = api.invoke("demo", "and again?").await.expect(200);
    assert_eq!(warm.header("rekindle-start"), "warm");
}

#[track_caller]
fn committed(workspace: &Path, events: &[Event]) {
    let accepted = find(events, "turn-accepted");
    let commit = find(events, "commit");
    assert_eq!(commit.data["sha"], git(workspace, &["rev-parse", "HEAD"]));
    assert_eq!((&commit.data["files"], &commit.data["insertions"]), (&json!(1), &json!(3)));
    assert_eq!(subjects(workspace).len(), 2, "a first commit and one for the turn");
    assert_eq!(git(workspace, &["log", "-1", "--format=%an <%ae>|%cn"]), "ann@example.com <ann@example.com>|Rekindle");
    assert_eq!(trailer(workspace, "Turn"), accepted.data["turn_id"].as_str().unwrap());
    assert_eq!(trailer(workspace, "Generation"), accepted.data["generation"].to_string());
    assert_eq!(trailer(workspace, "Trigger"), "message");
    assert!(!trailer(workspace, "Unit").is_empty());
    git(workspace, &["fsck", "--strict"]);
}

#[tokio::test]
async fn a_unit_works_commits_and_remembers_as_a_process() {
    tour(Backend::Process).await;
}

#[tokio::test]
async fn a_unit_works_commits_and_remembers_on_docker() {
    tour(Backend::Docker).await;
}

/// Left alone, the worker goes by itself, and the next call is a cold start.
async fn idle(backend: Backend) {
    let profile =
        "[profiles.default]\nimage = \"rekindle/test-base:latest\"\nrunner = \"echo\"\nidle_timeout_sec = 1\n";
    let stack = Stack::start(Options::new(backend).settings(profile)).await;
    let api = stack.api("ann");
    assert_eq!(api.invoke("demo", "hello").await.expect(200).json()["reply"], "hello");
    gone(&stack, &api, "demo").await;
    let mut events = api.events("demo", Some("0")).await;
    let exit = events.until("worker-exit", Duration::from_secs(5)).await;
    assert_eq!(find(&exit, "worker-exit").data["reason"], "idle_timeout");
    assert_eq!(api.invoke("demo", "again").await.expect(200).header("rekindle-start"), "cold");
}

#[tokio::test]
async fn an_idle_unit_is_reaped_as_a_process() {
    idle(Backend::Process).await;
}

#[tokio::test]
async fn an_idle_unit_is_reaped_on_docker() {
    idle(Backend::Docker).await;
}
