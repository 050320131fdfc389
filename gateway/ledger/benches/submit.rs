//! The warm path beside a bare round trip through Redis streams, in one run and with the same fsync setting: from `submit`
//! to `turn-accepted` at a subscriber, with the delivery and the worker's `emit` in between.

#[allow(dead_code, reason = "the tests use all of it")]
#[path = "../tests/ledger/support.rs"]
mod support;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};
use ledger::{Emit, Ledger, Submitted, Subscription};
use redis::aio::MultiplexedConnection;
use redis::streams::StreamReadReply;
use support::{Redis, make_idle, next, run_fanout, settle, submission};
use tokio::time::Instant;

async fn read(connection: &mut MultiplexedConnection, stream: &str, last: &mut String) {
    let mut command = redis::cmd("XREAD");
    command.arg("BLOCK").arg(10_000).arg("STREAMS").arg(stream).arg(&*last);
    let reply: StreamReadReply = command.query_async(connection).await.unwrap();
    *last = reply.keys[0].ids.last().unwrap().id.clone();
}

async fn write(connection: &mut MultiplexedConnection, stream: &str, text: &str) {
    let mut command = redis::cmd("XADD");
    command.arg(stream).arg("*").arg("event").arg(text);
    let id: String = command.query_async(connection).await.unwrap();
    black_box(id);
}

/// One task writes a request and waits for the answer of another.
async fn bare(redis: &Redis, rounds: u64) -> Duration {
    let (mut writer, mut reader) = (redis.raw().await, redis.raw().await);
    let (mut their_writer, mut their_reader) = (redis.raw().await, redis.raw().await);
    redis::cmd("DEL").arg("there").arg("back").exec_async(&mut writer).await.unwrap();
    let echo = tokio::spawn(async move {
        let mut last = "0-0".to_owned();
        for _ in 0..rounds {
            read(&mut their_reader, "there", &mut last).await;
            write(&mut their_writer, "back", "turn-accepted").await;
        }
    });
    let mut last = "0-0".to_owned();
    let begun = Instant::now();
    for _ in 0..rounds {
        write(&mut writer, "there", "hello").await;
        read(&mut reader, "back", &mut last).await;
    }
    let took = begun.elapsed();
    echo.await.unwrap();
    took
}

struct Warm {
    ledger: Ledger,
    uid: contract::UnitId,
    generation: contract::Generation,
    events: Subscription,
}

impl Warm {
    /// Submit only, and submit to `turn-accepted` at the subscriber. Settling is not part of either.
    async fn turn(&mut self) -> (Duration, Duration) {
        let turn = submission("demo", "hello");
        let begun = Instant::now();
        let submitted = self.ledger.submit(&turn).await.unwrap();
        let accepted = begun.elapsed();
        let Submitted::Accepted { deliver: Some(delivery), .. } = submitted else {
            panic!("not delivered: {submitted:?}")
        };
        let json = format!(r#"{{"type":"turn-accepted","turn_id":"{}","seq":1}}"#, delivery.turn.turn_id);
        let emit =
            Emit { turn: Some(&turn.turn), seq: Some(1), kind: "turn-accepted", json: &json, splice_turn: false };
        let (emitted, seen) = tokio::join!(self.ledger.emit(&self.uid, self.generation, emit), async {
            black_box(next(&mut self.events).await);
            begun.elapsed()
        });
        emitted.unwrap();
        settle(&self.ledger, &self.uid, self.generation, &turn.turn).await;
        // `done` and `turn-complete`.
        next(&mut self.events).await;
        next(&mut self.events).await;
        (accepted, seen)
    }
}

fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let redis = runtime.block_on(Redis::durable());
    let mut warm = runtime.block_on(async {
        let ledger = redis.ledger("bench").await;
        std::mem::forget(run_fanout(&ledger));
        let (uid, generation) = make_idle(&ledger, "demo").await;
        let last = ledger.turns(&uid, None, 1, 1 << 20).await.unwrap().0[0].last_event.unwrap();
        let events = ledger.fanout().subscribe(&uid, last, &ledger::Share::new(1 << 20)).await.unwrap();
        Warm { ledger, uid, generation, events }
    });
    let mut group = criterion.benchmark_group("warm");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    group.bench_function("bare stream round trip", |bencher| {
        bencher.iter_custom(|rounds| runtime.block_on(bare(&redis, rounds)));
    });
    group.bench_function("submit", |bencher| {
        bencher.iter_custom(|rounds| {
            runtime.block_on(async {
                let mut sum = Duration::ZERO;
                for _ in 0..rounds {
                    sum += warm.turn().await.0;
                }
                sum
            })
        });
    });
    group.bench_function("submit to turn-accepted", |bencher| {
        bencher.iter_custom(|rounds| {
            runtime.block_on(async {
                let mut sum = Duration::ZERO;
                for _ in 0..rounds {
                    sum += warm.turn().await.1;
                }
                sum
            })
        });
    });
    group.finish();
}

criterion_group!(group, benches);
criterion_main!(group);
