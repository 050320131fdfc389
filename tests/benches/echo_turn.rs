//! An `echo` turn on `process`, from the invoke to its result at the caller: warm, and from the cold.
//!
//! `cargo bench -p tests` runs it on the programs of `target/release` (`make release`), on a private Redis that syncs every
//! write. `cargo bench -p ledger` has the parts: `submit`, and beside it the bare round trip through a Redis stream.

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use tests::api::Api;
use tests::stack::{Backend, Options, Stack};
use tokio::time::Instant;

/// Until the caller reads `turn-accepted`, and until it has the result.
async fn turn(api: &Api, unit: &str) -> (Duration, Duration) {
    let begun = Instant::now();
    let mut events = api.invoke_streaming(unit, &json!({"prompt": "hi"})).await;
    let limit = Duration::from_secs(60);
    events.until("turn-accepted", limit).await;
    let accepted = begun.elapsed();
    events.until("turn-complete", limit).await;
    (accepted, begun.elapsed())
}

async fn stop(api: &Api, unit: &str) {
    let path = format!("/v1/units/{unit}/stop");
    api.post_with(&path, &[("prefer", "wait=30")], &json!({})).await.expect(200);
}

fn echo_turn(criterion: &mut Criterion) {
    let executor = tokio::runtime::Runtime::new().expect("an executor");
    let stack = executor.block_on(Stack::start(Options::new(Backend::Process)));
    let api = stack.api("bench");
    executor.block_on(turn(&api, "warm"));

    let mut group = criterion.benchmark_group("echo turn on process");
    group.bench_function("warm, to turn-accepted", |b| {
        b.to_async(&executor).iter_custom(|n| {
            let api = api.clone();
            async move {
                let mut sum = Duration::ZERO;
                for _ in 0..n {
                    sum += turn(&api, "warm").await.0;
                }
                sum
            }
        });
    });
    group.bench_function("warm, to the result", |b| {
        b.to_async(&executor).iter(|| turn(&api, "warm"));
    });
    group.sample_size(10);
    group.bench_function("cold, to turn-accepted", |b| {
        b.to_async(&executor).iter_custom(|n| {
            let api = api.clone();
            async move {
                let mut sum = Duration::ZERO;
                for _ in 0..n {
                    sum += turn(&api, "cold").await.0;
                    stop(&api, "cold").await;
                }
                sum
            }
        });
    });
    group.finish();
}

criterion_group!(benches, echo_turn);
criterion_main!(benches);
