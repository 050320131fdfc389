//! Against a private redis-server and a `runtime.v1` server whose answers the test decides.

mod house;
mod orphans;
mod runtime;
mod world;

use std::time::Duration;

use contract::Tell;
use ledger::{Cancel, Taken, UnitState};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use self::runtime::Answers;
use self::world::{World, bounds};
use crate::lease::LEASE;
use crate::status::{Board, serve};

/// Longer than anything here takes.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn an_idle_worker_is_stopped_and_destroyed_and_then_the_unit_is_cold() {
    let world = World::new().await;
    let (uid, generation) = world.idle_unit("demo", bounds(50)).await;
    let reaper = world.reaper();
    world.until_cold(&uid).await;
    let id = format!("{uid}-{generation}");
    assert_eq!(world.runtime.calls(), [format!("stop {id} idle_timeout"), format!("destroy {id}")]);
    let exit = world.first_event(&uid, "worker-exit").await;
    assert_eq!((exit["reason"].as_str(), exit["exit_code"].as_i64()), (Some("idle_timeout"), Some(0)));
    let tasks = reaper.stop().await;
    assert_eq!((tasks["idle"].total.done, tasks["idle"].last_error.as_deref()), (1, None));
}

#[tokio::test]
async fn a_busy_worker_is_not_idle_and_a_unit_with_time_left_is_not_touched() {
    let world = World::new().await;
    let busy = world.busy_unit("busy", bounds(1)).await;
    let patient = world.idle_unit("patient", bounds(600_000)).await;
    let witness = world.idle_unit("witness", bounds(50)).await;
    let reaper = world.reaper();
    // By the time that the witness is gone, the others were looked at.
    world.until_cold(&witness.0).await;
    for (uid, generation) in [busy, patient] {
        assert_eq!(world.state(&uid).await, UnitState::Live { generation });
    }
    reaper.stop().await;
}

#[tokio::test]
async fn a_worker_that_reads_again_and_again_is_idle_all_the_same() {
    let world = World::new().await;
    let (uid, generation) = world.idle_unit("demo", bounds(300)).await;
    let reaper = world.reaper();
    let reads = async {
        while !matches!(world.ledger.take(&uid, generation, 1, None).await.unwrap(), Taken::Over | Taken::Stop) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(Duration::from_secs(5), reads).await.expect("reading moves no deadline");
    reaper.stop().await;
}

#[tokio::test]
async fn starts_that_take_too_long_and_lives_that_last_too_long_end() {
    let world = World::new().await;
    let short = ledger::Policy { max_lifetime_ms: 60, ..bounds(600_000) };
    let (old, _) = world.busy_unit("old", short).await;
    let slow = ledger::Policy { start_timeout_ms: 60, max_starts: 1, ..bounds(600_000) };
    let (never, generation) = world.starting_unit("never", slow).await;
    let reaper = world.reaper();
    world.until_cold(&never).await;
    world.until(&old, |state| matches!(state, UnitState::Starting { .. })).await;
    let calls = world.runtime.calls();
    assert!(calls.contains(&format!("stop {never}-{generation} start_failed")), "{calls:?}");
    assert!(calls.iter().any(|c| c.starts_with(&format!("stop {old}-")) && c.ends_with("max_lifetime")), "{calls:?}");
    let tasks = reaper.stop().await;
    assert_eq!((tasks["start_timeout"].total.done, tasks["lifetime"].total.done), (1, 1));
}

#[tokio::test]
async fn what_the_runtime_does_not_know_is_gone_but_destroyed_first() {
    let world = World::new().await;
    world.runtime.answer(Answers::Unknown);
    let (uid, generation) = world.idle_unit("demo", bounds(600_000)).await;
    assert_eq!(world.ledger.drain_unit(&uid).await.unwrap(), Some(generation));
    let reaper = world.reaper();
    world.until_cold(&uid).await;
    let id = format!("{uid}-{generation}");
    assert_eq!(world.runtime.calls(), [format!("stop {id} stopped"), format!("destroy {id}")]);
    reaper.stop().await;
}

#[tokio::test]
async fn a_unit_drains_for_as_long_as_the_runtime_cannot_say() {
    let world = World::new().await;
    world.runtime.answer(Answers::Survivor);
    let (uid, generation) = world.idle_unit("demo", bounds(600_000)).await;
    world.ledger.drain_unit(&uid).await.unwrap();
    let reaper = world.reaper();
    world.runtime.called("destroy", 1).await;
    world.runtime.answer(Answers::Absent);
    // After its lease it is tried again, and the state is what it was.
    world.runtime.called("stop", 2).await;
    assert!(matches!(world.state(&uid).await, UnitState::Draining { generation: g, .. } if g == generation));
    world.runtime.answer(Answers::Known);
    world.until_cold(&uid).await;
    let tasks = reaper.stop().await;
    assert!(tasks["drain"].total.left >= 2, "{tasks:?}");
}

#[tokio::test]
async fn two_reapers_share_the_work() {
    let world = World::new().await;
    let mut uids = Vec::new();
    for n in 0..12 {
        uids.push(world.idle_unit(&format!("unit-{n}"), bounds(50)).await.0);
    }
    let (one, two) = (world.reaper(), world.reaper());
    for uid in &uids {
        world.until_cold(uid).await;
    }
    let calls = world.runtime.calls();
    assert_eq!(calls.iter().filter(|c| c.starts_with("stop")).count(), 12, "{calls:?}");
    assert!(world.runtime.most_at_once() <= 2 * world::MOST_AT_ONCE);
    let done = one.stop().await["drain"].total.done + two.stop().await["drain"].total.done;
    assert_eq!(done, 12);
}

#[tokio::test]
async fn what_a_killed_reaper_was_ending_is_soon_another_ones_and_not_before() {
    let mut world = World::new().await;
    world.settings.runtime.stop_grace_sec = 60;
    world.runtime.answer(Answers::Held);
    let (uid, _) = world.idle_unit("demo", bounds(600_000)).await;
    world.ledger.drain_unit(&uid).await.unwrap();
    let first = world.reaper();
    world.runtime.called("stop", 1).await;
    let second = world.reaper();
    // For longer than a lease: the first one is at it, and says so.
    timeout(LEASE * 3 / 2, world.runtime.called("stop", 2)).await.unwrap_err();
    assert!(second.activations("drain") > 1);
    first.kill().await;
    timeout(LEASE * 2, world.runtime.called("stop", 2)).await.expect("nobody goes on with it");
    world.runtime.answer(Answers::Known);
    world.until_cold(&uid).await;
    // It is cold a moment before the reaper has written down that it made it so.
    second.board_says("drain", |status| status.total.done == 1).await;
    second.stop().await;
}

#[tokio::test]
async fn a_worker_that_does_not_answer_a_cancel_ends_and_the_next_one_is_asked_about_its_turn() {
    let world = World::new().await;
    let patient = world.busy_unit("patient", bounds(600_000)).await;
    let deaf = world.busy_unit("deaf", bounds(600_000)).await;
    for (uid, _) in [&patient, &deaf] {
        let turn = world.ledger.unit(uid).await.unwrap().unwrap().taken.unwrap();
        assert!(matches!(world.ledger.cancel(&turn).await.unwrap(), Cancel::Flagged { .. }));
    }
    // The bound for an answer is over for one of them.
    let deadline = format!("cancel|{}|{}", deaf.0, deaf.1);
    assert_eq!(world.redis.command(&format!("ZADD deadlines XX CH 1 {deadline}")).await, ":1");
    let reaper = world.reaper();
    world.until(&deaf.0, |s| matches!(s, UnitState::Starting { generation } if generation > deaf.1)).await;
    let next = world.state(&deaf.0).await.generation().unwrap();
    world.ledger.ready(&deaf.0, next, Some("nonce"), 1).await.unwrap();
    match world.ledger.take(&deaf.0, next, 1, None).await.unwrap() {
        Taken::Turn(turn) => assert_eq!(turn.tell, Some(Tell::Cancelled)),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.state(&patient.0).await, UnitState::Live { generation: patient.1 });
    assert_eq!(reaper.stop().await["cancel"].total.done, 1);
}

#[tokio::test]
async fn redis_may_go_and_come_back() {
    let mut world = World::new().await;
    let (uid, _) = world.idle_unit("demo", bounds(600_000)).await;
    let reaper = world.reaper();
    reaper.board_says("idle", |idle| idle.activations > 0).await;
    world.redis.kill();
    reaper.board_says("idle", |idle| idle.last_error.is_some()).await;
    world.redis.restart().await;
    timeout(SOON, async { while world.ledger.drain_unit(&uid).await.is_err() {} }).await.unwrap();
    world.until_cold(&uid).await;
    reaper.board_says("idle", |idle| idle.last_error.is_none()).await;
    reaper.stop().await;
}

#[tokio::test]
async fn redis_may_be_absent_at_the_start() {
    let mut world = World::new().await;
    let (uid, _) = world.idle_unit("demo", bounds(50)).await;
    world.redis.kill();
    let reaper = world.reaper();
    tokio::task::yield_now().await;
    world.redis.restart().await;
    world.until_cold(&uid).await;
    reaper.stop().await;
}

#[tokio::test]
async fn an_end_in_the_middle_of_a_reap_finishes_it_and_begins_no_other() {
    let world = World::new().await;
    world.runtime.answer(Answers::Held);
    let (first, _) = world.idle_unit("first", bounds(600_000)).await;
    world.ledger.drain_unit(&first).await.unwrap();
    let reaper = world.reaper();
    world.runtime.called("stop", 1).await;
    reaper.ask_to_stop();
    let (second, generation) = world.idle_unit("second", bounds(600_000)).await;
    world.ledger.drain_unit(&second).await.unwrap();
    world.runtime.answer(Answers::Known);
    reaper.stop().await;
    assert_eq!(world.state(&first).await, UnitState::Cold);
    assert_eq!(world.state(&second).await.generation(), Some(generation));
}

#[tokio::test]
async fn the_status_is_served() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (board, stop) = (Board::new(), CancellationToken::new());
    board.activated("idle", Duration::from_millis(3), Ok(crate::Counts { seen: 2, done: 1, left: 1 }));
    let serving = tokio::spawn(serve(listener, board, stop.clone()));
    let (status, body) = world::get(address, "/status").await;
    assert_eq!(status, 200);
    let document: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(document["tasks"]["idle"]["last"]["done"], 1);
    assert!(document["tasks"]["idle"]["last_activation"].is_string());
    assert_eq!(world::get(address, "/healthz").await.0, 200);
    assert!(world::get(address, "/metrics").await.1.contains("rekindle_reaper_seen_total{task=\"idle\"} 2"));
    stop.cancel();
    timeout(SOON, serving).await.unwrap().unwrap().unwrap();
}
