//! Who is not what it says, and bytes that are no commands.

use std::time::Duration;

use contract::Generation;

use super::client::{command, error};
use crate::worker_port::CONNECTIONS_PER_GENERATION;
use crate::worker_port::testing::{World, claims, in_an_hour, uid};

#[tokio::test]
async fn without_a_good_preamble_there_is_no_answer() {
    let world = World::new().await;
    let (start, _) = world.submit_cold("one").await;
    let mint = |change: fn(&mut contract::DispatchClaims)| {
        let mut claims = claims(&uid("demo"), start.generation, in_an_hour());
        change(&mut claims);
        world.tokens.mint(&claims).unwrap()
    };
    let good = mint(|_| {});
    for preamble in [
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        format!("REKINDLE/1 redis {}\n", &good[..good.len() - 4]),
        format!("REKINDLE/1 other {good}\n"),
        format!("REKINDLE/1 redis {}\n", mint(|c| c.exp -= 7200)),
        format!("REKINDLE/1 redis {}\n", mint(|c| c.scope = "caller".into())),
        format!("REKINDLE/1 redis {}\n", mint(|c| c.aud = "other".into())),
        format!("REKINDLE/1 redis {}\n", mint(|c| c.generation.0 -= 1)),
        format!("REKINDLE/1 redis {}\n", mint(|c| c.unit = uid("other"))),
        format!("REKINDLE/1 redis {}\n", "x".repeat(5000)),
    ] {
        let mut client = world.raw(&preamble).await;
        assert!(client.ends().await, "{preamble}");
    }
    let mut client = world.raw(&format!("REKINDLE/1 redis {good}\n")).await;
    client.call(&["PING"]).await;
    assert_eq!(world.links.open_connections(), 1);
}

#[tokio::test]
async fn broken_framing_is_told_and_ends_the_connection() {
    let world = World::new().await;
    let (start, _) = world.submit_cold("one").await;
    let deep = b"*1\r\n".repeat(50_000);
    for bytes in [
        &b"PING\r\n"[..],
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"*2147483647\r\n",
        b"*-1\r\n",
        b"*1\r\n$2147483647\r\n",
        b"*1\r\n$999999999999999999999999\r\n",
        b"*1\r\n$4\r\nPINGPONG\r\n",
        b"*2\r\n$4\r\nPING\r\n*1\r\n$1\r\nx\r\n",
        b"$4\r\nPING\r\n",
        b"%1\r\n+a\r\n+b\r\n",
        &deep,
    ] {
        let mut client = world.connect(start.generation).await;
        client.send_raw(bytes).await;
        let told = error(client.answer().await.unwrap());
        assert!(told.starts_with("ERR Protocol error"), "{told}");
        assert!(client.ends().await);
    }
    // Good commands before the bad bytes are answered.
    let mut client = world.connect(start.generation).await;
    let mut bytes = command(&["PING"]);
    bytes.extend(b"!\r\n");
    client.send_raw(&bytes).await;
    assert!(client.answer().await.is_some());
    assert!(error(client.answer().await.unwrap()).contains("inline"));
    assert!(client.ends().await);
}

#[tokio::test]
async fn half_a_command_is_not_waited_for_long() {
    let world = World::new().await;
    let (start, _) = world.submit_cold("one").await;
    let mut client = world.connect(start.generation).await;
    client.call(&["PING"]).await;
    client.send_raw(b"*1\r\n$4\r\nPI").await;
    tokio::time::pause();
    let told = client.answer().await;
    tokio::time::resume();
    assert!(error(told.unwrap()).contains("did not come"));
    assert!(client.ends().await);
}

#[tokio::test]
async fn a_generation_has_only_so_many_connections() {
    let world = World::new().await;
    let (start, _) = world.submit_cold("one").await;
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS_PER_GENERATION {
        let mut client = world.connect(start.generation).await;
        client.call(&["PING"]).await;
        clients.push(client);
    }
    let mut more = world.connect(start.generation).await;
    assert!(more.ends().await);
    clients.pop();
    while world.links.open_connections() >= CONNECTIONS_PER_GENERATION {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let mut more = world.connect(start.generation).await;
    more.call(&["PING"]).await;
}

#[tokio::test]
async fn a_flood_of_refused_commands_ends_the_connection() {
    let world = World::new().await;
    let (start, _) = world.submit_cold("one").await;
    let mut client = world.connect(start.generation).await;
    client.send_raw(&command(&["FLUSHALL"]).repeat(1001)).await;
    let mut refused = 0;
    let last = loop {
        match error(client.answer().await.unwrap()) {
            told if told.starts_with("NOPERM") => refused += 1,
            other => break other,
        }
    };
    assert_eq!(refused, 1001);
    assert!(last.contains("too many"));
    assert!(client.ends().await);
}

#[tokio::test]
async fn an_event_over_the_bound_is_refused_and_the_connection_lives() {
    let world = World::new().await;
    let (start, _) = world.submit_cold("one").await;
    let mut client = world.connect(start.generation).await;
    let out = uid("demo").out_stream();
    let most = settings::Limits::default().event_bytes;
    let long = "x".repeat(most + 1);
    let told = client.refused(&["XADD", &out, "*", "event", &long]).await;
    assert!(told.contains("limits.event_bytes"), "{told}");
    client.call(&["PING"]).await;
    let longer = "x".repeat(most + (128 << 10));
    client
        .send_raw(format!("*5\r\n$4\r\nXADD\r\n$1\r\nx\r\n$1\r\n*\r\n$1\r\ne\r\n${}\r\n", longer.len()).as_bytes())
        .await;
    assert!(error(client.answer().await.unwrap()).contains("too long"));
    assert!(client.ends().await);
}

#[tokio::test]
async fn http_goes_to_the_broker() {
    let world = World::new().await;
    let (start, _) = world.submit_cold("one").await;
    let good = claims(&uid("demo"), start.generation, in_an_hour());
    let mut client = world.connect_as("http", &good).await;
    client.send_raw(b"GET /broker/anthropic/v1/models HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    let answer = client.all().await;
    assert!(answer.starts_with("HTTP/1.1 503"), "{answer}");
    assert!(answer.contains("[broker.anthropic]"), "{answer}");

    let mut idle = world.connect_as("http", &good).await;
    while world.links.open_connections() == 0 {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    world.links.close_generation(&uid("demo"), Generation(start.generation.0));
    assert_eq!(idle.all().await, "");
}
