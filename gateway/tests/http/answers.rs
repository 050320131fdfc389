//! The answers to a turn that runs: its result, its events, or where to look.

use axum::body::Body;
use http_body_util::BodyExt;
use serde_json::{Value, json};

use crate::world::{Answer, post, request, world};

const INVOKE: &str = "/v1/units/demo/invoke";

fn invoke(headers: &[(&'static str, &str)]) -> http::Request<Body> {
    let mut request = post(INVOKE, "ann", &json!({"prompt": "hi"}));
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    request
}

/// The frames of an event stream: (id, event, data).
fn frames(text: &str) -> Vec<(String, String, Value)> {
    let field = |frame: &str, name: &str| {
        let line = frame.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ").map(str::to_owned));
        line.unwrap_or_default()
    };
    text.split("\n\n")
        .filter(|frame| frame.lines().any(|l| l.starts_with("data: ")))
        .map(|f| (field(f, "id"), field(f, "event"), serde_json::from_str(&field(f, "data")).unwrap()))
        .collect()
}

fn kinds(text: &str) -> Vec<String> {
    frames(text).into_iter().map(|(_, kind, _)| kind).collect()
}

#[tokio::test]
async fn a_turn_is_answered_with_its_result() {
    let mut world = world().await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let waiting = tokio::spawn({
        let router = gateway::http::router(world.app.clone());
        let request = invoke(&[("traceparent", trace)]);
        async move { crate::world::read(tower::ServiceExt::oneshot(router, request).await.unwrap()).await }
    });
    let worker = world.worker().await;
    let turn = worker.take().await;
    assert_eq!((turn.prompt.as_str(), turn.thread.as_str()), ("hi", "demo"));
    assert!(turn.traceparent.as_deref().unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    worker
        .emit(
            &turn.turn_id,
            2,
            "commit",
            json!({"workspace": worker.uid, "sha": "c0", "files": 1, "insertions": 1, "deletions": 0}),
        )
        .await;
    worker.settle(&turn.turn_id, 3, true, "it is done").await;
    let answer: Answer = waiting.await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.headers["rekindle-start"], "cold");
    let timing = answer.headers["server-timing"].to_str().unwrap();
    assert!(
        timing.starts_with("queue;dur=") && timing.contains(", start;dur=") && timing.contains(", turn;dur="),
        "{timing}"
    );
    assert!(answer.headers["traceparent"].to_str().unwrap().contains("0af7651916cd43dd8448eb211c80319c"));
    let result = answer.json();
    assert_eq!(result["turn_id"], turn.turn_id.as_str());
    assert_eq!(
        (&result["unit"], &result["status"], &result["reply"]),
        (&json!("demo"), &json!("completed"), &json!("it is done"))
    );
    assert_eq!((&result["session_id"], &result["usage"]["input_tokens"]), (&json!("s-1"), &json!(3)));
    assert_eq!(result["commits"][0]["sha"], "c0");

    // The turn's own resource says the same, and the replay has everything once.
    let turn_url = format!("/v1/turns/{}", turn.turn_id);
    let shown = world.get(&turn_url, "ann").await.json();
    assert_eq!((&shown["status"], &shown["reply"]), (&json!("completed"), &json!("it is done")));
}

#[tokio::test]
async fn a_failed_turn_is_the_functions_fault_and_has_its_timing() {
    let mut world = world().await;
    let waiting = tokio::spawn({
        let router = gateway::http::router(world.app.clone());
        async move { crate::world::read(tower::ServiceExt::oneshot(router, invoke(&[])).await.unwrap()).await }
    });
    let worker = world.worker().await;
    let turn = worker.take().await;
    worker.settle(&turn.turn_id, 2, false, "I could not").await;
    let answer = waiting.await.unwrap();
    let problem = answer.problem(502, "turn-failed");
    assert_eq!((&problem["source"], &problem["reason"]), (&json!("function"), &json!("error")));
    assert_eq!((&problem["reply"], &problem["turn_id"]), (&json!("I could not"), &json!(turn.turn_id)));
    assert!(answer.headers.contains_key("server-timing"));
}

#[tokio::test]
async fn events_come_as_they_happen_and_end_with_the_turn() {
    let mut world = world().await;
    let response = world.open(invoke(&[("accept", "text/event-stream")])).await;
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    assert_eq!(response.headers()["rekindle-start"], "cold");
    let worker = world.worker().await;
    let turn = worker.take().await;
    worker.emit(&turn.turn_id, 2, "message-delta", json!({"text": "line\r\nbreaks"})).await;
    worker.settle(&turn.turn_id, 3, true, "ok").await;
    let answer = crate::world::read(response).await;
    assert_eq!(kinds(&answer.text), ["worker-ready", "turn-accepted", "message-delta", "done", "turn-complete"]);
    assert_eq!(frames(&answer.text)[2].2["text"], "line\r\nbreaks");
    assert!(answer.text.contains("\n: server-timing queue;dur="), "{}", answer.text);

    // Somebody who comes later sees the same; who comes back sees the rest.
    let ids: Vec<_> = frames(&answer.text).into_iter().map(|(id, ..)| id).collect();
    let all = first_events(&world, "/v1/units/demo/events", None, 5).await;
    assert_eq!(all.iter().map(|(id, ..)| id.clone()).collect::<Vec<_>>(), ids);
    let rest = first_events(&world, "/v1/units/demo/events?from=0-1", Some(&ids[2]), 2).await;
    assert_eq!(rest.iter().map(|(id, ..)| id.clone()).collect::<Vec<_>>(), ids[3..]);
}

/// Reads an endless stream until it has brought this many events.
async fn first_events(
    world: &crate::world::World,
    path: &str,
    last: Option<&str>,
    count: usize,
) -> Vec<(String, String, Value)> {
    let request = last.into_iter().fold(request("GET", path, "ann"), |r, id| r.header("last-event-id", id));
    of_body(world.open(request.body(Body::empty()).unwrap()).await.into_body(), count).await
}

async fn of_body(mut body: Body, count: usize) -> Vec<(String, String, Value)> {
    let (mut text, mut events) = (String::new(), 0);
    while events < count {
        let frame = tokio::time::timeout(crate::world::SOON, body.frame()).await.expect("no more events");
        let frame = frame.unwrap().unwrap().into_data().unwrap();
        let frame = std::str::from_utf8(&frame).unwrap();
        events += usize::from(frame.contains("\ndata: "));
        text.push_str(frame);
    }
    frames(&text)
}

#[tokio::test]
async fn who_does_not_wait_is_told_where_to_look() {
    let mut world = world().await;
    let accepted = world.call(invoke(&[("prefer", "respond-async")])).await;
    assert_eq!(accepted.status, 202);
    assert_eq!(accepted.headers["preference-applied"], "respond-async");
    let location = accepted.headers["location"].to_str().unwrap().to_owned();
    assert_eq!(accepted.json()["turn_url"], location);
    assert_eq!(world.get(&location, "ann").await.json()["status"], "queued");

    // Who waits a little gets 504 and the same place to look; the turn goes on.
    let late = world.call(invoke(&[("prefer", "wait=0")])).await;
    let problem = late.problem(504, "still-running");
    assert!(problem["turn_url"].as_str().unwrap().starts_with("/v1/turns/"), "{problem}");
    let either = world.call(invoke(&[("prefer", "respond-async, wait=0")])).await;
    assert_eq!(
        (either.status.as_u16(), &either.headers["preference-applied"]),
        (202, &"respond-async, wait=0".parse().unwrap())
    );

    let worker = world.worker().await;
    let turn = worker.take().await;
    worker.settle(&turn.turn_id, 2, true, "later").await;
    assert_eq!(world.get(&location, "ann").await.json()["reply"], "later");
}

#[tokio::test]
async fn a_repeated_request_gets_the_first_ones_result() {
    let mut world = world().await;
    let first = world.call(invoke(&[("prefer", "respond-async"), ("idempotency-key", "k")])).await.json();
    let worker = world.worker().await;
    let turn = worker.take().await;
    worker.settle(&turn.turn_id, 2, true, "once").await;
    let again = world.call(invoke(&[("idempotency-key", "k")])).await;
    assert_eq!(again.status, 200, "{}", again.text);
    assert_eq!((&again.json()["turn_id"], &again.json()["reply"]), (&first["turn_id"], &json!("once")));
    let events = world.call(invoke(&[("idempotency-key", "k"), ("accept", "text/event-stream")])).await;
    assert_eq!(kinds(&events.text).last().map(String::as_str), Some("turn-complete"));
}

#[tokio::test]
async fn a_caller_that_leaves_does_not_stop_its_turn() {
    let mut world = world().await;
    let response = world.open(invoke(&[("accept", "text/event-stream")])).await;
    drop(response);
    let worker = world.worker().await;
    let turn = worker.take().await;
    worker.settle(&turn.turn_id, 2, true, "anyway").await;
    let turns = world.get("/v1/units/demo/turns", "ann").await.json();
    assert_eq!((&turns["turns"][0]["reply"], &turns["next"]), (&json!("anyway"), &Value::Null));
}

#[tokio::test]
async fn turns_are_cancelled_and_listed_by_page() {
    let mut world = world().await;
    for _ in 0..3 {
        assert_eq!(world.call(invoke(&[("prefer", "respond-async")])).await.status, 202);
    }
    let page = world.get("/v1/units/demo/turns?limit=2", "ann").await.json();
    assert_eq!(page["turns"].as_array().unwrap().len(), 2);
    let next = page["next"].as_str().unwrap();
    let rest = world.get(&format!("/v1/units/demo/turns?limit=2&before={next}"), "ann").await.json();
    assert_eq!((rest["turns"].as_array().unwrap().len(), &rest["next"]), (1, &Value::Null));

    let newest = page["turns"][0]["turn_id"].as_str().unwrap();
    let cancel = |turn: &str| post(&format!("/v1/turns/{turn}/cancel"), "ann", &json!({}));
    assert_eq!(world.call(cancel(newest)).await.json()["status"], "cancelled");
    assert_eq!(world.call(cancel(newest)).await.json()["status"], "failed", "idempotent");
    let shown = world.get(&format!("/v1/turns/{newest}"), "ann").await.json();
    assert_eq!((&shown["status"], &shown["reason"]), (&json!("failed"), &json!("cancelled")));

    let worker = world.worker().await;
    let turn = worker.take().await;
    assert_eq!(world.call(cancel(turn.turn_id.as_str())).await.json()["status"], "cancelling");
    let shown = world.get(&format!("/v1/turns/{}", turn.turn_id), "ann").await.json();
    assert_eq!((&shown["status"], &shown["cancelled"]), (&json!("running"), &json!(true)));
}

#[tokio::test]
async fn figures_and_the_description_are_open() {
    let world = world().await;
    let get = |path: &str| http::Request::get(path).body(Body::empty()).unwrap();
    let document = world.call(get("/openapi.json")).await.json();
    assert_eq!(document["openapi"], "3.1.0");
    let text = world.call(get("/metrics")).await.text;
    assert!(text.contains(r#"http_requests_total{method="GET",route="/openapi.json",status="200"} 1"#), "{text}");
}

#[tokio::test]
async fn a_reader_that_is_slow_gets_everything_when_it_gets_there() {
    let mut world = world().await;
    assert_eq!(world.call(invoke(&[("prefer", "respond-async")])).await.status, 202);
    let worker = world.worker().await;
    let turn = worker.take().await;
    let request = request("GET", "/v1/units/demo/events", "ann").body(Body::empty()).unwrap();
    let slow = world.open(request).await;
    // More bytes than may wait for one reader, and than all of its owner's may have in memory.
    let (last, text) = (200, "x".repeat(64 << 10));
    for seq in 2..last {
        worker.emit(&turn.turn_id, seq, "message-delta", json!({ "text": text })).await;
    }
    worker.settle(&turn.turn_id, last, true, "ok").await;
    // worker-ready, turn-accepted, the deltas, done, turn-complete: each once.
    let seen = of_body(slow.into_body(), 2 + (last as usize - 2) + 2).await;
    let seqs: Vec<_> = seen.iter().filter_map(|(.., data)| data["seq"].as_u64()).collect();
    assert_eq!(seqs, (1..=last).collect::<Vec<_>>());
    assert_eq!(seen.last().unwrap().1, "turn-complete");
}
