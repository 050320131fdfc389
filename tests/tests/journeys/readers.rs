//! Readers of events: late ones, ones that come back, several at once; each sees every event exactly once.

use std::time::Duration;

use serde_json::json;
use tests::sse::Event;
use tests::stack::{Backend, Options, Stack};

use crate::support::{MINUTE, exec_profile, find};

const LIMIT: Duration = Duration::from_secs(20);

/// Prints its numbered lines one by one, each when the file with its number exists.
const STEPS: &str = "for i in 1 2 3 4 5 6; do until [ -e go$i ]; do sleep 0.02; done; echo line $i; done; rm -f go*";

fn ids(events: &[Event]) -> Vec<&str> {
    events.iter().map(|e| e.id.as_str()).filter(|id| !id.is_empty()).collect()
}

#[tokio::test]
async fn late_and_returning_readers_see_every_event_once() {
    let stack = Stack::start(Options::new(Backend::Process).settings(&exec_profile(STEPS, ""))).await;
    let api = stack.api("ann");
    let mut caller = api.invoke_streaming("demo", &json!({"prompt": "go"})).await;
    let mut seen = caller.until("turn-accepted", MINUTE).await;
    let uid = crate::support::uid(&api, "demo").await;
    let go = |n: u32| std::fs::write(stack.workspace(&uid).join(format!("go{n}")), "").unwrap();

    // One that is there from the beginning, and one that goes away and comes back where it was.
    let mut returning = api.events("demo", Some("0")).await;
    go(1);
    go(2);
    let mut parts = returning.until("message-delta", LIMIT).await;
    drop(returning);
    go(3);
    let last = parts.last().unwrap().id.clone();
    let mut returned = api.events("demo", Some(&last)).await;
    go(4);
    go(5);
    go(6);
    parts.extend(returned.until("turn-complete", LIMIT).await);
    seen.extend(caller.until("turn-complete", LIMIT).await);
    // One that comes when all is over.
    let late = api.events("demo", Some("0")).await.until("turn-complete", LIMIT).await;

    let all = ids(&late);
    let mut unique = all.clone();
    unique.dedup();
    assert_eq!(all, unique);
    assert_eq!(ids(&parts), all);
    let of_turn = ids(&seen);
    assert_eq!(of_turn, all[all.len() - of_turn.len()..], "the caller saw the same, from its own turn on");
    let text: String =
        late.iter().filter(|e| e.kind() == "message-delta").filter_map(|e| e.data["text"].as_str()).collect();
    assert_eq!(text, "line 1\nline 2\nline 3\nline 4\nline 5\nline 6\n");
    let numbers: Vec<u64> = late.iter().filter_map(|e| e.data["seq"].as_u64()).collect();
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>(), "numbered without a hole");
    assert_eq!(find(&late, "done").data["ok"], true);
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_stop_its_turn() {
    let stack = Stack::start(Options::new(Backend::Process).settings(&exec_profile(STEPS, ""))).await;
    let api = stack.api("ann");
    let mut caller = api.invoke_streaming("demo", &json!({"prompt": "go"})).await;
    let accepted = caller.until("turn-accepted", MINUTE).await;
    let turn = find(&accepted, "turn-accepted").data["turn_id"].as_str().unwrap().to_owned();
    drop(caller);
    let uid = crate::support::uid(&api, "demo").await;
    for n in 1..=6 {
        std::fs::write(stack.workspace(&uid).join(format!("go{n}")), "").unwrap();
    }
    api.events("demo", Some("0")).await.until("turn-complete", MINUTE).await;
    let turn = api.get(&format!("/v1/turns/{turn}")).await.expect(200).json();
    assert_eq!(turn["status"], "completed", "{turn:#}");
}

#[tokio::test]
async fn an_accepted_turn_can_be_asked_for_and_is_not_run_twice() {
    let stack = Stack::start(Options::new(Backend::Process)).await;
    let api = stack.api("ann");
    let headers = [("prefer", "respond-async"), ("idempotency-key", "k-1")];
    let body = json!({"prompt": "hello"});
    let first = api.post_with("/v1/units/demo/invoke", &headers, &body).await.expect(202);
    let location = first.header("location").to_owned();
    let second = api.post_with("/v1/units/demo/invoke", &headers, &body).await.expect(202);
    assert_eq!(second.header("location"), location);
    let other = api.post_with("/v1/units/demo/invoke", &headers, &json!({"prompt": "other"})).await.expect(422);
    assert_eq!(other.json()["type"], "urn:rekindle:error:idempotency-mismatch");
    let waited = api.post_with("/v1/units/demo/invoke", &[("idempotency-key", "k-1")], &body).await.expect(200);
    assert_eq!(waited.json()["reply"], "hello");
    let turn = api.get(&location).await.expect(200).json();
    assert_eq!((&turn["status"], &turn["reply"]), (&json!("completed"), &json!("hello")), "{turn:#}");
    let turns = api.get("/v1/units/demo/turns").await.expect(200).json();
    assert_eq!(turns["turns"].as_array().unwrap().len(), 1, "{turns:#}");
}
