//! What ends with its generation, and what a generation may say.

use contract::{Generation, StopReason, Tell, TurnId};
use ledger::{Config, DrainReason, Exit, Ledger, Taken};
use serde_json::{Value, json};

use super::client::error;
use crate::worker_port::testing::{Client, World, claims, in_an_hour, uid};

fn delta(turn: &TurnId, seq: u64, text: &str) -> Value {
    json!({"type": "message-delta", "turn_id": turn, "seq": seq, "text": text})
}

fn done(turn: &TurnId, seq: u64) -> Value {
    json!({"type": "done", "turn_id": turn, "seq": seq, "ok": true, "reply": "r", "usage": {}})
}

fn stopped() -> Exit {
    Exit { reason: StopReason::Stopped, exit_code: None, detail: None }
}

/// The ledger as another process has it, which tells this gateway nothing.
async fn elsewhere(world: &World) -> Ledger {
    Ledger::connect(Config::new(world.redis_url(), "01JZ3Y7QK8W9V6X5T4S3R2Q1P9")).await.unwrap()
}

async fn shown(world: &World, generation: Generation, nonce: &str) -> Client {
    let mut client = world.connect(generation).await;
    client.call(&["AUTH", "rekindle", nonce]).await;
    client
}

#[tokio::test]
async fn a_model_connection_ends_when_no_turn_needs_it_and_all_end_with_the_generation() {
    let world = World::new().await;
    let (start, turn) = world.submit_cold("one").await;
    let (mut reader, _nonce) = world.claim(start.generation).await;
    reader.read(1000).await.unwrap();
    let token = claims(&uid("demo"), start.generation, in_an_hour());
    let mut model = world.connect_as("http", &token).await;
    // Half a request, so that it is open and says nothing more.
    model.send_raw(b"GET /broker/anthropic/v1/models HTTP/1.1\r\n").await;
    let other = elsewhere(&world).await;
    assert!(other.begin_drain(&uid("demo"), start.generation, DrainReason::Stopped, None).await.unwrap());
    let mut during = world.connect_as("http", &token).await;
    during.send_raw(b"GET /broker/nobody/v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(during.all().await.starts_with("HTTP/1.1 "), "the turn that it has may still ask the model");

    reader.added(&delta(&turn, 1, "x")).await;
    reader.added(&done(&turn, 2)).await;
    assert!(model.ends().await, "no turn needs it any more");
    assert!(world.connect_as("http", &token).await.ends().await, "nor any new one");
    reader.call(&["PING"]).await;
    assert!(other.exited(&uid("demo"), start.generation, stopped()).await.unwrap());
    assert!(reader.ends().await);
    assert!(world.connect_as("redis", &token).await.ends().await, "the token opens nothing more");
}

#[tokio::test]
async fn every_command_of_a_generation_that_is_over_changes_nothing() {
    for late in ["emit", "settle", "read", "claim"] {
        let world = World::new().await;
        let (start, turn) = world.submit_cold("one").await;
        let (mut reader, nonce) = world.claim(start.generation).await;
        reader.read(1000).await.unwrap();
        let mut client = shown(&world, start.generation, &nonce).await;
        reader.added(&delta(&turn, 1, "x")).await;
        let other = elsewhere(&world).await;
        other.begin_drain(&uid("demo"), start.generation, DrainReason::Failed, None).await.unwrap();
        other.exited(&uid("demo"), start.generation, stopped()).await.unwrap();
        let before = world.ledger.unit(&uid("demo")).await.unwrap();

        let (out, inbox) = (uid("demo").out_stream(), uid("demo").in_stream());
        let (event, last) = (delta(&turn, 2, "late").to_string(), done(&turn, 3).to_string());
        let words: &[&str] = match late {
            "emit" => &["XADD", &out, "*", "event", &event],
            "settle" => &["XADD", &out, "*", "event", &last],
            "read" => &["XREADGROUP", "GROUP", "g", "c", "STREAMS", &inbox, ">"],
            _ => &["CLIENT", "CLAIM", "1"],
        };
        // On a slow machine it is closed before it can say so: that is what the end of a generation means.
        if let Some(told) = client.try_call(words).await {
            let told = error(told);
            assert!(told.starts_with("FENCED"), "{late}: {told}");
        }
        assert_eq!(world.ledger.unit(&uid("demo")).await.unwrap(), before, "{late}");
        let record = world.ledger.turn(&turn).await.unwrap().unwrap();
        assert!(record.result.is_none(), "{late}: {record:?}");
    }
}

#[tokio::test]
async fn who_floods_is_slowed_then_ended_and_the_turn_says_why() {
    let limits =
        settings::Limits { worker_commands_per_sec: 500, slowed_commands_per_turn: 50, ..settings::Limits::default() };
    let world = World::with(limits).await;
    let (start, turn) = world.submit_cold("one").await;
    let (mut reader, _nonce) = world.claim(start.generation).await;
    reader.read(1000).await.unwrap();
    let mut written = 0;
    let told = loop {
        match reader.add(&delta(&turn, written + 1, "x")).await {
            redis_protocol::resp2::types::BytesFrame::BulkString(_) => written += 1,
            other => break error(other),
        }
    };
    assert!(told.starts_with("FLOODED"), "{told}");
    assert!(written >= 2000, "a burst of four seconds is free: {written}");
    assert!(reader.ends().await);
    // To connect anew does not begin anew.
    let (ledger, uid) = (&world.ledger, uid("demo"));
    assert!(ledger.exited(&uid, start.generation, stopped()).await.unwrap());
    let job = ledger.pick_starts(std::time::Duration::from_secs(5), 1).await.unwrap().pop().expect("another start");
    let (mut next, _) = world.claim(job.generation).await;
    match next.read(1000).await {
        Some(given) => assert_eq!(given["tell"], serde_json::to_value(Tell::Flooded).unwrap()),
        None => panic!("nobody asks what came of it: {:?}", Taken::Nothing),
    }
}

#[tokio::test]
async fn half_commands_take_from_what_their_generation_has() {
    let world = World::new().await;
    let (start, _) = world.submit_cold("one").await;
    let announced = settings::Limits::default().event_bytes;
    let half = |length: usize| {
        let mut bytes =
            format!("*5\r\n$4\r\nXADD\r\n$1\r\nx\r\n$1\r\n*\r\n$5\r\nevent\r\n${announced}\r\n").into_bytes();
        bytes.extend(vec![b'x'; length]);
        bytes
    };
    // Each would keep half a MiB; together they may keep four.
    let mut clients = Vec::new();
    for _ in 0..24 {
        let mut client = world.connect(start.generation).await;
        client.call(&["PING"]).await;
        clients.push(client);
    }
    let bytes = half(announced - 1);
    let sends = clients.iter_mut().map(|client| client.send_raw(&bytes));
    let all = tokio::time::timeout(std::time::Duration::from_secs(2), futures_util::future::join_all(sends)).await;
    assert!(all.is_err(), "the gateway does not read them all");
    // Another generation is not held up by that.
    let mut other = world.connect(start.generation).await;
    other.call(&["PING"]).await;
}
