//! Our own worker: claim, nonce, turns, cancel.

use contract::TurnId;
use ledger::{Cancel, Submitted, TurnStatus};
use redis_protocol::resp2::types::BytesFrame;
use serde_json::{Value, json};

use super::client::error;
use crate::worker_port::testing::{World, uid};

fn accepted(turn: &TurnId) -> Value {
    json!({"type": "turn-accepted", "turn_id": turn, "seq": 1, "prompt": "p", "attempt": 1, "start": "cold"})
}

fn done(turn: &TurnId, seq: u64) -> Value {
    json!({"type": "done", "turn_id": turn, "seq": seq, "ok": true, "reply": "r", "usage": {}})
}

#[tokio::test]
async fn only_who_shows_the_nonce_may_use_a_claimed_generation() {
    let world = World::new().await;
    let (start, _) = world.submit_cold("one").await;
    let (_reader, nonce) = world.claim(start.generation).await;

    let mut other = world.connect(start.generation).await;
    let claimed = other.refused(&["CLIENT", "CLAIM", "1"]).await;
    assert_eq!(claimed, "NOPERM generation is claimed");
    other.send_read(10).await;
    assert!(error(other.answer().await.unwrap()).starts_with("NOAUTH"));
    let out = uid("demo").out_stream();
    for words in [
        &["XADD", &out, "*", "event", "{}"][..],
        &["XACK", &uid("demo").in_stream(), "g", "1-0"],
        &["XGROUP", "CREATE", &uid("demo").in_stream(), "g", "0"],
    ] {
        assert!(other.refused(words).await.starts_with("NOAUTH"));
    }
    let wrong = "0".repeat(64);
    for words in [
        &["AUTH", "rekindle", &wrong][..],
        &["AUTH", "default", &nonce],
        &["AUTH", ""],
        &["HELLO", "3", "AUTH", "rekindle", &wrong],
    ] {
        assert!(other.refused(words).await.starts_with("WRONGPASS"));
    }
    assert_eq!(other.call(&["AUTH", "rekindle", &nonce]).await, BytesFrame::SimpleString("OK".into()));
    let got = other.read(1000).await.unwrap();
    assert_eq!(got["prompt"], "one");
}

#[tokio::test]
async fn a_turn_is_taken_told_and_settled_and_the_next_one_comes_by_hand_over() {
    let world = World::new().await;
    let (start, first) = world.submit_cold("one").await;
    let (mut reader, nonce) = world.claim(start.generation).await;
    let got = reader.read(1000).await.unwrap();
    assert_eq!(got["type"], "message");
    assert_eq!(got["turn_id"], first.as_str());

    let mut writer = world.connect(start.generation).await;
    writer.call(&["AUTH", "rekindle", &nonce]).await;
    let id = writer.added(&accepted(&first)).await;
    assert_eq!(writer.added(&accepted(&first)).await, id, "a repeat has the id of the first");
    let other = contract::TurnId::new(1, 1);
    assert!(error(writer.add(&done(&other, 2)).await).starts_with("STALE"));

    let (second, handed_over) = world.submit_warm("two").await;
    assert!(!handed_over, "busy");
    let settled = writer.added(&done(&first, 2)).await;
    assert_ne!(settled, id);
    assert_eq!(writer.added(&done(&first, 2)).await, settled);
    let got = reader.read(1000).await.unwrap();
    assert_eq!(got["turn_id"], second.as_str());
    writer.added(&accepted(&second)).await;
    writer.added(&done(&second, 2)).await;

    reader.send_read(5000).await;
    reader.send(&["PING"]).await;
    let (third, handed_over) = world.submit_warm("three").await;
    assert!(handed_over, "the connection that read last is the link");
    let got = super::client::entry(reader.answer().await.unwrap()).unwrap();
    assert_eq!(got["turn_id"], third.as_str());
    assert_eq!(
        reader.answer().await.unwrap(),
        BytesFrame::SimpleString("PONG".into()),
        "what came behind the read is answered behind it"
    );
    let record = world.ledger.turn(&first).await.unwrap().unwrap();
    assert_eq!(record.status, TurnStatus::Completed);
    assert_eq!(record.result.unwrap()["generation"], start.generation.0);
}

#[tokio::test]
async fn an_unseen_turn_is_given_to_a_new_connection_and_not_twice_to_one() {
    let world = World::new().await;
    let (start, turn) = world.submit_cold("one").await;
    let (mut reader, nonce) = world.claim(start.generation).await;
    assert!(reader.read(1000).await.is_some());
    assert_eq!(reader.read(50).await, None, "this connection has it");

    let mut again = world.connect(start.generation).await;
    again.call(&["AUTH", "rekindle", &nonce]).await;
    let got = again.read(1000).await.unwrap();
    assert_eq!(got["turn_id"], turn.as_str());
    again.added(&accepted(&turn)).await;

    let mut late = world.connect(start.generation).await;
    late.call(&["AUTH", "rekindle", &nonce]).await;
    assert_eq!(late.read(50).await, None, "the turn was seen to run");
}

#[tokio::test]
async fn a_hand_over_that_was_lost_costs_time_and_nothing_else() {
    let world = World::new().await;
    let (start, first) = world.submit_cold("one").await;
    let (mut reader, nonce) = world.claim(start.generation).await;
    assert!(reader.read(1000).await.is_some());
    reader.added(&done(&first, 1)).await;
    assert_eq!(reader.read(1).await, None);
    reader.send_read(0).await;
    // Asks the ledger behind the read's own script: from here on that waits.
    let mut other = world.connect(start.generation).await;
    other.call(&["AUTH", "rekindle", &nonce]).await;

    let second = match world.submit("two").await {
        Submitted::Accepted { turn, deliver: Some(_lost), .. } => turn,
        other => panic!("not handed over: {other:?}"),
    };
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(15)).await;
    tokio::time::resume();
    let got = super::client::entry(reader.answer().await.unwrap()).unwrap();
    assert_eq!(got["turn_id"], second.as_str());
}

#[tokio::test]
async fn a_cancel_reaches_the_pending_read_once() {
    let world = World::new().await;
    let (start, turn) = world.submit_cold("one").await;
    let (mut reader, nonce) = world.claim(start.generation).await;
    assert!(reader.read(1000).await.is_some());
    let mut writer = world.connect(start.generation).await;
    writer.call(&["AUTH", "rekindle", &nonce]).await;
    writer.added(&accepted(&turn)).await;
    assert_eq!(reader.read(1).await, None, "it is the link now");

    let cancelled = world.ledger.cancel(&turn).await.unwrap();
    assert!(matches!(cancelled, Cancel::Flagged { .. }), "{cancelled:?}");
    // Nobody handed it over: the next event of the worker brings it.
    reader.send_read(5000).await;
    let delta = json!({"type": "message-delta", "turn_id": turn, "seq": 2, "text": "x"});
    writer.added(&delta).await;
    let got = super::client::entry(reader.answer().await.unwrap()).unwrap();
    assert_eq!(got, json!({"type": "cancel", "turn_id": turn}));
    assert_eq!(reader.read(50).await, None, "told once");

    let told = json!({"type": "done", "turn_id": turn, "seq": 3, "ok": false, "reply": "", "reason": "cancelled"});
    writer.added(&told).await;
    let record = world.ledger.turn(&turn).await.unwrap().unwrap();
    assert_eq!(record.status, TurnStatus::Failed);
    assert_eq!(record.reason, Some(contract::FailReason::Cancelled));
}
