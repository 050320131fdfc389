//! Ends: of a generation, of a connection, of Redis, of the gateway.

use std::time::Duration;

use contract::StopReason;
use ledger::{DrainReason, Exit, TurnStatus};
use redis_protocol::resp2::types::BytesFrame;
use serde_json::json;

use super::client::error;
use crate::worker_port::testing::{SOON, World, uid};

#[tokio::test]
async fn when_its_generation_is_over_a_worker_is_told_and_all_its_connections_end() {
    let world = World::new().await;
    let (start, turn) = world.submit_cold("one").await;
    let (mut reader, nonce) = world.claim(start.generation).await;
    assert!(reader.read(1000).await.is_some());
    reader.send_read(60_000).await;
    let mut writer = world.connect(start.generation).await;
    writer.call(&["AUTH", "rekindle", &nonce]).await;

    let exit = Exit { reason: StopReason::Stopped, exit_code: Some(0), detail: None };
    let generation = start.generation;
    let began = world.ledger.begin_drain(&uid("demo"), generation, DrainReason::Stopped, None).await;
    assert!(began.unwrap());
    assert!(world.ledger.exited(&uid("demo"), generation, exit).await.unwrap());

    let told = writer.add(&json!({"type": "done", "turn_id": turn, "ok": true, "reply": "late"})).await;
    assert!(error(told).starts_with("FENCED"));
    assert!(writer.ends().await);
    assert!(error(reader.answer().await.unwrap()).starts_with("FENCED"));
    assert!(reader.ends().await);
    let mut new = world.connect(generation).await;
    assert!(new.ends().await, "no new ones either");
    let record = world.ledger.turn(&turn).await.unwrap().unwrap();
    assert_eq!(record.status, TurnStatus::Queued, "the late word counted for nothing");
}

#[tokio::test]
async fn a_reader_that_goes_is_no_link_any_more() {
    let world = World::new().await;
    let (start, turn) = world.submit_cold("one").await;
    let (mut reader, nonce) = world.claim(start.generation).await;
    assert!(reader.read(1000).await.is_some());
    reader.added(&json!({"type": "done", "turn_id": turn, "ok": true, "reply": "r"})).await;
    reader.send_read(60_000).await;
    drop(reader);
    while world.links.open_connections() > 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    // The seat is given up after the link: nothing is handed to nobody.
    let (second, handed_over) = world.submit_warm("two").await;
    assert!(!handed_over);
    let mut again = world.connect(start.generation).await;
    again.call(&["AUTH", "rekindle", &nonce]).await;
    let got = again.read(1000).await.unwrap();
    assert_eq!(got["turn_id"], second.as_str());
}

#[tokio::test]
async fn while_redis_is_gone_a_worker_is_told_to_try_again() {
    let mut world = World::new().await;
    let (start, turn) = world.submit_cold("one").await;
    let (mut reader, _) = world.claim(start.generation).await;
    assert!(reader.read(1000).await.is_some());
    drop(world.redis.take());
    let event = json!({"type": "done", "turn_id": turn, "seq": 1, "ok": true, "reply": "r"});
    assert!(error(reader.add(&event).await).starts_with("TRYAGAIN"));
    assert_eq!(reader.call(&["PING"]).await, BytesFrame::SimpleString("PONG".into()));
    world.restart_redis().await;
    let told = async {
        loop {
            match reader.add(&event).await {
                BytesFrame::Error(text) => assert!(text.starts_with("TRYAGAIN"), "{text}"),
                BytesFrame::BulkString(_) => return,
                other => panic!("{other:?}"),
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(SOON, told).await.expect("it is told");
    let record = world.ledger.turn(&turn).await.unwrap().unwrap();
    assert_eq!(record.status, TurnStatus::Completed);
}

#[tokio::test]
async fn a_gateway_that_ends_closes_its_connections_and_returns() {
    let world = World::new().await;
    let (start, _) = world.submit_cold("one").await;
    let (mut reader, _) = world.claim(start.generation).await;
    assert!(reader.read(1000).await.is_some());
    reader.send_read(60_000).await;
    world.cancel.cancel();
    assert!(reader.ends().await);
    tokio::time::timeout(SOON, world.serving).await.expect("serve returns").unwrap();
    assert_eq!(world.links.open_connections(), 0);
}
