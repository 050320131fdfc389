//! What a reaper's pass costs beside the number of units: 100 are due, of 1,000 and of 100,000 that are tracked. The pass is
//! what the reaper asks the ledger for in one: what is due, the drain of each, and the drain jobs; a pass with nothing due is
//! measured beside it.

#[allow(dead_code, reason = "the tests use all of it")]
#[path = "../tests/ledger/support.rs"]
mod support;

use std::time::Duration;

use contract::{Generation, Owner, UnitId, UnitName};
use criterion::{Criterion, criterion_group, criterion_main};
use ledger::Ledger;
use redis::aio::MultiplexedConnection;
use support::Redis;
use tokio::time::Instant;

const DUE: usize = 100;
const GENERATION: Generation = Generation(1_790_000_000_000);
const LEASE: Duration = Duration::from_secs(60);
const FAR_MS: u64 = 9_000_000_000_000;

fn uid(n: usize) -> UnitId {
    UnitId::of(&Owner::parse("ann").unwrap(), &UnitName::parse(format!("unit-{n}")).unwrap())
}

struct Bench {
    _redis: Redis,
    raw: MultiplexedConnection,
    ledger: Ledger,
    uids: Vec<UnitId>,
    rounds: usize,
}

impl Bench {
    /// Live, idle units, as `settle` leaves them, of which none is due.
    async fn new(tracked: usize) -> Self {
        let redis = Redis::start().await;
        let mut raw = redis.raw().await;
        let ledger = redis.ledger("bench").await;
        let uids: Vec<_> = (0..tracked).map(uid).collect();
        for chunk in uids.chunks(1000) {
            let mut pipe = redis::pipe();
            for uid in chunk {
                live(&mut pipe, uid, FAR_MS);
            }
            pipe.exec_async(&mut raw).await.unwrap();
        }
        Self { _redis: redis, raw, ledger, uids, rounds: 0 }
    }

    /// One pass with so many due. Those that were ended are live again afterwards.
    async fn pass(&mut self, due: usize) -> Duration {
        // Others each time, all over the key space.
        self.rounds += 1;
        let step = self.uids.len() / DUE;
        let uids: Vec<_> = (0..due).map(|n| self.uids[(n * step + self.rounds) % self.uids.len()].clone()).collect();
        self.write(&uids, 1).await;
        let began = Instant::now();
        let found = self.ledger.due(500).await.unwrap();
        for deadline in &found {
            assert!(self.ledger.begin_idle_drain(&deadline.uid, deadline.generation).await.unwrap());
        }
        let jobs = self.ledger.pick_drains(LEASE, DUE).await.unwrap();
        let took = began.elapsed();
        assert_eq!((found.len(), jobs.len()), (due, due));
        redis::cmd("DEL").arg("drains").exec_async(&mut self.raw).await.unwrap();
        self.write(&uids, FAR_MS).await;
        took
    }

    async fn write(&mut self, uids: &[UnitId], due_ms: u64) {
        let mut pipe = redis::pipe();
        for uid in uids {
            live(&mut pipe, uid, due_ms);
        }
        if !uids.is_empty() {
            pipe.exec_async(&mut self.raw).await.unwrap();
        }
    }
}

/// A live unit that is idle since long ago and whose timeout is over at that time.
fn live(pipe: &mut redis::Pipeline, uid: &UnitId, due_ms: u64) {
    let idle_ms = due_ms - 1;
    pipe.cmd("HSET").arg(ledger::keys::unit(uid)).arg(&[
        ("uid", uid.to_string()),
        ("owner", "ann".into()),
        ("owner_key", "ann".into()),
        ("state", "live".into()),
        ("gen", GENERATION.to_string()),
        ("idle_since", "1".into()),
        ("policy", format!("{idle_ms} 60000 3600000 3 3")),
    ]);
    pipe.cmd("ZADD").arg(ledger::keys::DEADLINES);
    pipe.arg(due_ms).arg(format!("idle|{uid}|{GENERATION}")).arg(FAR_MS).arg(format!("lifetime|{uid}|{GENERATION}"));
    pipe.cmd("ZADD").arg("live").arg(1).arg(uid.as_str()).cmd("ZADD").arg("live:ann").arg(1).arg(uid.as_str());
}

fn benches(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut few = runtime.block_on(Bench::new(1_000));
    let mut many = runtime.block_on(Bench::new(100_000));
    let mut group = criterion.benchmark_group("pass");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    for due in [0, DUE] {
        // Passes take turns, so that both have the same machine. The first ones warm up and pay for the server's rehashing;
        // of the others the lower quartile, which a machine with other work disturbs least.
        let mut took: [Vec<Duration>; 2] = Default::default();
        for _ in 0..100 {
            took[0].push(runtime.block_on(few.pass(due)));
            took[1].push(runtime.block_on(many.pass(due)));
        }
        let [few, many] = took.map(|times| {
            let mut times = times[20..].to_vec();
            times.sort_unstable();
            times[times.len() / 4]
        });
        let ratio = many.as_secs_f64() / few.as_secs_f64();
        println!("{due} due: of 1,000 tracked {few:?}, of 100,000 tracked {many:?}: {ratio:.2} times");
    }
    for (name, bench) in [("1,000 tracked", &mut few), ("100,000 tracked", &mut many)] {
        group.bench_function(format!("{DUE} due of {name}"), |bencher| {
            bencher.iter_custom(|rounds| {
                runtime.block_on(async {
                    let mut sum = Duration::ZERO;
                    for _ in 0..rounds {
                        sum += bench.pass(DUE).await;
                    }
                    sum
                })
            });
        });
    }
    group.finish();
}

criterion_group!(group, benches);
criterion_main!(group);
