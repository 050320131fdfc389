//! The warm pool as callers see it: who has a worker, who waits for one, and events that end.

use axum::body::Body;
use serde_json::{Value, json};

use crate::world::{Answer, World, post, request, token, world, world_with};

async fn submit(world: &World, unit: &str) -> Answer {
    let mut request = post(&format!("/v1/units/{unit}/invoke"), "ann", &json!({"prompt": "hi"}));
    request.headers_mut().insert("prefer", "respond-async".parse().unwrap());
    world.call(request).await
}

#[tokio::test]
async fn the_pool_tells_who_is_busy_or_idle_and_until_when() {
    let mut world = world().await;
    submit(&world, "demo").await;
    let pool = world.get("/v1/pool", "ann").await.json();
    assert_eq!(pool["units"][0]["state"], "starting");
    let worker = world.worker().await;
    let turn = worker.take().await;
    let busy = world.get("/v1/pool", "ann").await.json();
    assert_eq!((busy["units"][0]["name"].as_str(), busy["units"][0]["state"].as_str()), (Some("demo"), Some("busy")));
    worker.settle(&turn.turn_id, 2, true, "done").await;
    let idle = world.get("/v1/pool", "ann").await.json();
    let unit = &idle["units"][0];
    assert_eq!(unit["state"], "idle");
    let time = |name: &str| unit[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let timeout = time("until").duration_since(time("idle_since")).as_secs();
    assert_eq!(timeout, 600, "the profile's idle timeout");
    assert!(time("since") <= time("idle_since"));
    submit(&world, "demo").await;
    worker.take().await;
    let pool = world.get("/v1/pool", "ann").await.json();
    assert_eq!(pool["hits"], json!({"warm": 1, "prewarmed": 0, "cold": 1}));
    assert_eq!(pool["owners"], Value::Null);

    // Somebody else's pool is empty; who administers sees how many everybody has.
    assert_eq!(world.get("/v1/pool", "bob").await.json()["units"], json!([]));
    let admin =
        http::Request::get("/v1/pool").header("authorization", format!("Bearer {}", token("op", 60, "units:admin")));
    let owners = world.call(admin.body(Body::empty()).unwrap()).await.json()["owners"].clone();
    assert_eq!(owners, json!({"ann": {"live": 1, "idle": 0}}));
}

#[tokio::test]
async fn who_waits_for_a_place_is_told_and_beyond_the_bound_sent_away() {
    let world = world_with(|settings| {
        settings.limits.live_per_owner = 1;
        settings.limits.queued_turns_per_owner = 2;
    })
    .await;
    submit(&world, "one").await;
    let waits = submit(&world, "two").await;
    assert_eq!(waits.status, 202, "{}", waits.text);
    let turn = world.get(waits.json()["turn_url"].as_str().unwrap(), "ann").await.json();
    assert_eq!((turn["status"].as_str(), turn["queued_reason"].as_str()), (Some("queued"), Some("owner cap")));
    assert_eq!(turn["queued_position"], 0);
    let refused = submit(&world, "three").await;
    assert!(refused.headers.contains_key("retry-after"));
    refused.problem(429, "too-many");
}

#[tokio::test]
async fn events_up_to_now_end() {
    let mut world = world().await;
    submit(&world, "demo").await;
    let worker = world.worker().await;
    let turn = worker.take().await;
    let read = async |query: &str| {
        let request = request("GET", &format!("/v1/units/demo/events?{query}"), "ann").body(Body::empty()).unwrap();
        let answer = world.call(request).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let ids = answer.text.lines().filter_map(|l| l.strip_prefix("id: ").map(str::to_owned));
        ids.collect::<Vec<_>>()
    };
    let running = read("follow=false").await;
    assert_eq!(running.len(), 2, "worker-ready and turn-accepted");
    assert!(read(&format!("follow=false&from={}", running[1])).await.is_empty(), "there is nothing after the last one");
    worker.settle(&turn.turn_id, 2, true, "done").await;
    assert_eq!(read(&format!("follow=false&from={}", running[0])).await.len(), 3);
}
