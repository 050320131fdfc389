//! Control-plane processes that die in the middle of a turn take nothing with them.

use serde_json::json;
use tests::model::{Block, Gate, Model, Reply};
use tests::sse::Event;
use tests::stack::{Backend, Options, Stack};

use crate::support::{MINUTE, exec_profile, find};

/// Prints lines without pause, so that some are under way whenever something dies; ends when told.
const CHATTER: &str =
    "i=0; until [ -e enough ]; do i=$((i+1)); echo line $i; sleep 0.01; done; echo line end; rm enough";

fn lines(events: &[Event]) -> Vec<String> {
    let text: String =
        events.iter().filter(|e| e.kind() == "message-delta").filter_map(|e| e.data["text"].as_str()).collect();
    text.lines().map(str::to_owned).collect()
}

async fn exec_survives(backend: Backend, kill: fn(&mut Stack)) {
    let mut stack = Stack::start(Options::new(backend).settings(&exec_profile(CHATTER, ""))).await;
    let api = stack.api("ann");
    let answer = api.post_with("/v1/units/demo/invoke", &[("prefer", "respond-async")], &json!({"prompt": "go"})).await;
    answer.expect(202);
    api.events("demo", Some("0")).await.until("message-delta", MINUTE).await;
    let uid = crate::support::uid(&api, "demo").await;
    let shown = api.events("demo", Some("0")).await.until("message-delta", MINUTE).await.len();

    kill(&mut stack);
    stack.ready().await;
    // The turn goes on: more comes than was there before, and only then it is told to end.
    let mut events = api.events("demo", Some("0")).await;
    let mut more = Vec::new();
    while more.len() < shown + 40 {
        more.push(tokio::time::timeout(MINUTE, events.next()).await.expect("it goes on").expect("an open stream"));
    }
    std::fs::write(stack.workspace(&uid).join("enough"), "").unwrap();
    more.extend(events.until_any(&["turn-complete", "turn-failed"], MINUTE).await);

    assert_eq!(more.last().unwrap().kind(), "turn-complete", "{:#?}", more.last());
    let said = lines(&more);
    let expected: Vec<String> = (1..said.len()).map(|i| format!("line {i}")).chain(["line end".to_owned()]).collect();
    assert_eq!(said, expected, "every line once and in order");
    assert_eq!(more.iter().filter(|e| e.kind() == "turn-accepted").count(), 1);
    let generations: std::collections::BTreeSet<_> =
        more.iter().filter_map(|e| e.data["generation"].as_u64()).collect();
    assert_eq!(generations.len(), 1, "the worker was adopted, not started again");
}

fn kill_gateway(stack: &mut Stack) {
    stack.gateway.kill();
    stack.gateway.start();
}

fn kill_runtime(stack: &mut Stack) {
    stack.runtime.kill();
    stack.runtime.start();
}

#[tokio::test]
async fn killing_the_gateway_loses_and_doubles_no_event_as_a_process() {
    exec_survives(Backend::Process, kill_gateway).await;
}

#[tokio::test]
async fn killing_the_gateway_loses_and_doubles_no_event_on_docker() {
    exec_survives(Backend::Docker, kill_gateway).await;
}

#[tokio::test]
async fn killing_the_runtime_loses_and_doubles_no_event_as_a_process() {
    exec_survives(Backend::Process, kill_runtime).await;
}

#[tokio::test]
async fn killing_the_runtime_loses_and_doubles_no_event_on_docker() {
    exec_survives(Backend::Docker, kill_runtime).await;
}

/// A model call is under way when the process dies; the CLI asks again and the turn ends well.
async fn claude_survives(kill: fn(&mut Stack)) {
    let gate = Gate::default();
    let held = gate.clone();
    let model = Model::start(|_| Reply::error(400, "no script yet")).await;
    model.follow(move |_| Reply::Message(vec![Block::Text("Half".into()), Block::Hold(held.clone())]));
    let options = Options::new(Backend::Docker).model(model.base_url()).settings(&tests::claude::profile());
    let mut stack = Stack::start(options).await;
    let api = stack.api("ann");
    api.post_with("/v1/units/demo/invoke", &[("prefer", "respond-async")], &json!({"prompt": "go"})).await.expect(202);
    model.wait_for(1, MINUTE).await;
    model.follow(|_| Reply::text("All of it."));
    kill(&mut stack);
    stack.ready().await;
    let events = api.events("demo", Some("0")).await.until_any(&["turn-complete", "turn-failed"], MINUTE).await;
    assert_eq!(events.last().unwrap().kind(), "turn-complete", "{events:#?}");
    assert_eq!(find(&events, "done").data["reply"], "All of it.");
    assert!(model.requests().len() >= 2, "the CLI asked again");
    gate.notify_waiters();
}

#[tokio::test]
async fn a_claude_turn_survives_the_death_of_the_gateway() {
    claude_survives(kill_gateway).await;
}

#[tokio::test]
async fn a_claude_turn_survives_the_death_of_the_runtime() {
    claude_survives(kill_runtime).await;
}
