//! A disk without room: what is accepted waits, says why, and goes on.

use serde_json::json;
use tests::api::Api;
use tests::eventually;
use tests::stack::{Backend, Options, Stack};

use crate::support::{MINUTE, find};

#[tokio::test]
async fn a_turn_waits_for_room_on_the_disk_and_says_so() {
    // Less time than it will wait: that is not counted against the start.
    let options = Options::new(Backend::Process).settings(
        "[profiles.default]\nimage = \"rekindle/test-base:latest\"\nrunner = \"echo\"\nstart_timeout_sec = 1\nmax_starts = 1\n",
    );
    let mut stack = Stack::prepare(&options).await;
    stack.runtime.set_env("REKINDLE_RUNTIME__MIN_FREE_MB", "1000000000000");
    stack.launch().await;
    let api = stack.api("ann");
    let room = stack.runtime_call("GET", "/health").await.unwrap().expect(200).json()["room"].clone();
    assert!(room["free_mb"].as_u64().unwrap() < room["floor_mb"].as_u64().unwrap(), "{room}");
    let answer =
        api.post_with("/v1/units/demo/invoke", &[("prefer", "respond-async")], &json!({"prompt": "hello"})).await;
    answer.expect(202);
    let mut events = api.events("demo", Some("0")).await;
    let queued = events.until("queued", MINUTE).await;
    assert_eq!(find(&queued, "queued").data["reason"], "disk");
    // A generation's number is the time of its start: the same one waits for longer than a start may take.
    let first = generation(&api).await;
    eventually("it has waited for longer than a start may take", MINUTE, || async {
        (jiff::Timestamp::now().as_millisecond() > first + 3_000).then_some(())
    })
    .await;
    assert_eq!(generation(&api).await, first);
    assert_eq!(stack.workloads().await, Vec::<serde_json::Value>::new());
    stack.runtime.kill();
    stack.runtime.set_env("REKINDLE_RUNTIME__MIN_FREE_MB", "1");
    stack.runtime.start();
    let rest = events.until_any(&["turn-complete", "turn-failed"], MINUTE).await;
    assert_eq!(rest.last().unwrap().kind(), "turn-complete", "{rest:#?}");
    assert!(rest.iter().all(|e| e.kind() != "worker-exit"), "{rest:#?}");
}

async fn generation(api: &Api) -> i64 {
    let unit = api.get("/v1/units/demo").await.expect(200).json();
    unit["generation"].as_i64().unwrap_or_else(|| panic!("no generation in {unit:#}"))
}
