//! The race between a submit and the reaping of an idle unit, hunted: turns that come at the very moment, 2,000 times.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use contract::{Generation, StopReason, TurnId, UnitId};
use ledger::{Ledger, Settled, Submitted, Taken, TurnStatus};
use rand::Rng;
use serde_json::Value;
use tokio::sync::{Mutex, Notify};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::support::*;

const UNITS: usize = 10;
const ROUNDS: usize = 200;
const IDLE: Duration = Duration::from_millis(6);
/// How long after it may be due by the caller's clock a turn comes at the latest: the reaper looks once in a millisecond or two.
const AROUND: Duration = Duration::from_millis(6);
/// What a worker needs until it is ready.
const COLD_START: Duration = Duration::from_millis(2);
/// A turn that is not told by then is lost.
const LOST: Duration = Duration::from_secs(20);

/// What the runtime would be: a task for each workload; and for each unit whom to wake when a turn is there, and when it is
/// done.
struct World {
    ledger: Ledger,
    workers: Mutex<HashMap<(UnitId, Generation), JoinHandle<()>>>,
    nudges: HashMap<UnitId, (Notify, Notify)>,
}

impl World {
    async fn start(self: &Arc<Self>, uid: &UnitId, generation: Generation) {
        let mut workers = self.workers.lock().await;
        // As the runtime does: a repeated start is the workload that is there.
        workers
            .entry((uid.clone(), generation))
            .or_insert_with(|| tokio::spawn(Arc::clone(self).work(uid.clone(), generation)));
    }

    /// A worker: claims, takes, settles, until it is told to end.
    async fn work(self: Arc<Self>, uid: UnitId, generation: Generation) {
        sleep(COLD_START).await;
        self.ledger.ready(&uid, generation, Some("nonce"), 2).await.unwrap();
        loop {
            match self.ledger.take(&uid, generation, 1, None).await.unwrap() {
                Taken::Turn(turn) => {
                    let told = self.ledger.settle(&uid, generation, &turn.turn_id, well()).await.unwrap();
                    assert!(matches!(told, Settled::Written { .. }), "{told:?}");
                    self.nudges[&uid].1.notify_one();
                }
                Taken::Nothing => drop(timeout(IDLE, self.nudges[&uid].0.notified()).await),
                _ => return,
            }
        }
    }

    /// A reaper: ends at once what is due, and says when it is gone.
    async fn reap(self: Arc<Self>) {
        loop {
            for due in self.ledger.due(100).await.unwrap() {
                self.ledger.begin_idle_drain(&due.uid, due.generation).await.unwrap();
            }
            for job in self.ledger.pick_drains(LOST, 100).await.unwrap() {
                let worker = self.workers.lock().await.remove(&(job.uid.clone(), job.generation));
                if let Some(worker) = worker {
                    // KILL, wherever it is.
                    worker.abort();
                    let _ = worker.await;
                }
                assert!(self.ledger.exited(&job.uid, job.generation, exit(StopReason::IdleTimeout)).await.unwrap());
            }
            sleep(Duration::from_millis(1)).await;
        }
    }

    /// A dispatcher: starts what no submit started.
    async fn dispatch(self: Arc<Self>) {
        loop {
            for job in self.ledger.pick_starts(LOST, 100).await.unwrap() {
                self.start(&job.uid, job.generation).await;
            }
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// How the ledger took the turns: by a live worker, by a start, or neither, because the unit was draining.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    warm: usize,
    cold: usize,
    between: usize,
}

/// Submits one turn after the other, each about when the unit is reaped.
async fn call(world: Arc<World>, name: String) -> Counts {
    let (mut counts, (delivered, done)) = (Counts::default(), &world.nudges[&uid(&name)]);
    for round in 0..ROUNDS {
        let mut turn = submission(&name, &format!("turn {round}"));
        turn.policy.idle_timeout_ms = IDLE.as_millis() as u64;
        match submit(&world.ledger, &turn).await {
            Submitted::Accepted { start: Some(job), .. } => {
                counts.cold += 1;
                world.start(&job.uid, job.generation).await;
            }
            Submitted::Accepted { deliver: Some(_), .. } => {
                counts.warm += 1;
                delivered.notify_one();
            }
            Submitted::Accepted { .. } => counts.between += 1,
            other => panic!("{other:?}"),
        }
        let told = timeout(LOST, settled(&world.ledger, &turn.turn, done)).await;
        told.unwrap_or_else(|_| panic!("{name}: turn {round} is lost"));
        let told = Instant::now();
        let later = rand::rng().random_range(Duration::ZERO..AROUND);
        at(told + IDLE + later).await;
    }
    counts
}

/// Waits until a turn is settled, and looks at what came of it.
async fn settled(ledger: &Ledger, turn: &TurnId, done: &Notify) {
    loop {
        let record = ledger.turn(turn).await.unwrap().unwrap();
        if record.status.is_settled() {
            return assert_eq!((record.status, record.attempt), (TurnStatus::Completed, 1));
        }
        // A worker that was killed between its word and the nudge woke nobody.
        drop(timeout(IDLE, done.notified()).await);
    }
}

/// The executor's timers are as coarse as a millisecond.
async fn at(moment: Instant) {
    sleep_until(moment - Duration::from_millis(2)).await;
    while Instant::now() < moment {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turns_that_come_as_their_unit_is_reaped_are_neither_lost_nor_doubled_nor_late() {
    let redis = Redis::start().await;
    let names: Vec<_> = (0..UNITS).map(|n| format!("unit-{n}")).collect();
    let nudges = names.iter().map(|name| (uid(name), Default::default())).collect();
    let world = Arc::new(World { ledger: redis.ledger("g1").await, workers: Mutex::default(), nudges });
    let mut others = JoinSet::new();
    others.spawn(world.clone().reap());
    others.spawn(world.clone().dispatch());
    let mut callers: JoinSet<_> = names.iter().map(|name| call(world.clone(), name.clone())).collect();
    let mut sum = Counts::default();
    loop {
        let counts = tokio::select! {
            ended = others.join_next() => panic!("reaper and dispatcher never end: {ended:?}"),
            counts = callers.join_next() => counts,
        };
        let Some(counts) = counts.transpose().unwrap() else { break };
        sum = Counts {
            warm: sum.warm + counts.warm,
            cold: sum.cold + counts.cold,
            between: sum.between + counts.between,
        };
    }
    println!("{} turns at the moment of reaping: {sum:?}", UNITS * ROUNDS);
    assert!(sum.warm > 0 && sum.cold > UNITS && sum.between > 0, "every side of the moment was hit: {sum:?}");
    for name in &names {
        one_start_at_most(&events(&redis, &uid(name)).await, name);
    }
}

/// Each turn ends once, and none waited for more than one worker to become ready.
fn one_start_at_most(events: &[Value], name: &str) {
    let mut ends = HashMap::<_, usize>::new();
    let mut starts = 0;
    for event in events {
        match event["type"].as_str().unwrap() {
            "worker-ready" => starts += 1,
            "turn-complete" | "turn-failed" => {
                *ends.entry(event["turn_id"].to_string()).or_default() += 1;
                assert!(starts <= 1, "{name}: {} waited for {starts} starts", event["turn_id"]);
                starts = 0;
            }
            _ => {}
        }
    }
    assert_eq!(ends.len(), ROUNDS, "{name}");
    assert!(ends.values().all(|n| *n == 1), "{name}: {ends:?}");
}
