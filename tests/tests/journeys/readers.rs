//! Readers of events: late ones, ones that come back, several at once; each sees every event exactly once.

use std::time::Duration;

use futures_util::future::join_all;
use serde_json::json;
use tests::sse::{Event, Events};
use tests::stack::{Backend, Options, Stack};
use tokio::io::AsyncWriteExt as _;

use crate::support::{MINUTE, exec_profile, find, resident_kib};

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

/// Readers that take nothing, and what the gateway may grow by for all of them.
const IDLE: usize = 40;
const GROWTH_KIB: u64 = 16 << 10;
/// Turns of a megabyte each.
const TURNS: usize = 8;

async fn turns(mut events: Events) -> Vec<Event> {
    let mut seen = Vec::new();
    for _ in 0..TURNS {
        seen.extend(events.until("turn-complete", MINUTE).await);
    }
    seen
}

#[tokio::test]
async fn forty_readers_that_take_nothing_cost_the_gateway_little() {
    let profile = exec_profile("head -c 1000000 /dev/zero | tr '\\0' 'x'", "");
    let stack = Stack::start(Options::new(Backend::Process).settings(&profile)).await;
    let api = stack.api("ann");
    for _ in 0..TURNS {
        api.invoke("demo", "say much").await.expect(200);
    }
    // What a reader costs that takes everything is paid for before.
    let all = turns(api.events("demo", Some("0")).await).await;
    let before = resident_kib(stack.gateway.pid());
    let token = tests::keys::caller_token(&stack.secrets().jwt, "ann");
    let ask =
        format!("GET /v1/units/demo/events?from=0 HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\n\r\n");
    let idle = join_all((0..IDLE).map(|_| async {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(4096).expect("a small window");
        let mut socket = socket.connect(stack.address.parse().expect("an address")).await.expect("connect");
        socket.write_all(ask.as_bytes()).await.expect("ask");
        // The answer has begun; from here on nothing of it is taken.
        socket.readable().await.expect("an answer");
        socket
    }))
    .await;
    // Another owner's turns go on meanwhile; each of them takes longer than it takes to read a page for everybody.
    let (other, mut most) = (stack.api("bob"), 0);
    for _ in 0..5 {
        let answered = other.invoke("demo", "say much").await.expect(200).json();
        assert_eq!(answered["status"], "completed");
        most = resident_kib(stack.gateway.pid()).max(most);
    }
    let grown = most.saturating_sub(before);
    println!("{IDLE} idle readers: the gateway grew by {grown} KiB");
    assert!(grown < GROWTH_KIB, "{IDLE} idle readers: the gateway grew by {grown} KiB");
    drop(idle);
    let again = turns(api.events("demo", Some("0")).await).await;
    assert_eq!(ids(&again), ids(&all));
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
