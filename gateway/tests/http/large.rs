//! Answers whose size a caller chooses.

use axum::body::Body;
use serde_json::json;

use crate::world::{World, post, request, world_with};

const TURNS: usize = 190;
const PROMPT_BYTES: usize = 64 << 10;
/// What the heads of a page may have, and JSON around them.
const MOST_BYTES: usize = 600 << 10;

async fn world() -> World {
    world_with(|settings| {
        settings.limits.prompt_bytes = 1 << 20;
        settings.limits.body_bytes = 2 << 20;
        settings.limits.queued_turns_per_unit = 1_000;
        (settings.limits.requests_per_sec, settings.limits.bulk_kib_per_sec) = (0, 0);
    })
    .await
}

/// A number of `INFO stats`.
async fn stat(world: &World, name: &str) -> u64 {
    let socket = world.folder().join("redis.sock");
    let output = tokio::process::Command::new("redis-cli").arg("-s").arg(socket).args(["info", "stats"]).output().await;
    let text = String::from_utf8(output.expect("redis-cli").stdout).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|n| n.trim().parse().ok()).unwrap_or_else(|| panic!("{name}: {text}"))
}

#[tokio::test]
async fn pages_are_bounded_by_bytes_and_show_beginnings() {
    let mut world = world().await;
    let (prompt, reply) = ("x".repeat(PROMPT_BYTES), "y".repeat(PROMPT_BYTES));
    for _ in 0..TURNS {
        let mut submit = post("/v1/units/demo/invoke", "ann", &json!({ "prompt": prompt }));
        submit.headers_mut().insert("prefer", "respond-async".parse().unwrap());
        assert_eq!(world.call(submit).await.status, 202);
    }
    let worker = world.worker().await;
    for _ in 0..TURNS {
        let turn = worker.take().await;
        worker.settle(&turn.turn_id, 2, true, &reply).await;
    }
    let (mut seen, mut path, mut pages) = (Vec::new(), "/v1/units/demo/turns?limit=200".to_owned(), 0);
    let before = stat(&world, "total_net_output_bytes").await;
    loop {
        let page = world.get(&path, "ann").await;
        assert_eq!(page.status, 200, "{}", page.text);
        assert!(page.text.len() < MOST_BYTES, "a page of {} bytes", page.text.len());
        let page = page.json();
        for turn in page["turns"].as_array().unwrap() {
            let lengths = ["prompt", "reply"].map(|text| turn[text].as_str().unwrap().len());
            assert_eq!((lengths, &turn["truncated"]), ([1024, 1024], &json!(true)));
            seen.push(turn["turn_id"].as_str().unwrap().to_owned());
        }
        pages += 1;
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/units/demo/turns?limit=200&before={next}");
    }
    let read = stat(&world, "total_net_output_bytes").await - before;
    let mut unique = seen.clone();
    unique.sort();
    unique.dedup();
    assert_eq!((seen.len(), unique.len()), (TURNS, TURNS), "every turn is on one page");
    assert!(pages > 1, "{pages} pages");
    assert!(read < 3 * MOST_BYTES as u64, "{read} bytes were read from Redis for {} of prompts", TURNS * PROMPT_BYTES);

    let whole = world.get(&format!("/v1/turns/{}", seen[0]), "ann").await.json();
    let lengths = ["prompt", "reply"].map(|text| whole[text].as_str().unwrap().len());
    assert_eq!((lengths, whole.get("truncated")), ([PROMPT_BYTES, PROMPT_BYTES], None));
}

#[tokio::test]
async fn an_answer_that_nobody_reads_keeps_no_other_owner_waiting() {
    let world = world().await;
    for sub in ["ann", "bob"] {
        let mut submit = post("/v1/units/demo/invoke", sub, &json!({"prompt": "x".repeat(1 << 20)}));
        submit.headers_mut().insert("prefer", "respond-async".parse().unwrap());
        assert_eq!(world.call(submit).await.status, 202);
    }
    let turns = world.get("/v1/units/demo/turns", "ann").await.json();
    let turn = format!("/v1/turns/{}", turns["turns"][0]["turn_id"].as_str().unwrap());
    // A megabyte each, until there is no room for another one.
    let mut held = Vec::new();
    let refused = loop {
        let answer = world.open(request("GET", &turn, "ann").body(Body::empty()).unwrap()).await;
        if answer.status() != 200 {
            break crate::world::read(answer).await;
        }
        held.push(answer);
        assert!(held.len() < 8, "more than the owner's share");
    };
    refused.problem(429, "too-many");
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(world.get("/v1/units", "bob").await.status, 200);
    drop(held);
    assert_eq!(world.get(&turn, "ann").await.status, 200);
}
