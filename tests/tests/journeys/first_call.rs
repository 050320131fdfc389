//! The first call on any machine: the `echo` runner, on both backends, the same events in the same order.

use std::time::Duration;

use serde_json::json;
use tests::sse::{Event, kinds};
use tests::stack::{Backend, Options, Stack};

const LIMIT: Duration = Duration::from_secs(60);

async fn echo(backend: Backend) -> Vec<Event> {
    let stack = Stack::start(Options::new(backend)).await;
    let ada = stack.api("ada");
    let mut events = ada.invoke_streaming("demo", &json!({ "prompt": "hello there" })).await;
    let seen = events.until_any(&["turn-complete", "turn-failed"], LIMIT).await;
    let done = seen.iter().find(|e| e.kind() == "done").unwrap_or_else(|| panic!("no `done`: {seen:#?}"));
    assert_eq!(done.data["ok"], true, "{seen:#?}");
    assert!(done.data["reply"].as_str().unwrap().contains("hello there"), "{seen:#?}");

    // Warm: the same worker takes the next turn.
    let answer = ada.invoke("demo", "and again").await.expect(200);
    assert_eq!(answer.header("rekindle-start"), "warm", "{}", answer.text());
    assert_eq!(stack.workloads().await.len(), 1);

    // A late reader gets all of the first turn again, in the same order, exactly once.
    let mut late = ada.events("demo", Some("0")).await;
    let again = late.until("turn-complete", LIMIT).await;
    let of_turn = |e: &&Event| e.data["turn_id"] == done.data["turn_id"];
    let (first, second): (Vec<_>, Vec<_>) =
        (seen.iter().filter(of_turn).collect(), again.iter().filter(of_turn).collect());
    assert_eq!(first, second);

    ada.post("/v1/units/demo/stop", &json!({})).await;
    tests::eventually("the workload is gone", LIMIT, || async {
        stack.workloads().await.iter().all(|w| w["state"] == "destroyed").then_some(())
    })
    .await;
    let answer = ada.invoke("demo", "from the cold").await.expect(200);
    assert_eq!(answer.header("rekindle-start"), "cold", "{}", answer.text());
    seen
}

#[tokio::test]
async fn on_a_process_and_in_a_container_the_same_happens() {
    let process = echo(Backend::Process).await;
    let docker = echo(Backend::Docker).await;
    assert_eq!(kinds(&process), kinds(&docker));
    assert_eq!(process.iter().filter(|e| e.kind() == "turn-complete").count(), 1);
}

#[tokio::test]
async fn nobody_gets_in_without_a_valid_token() {
    let stack = Stack::start(Options::new(Backend::Process)).await;
    let ada = stack.api("ada");
    for token in
        [String::new(), "not.a.token".into(), tests::keys::caller_token("another secret", "ada"), expired(&stack)]
    {
        let answer = ada.with_token(token).invoke("demo", "hello").await.expect(401);
        assert!(answer.header("content-type").starts_with("application/problem+json"), "{}", answer.text());
        assert!(answer.json()["type"].is_string(), "{}", answer.text());
    }
}

fn expired(stack: &Stack) -> String {
    tests::keys::caller_token_until(&stack.secrets().jwt, "ada", jiff::Timestamp::now().as_second() - 3600)
}
