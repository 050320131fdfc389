//! Workloads and generations that have lost each other.

use std::time::Duration;

use contract::{Generation, UnitId};
use ledger::{Taken, UnitState};
use tokio::time::Instant;

use super::runtime::Answers;
use super::world::{World, bounds};

const UNKNOWN: &str = "uabcdefghijklmnopqrstuvwx2-1790000000000";

async fn world() -> World {
    World::with(|reaper| (reaper.list_period_ms, reaper.orphan_grace_ms) = (50, 100)).await
}

/// Nothing but the watch wakes it after the start.
async fn patient() -> World {
    World::with(|reaper| reaper.list_period_ms = 3_600_000).await
}

fn calls_about(world: &World, what: &str) -> Vec<String> {
    world.runtime.calls().into_iter().filter(|call| call.contains(what)).collect()
}

fn id(unit: &(UnitId, Generation)) -> String {
    format!("{}-{}", unit.0, unit.1)
}

#[tokio::test]
async fn workloads_that_no_unit_has_are_ended_and_those_that_one_has_are_not() {
    let world = world().await;
    let busy = world.busy_unit("busy", bounds(1)).await;
    let idle = world.idle_unit("idle", bounds(600_000)).await;
    // Its workload is still to be made.
    let starting = world.starting_unit("starting", bounds(600_000)).await;
    let lower = format!("{}-{}", busy.0, busy.1.0 - 1);
    world.runtime.has_workload(&lower, "running", None);
    world.runtime.has_workload(UNKNOWN, "stopped", Some("failed"));
    let reaper = world.reaper();
    world.runtime.called(&format!("destroy {lower}"), 1).await;
    world.runtime.called(&format!("destroy {UNKNOWN}"), 1).await;
    reaper.board_says("orphans", |orphans| orphans.total.done == 2).await;
    assert_eq!(calls_about(&world, &lower), [format!("stop {lower} stopped"), format!("destroy {lower}")]);
    for unit in [&busy, &idle, &starting] {
        assert_eq!(calls_about(&world, &id(unit)), Vec::<String>::new());
        assert_eq!(world.state(&unit.0).await.generation(), Some(unit.1));
    }
    let tasks = reaper.stop().await;
    assert_eq!(tasks["orphans"].total.left, 0, "{tasks:?}");
}

#[tokio::test]
async fn a_generation_whose_workload_is_gone_ends() {
    let world = world().await;
    let idle = world.idle_unit("idle", bounds(600_000)).await;
    world.runtime.has(|store| store.workloads.clear());
    let reaper = world.reaper();
    world.until_cold(&idle.0).await;
    let exit = world.first_event(&idle.0, "worker-exit").await;
    assert_eq!(exit["reason"], "failed");
    assert!(exit["detail"].as_str().unwrap().contains("no such workload"), "{exit}");
    reaper.stop().await;
}

#[tokio::test]
async fn a_worker_that_dies_is_noticed_by_the_watch() {
    let world = patient().await;
    let busy = world.busy_unit("busy", bounds(600_000)).await;
    let starting = world.starting_unit("starting", bounds(600_000)).await;
    let reaper = world.reaper();
    reaper.board_says("orphans", |orphans| orphans.activations > 0).await;
    world.runtime.has_workload(&id(&starting), "stopped", Some("start_failed"));
    world.runtime.has_workload(&id(&busy), "stopped", Some("oom"));
    for unit in [&busy, &starting] {
        world.until(&unit.0, |s| matches!(s, UnitState::Starting { generation } if generation > unit.1)).await;
    }
    let exit = world.first_event(&busy.0, "worker-exit").await;
    assert_eq!((exit["reason"].as_str(), exit["exit_code"].as_i64()), (Some("oom"), Some(3)));
    let retried = world.ledger.unit(&starting.0).await.unwrap().unwrap();
    assert_eq!(retried.failed_starts, 1);
    reaper.stop().await;
}

#[tokio::test]
async fn without_a_list_nothing_is_ended() {
    let mut world = world().await;
    let idle = world.idle_unit("idle", bounds(600_000)).await;
    world.runtime.has(|store| {
        store.workloads.clear();
        store.blind = true;
    });
    let reaper = world.reaper();
    reaper.board_says("orphans", |orphans| orphans.activations > 1 && orphans.last_error.is_some()).await;
    assert_eq!(world.state(&idle.0).await, UnitState::Live { generation: idle.1 });
    // Now the runtime lists something, and the ledger cannot say whose it is.
    world.redis.kill();
    world.runtime.has(|store| store.blind = false);
    world.runtime.has_workload(UNKNOWN, "running", None);
    let before = reaper.activations("orphans");
    reaper.board_says("orphans", |orphans| orphans.activations > before && orphans.last_error.is_some()).await;
    assert_eq!(world.runtime.calls(), Vec::<String>::new());
    world.redis.restart().await;
    world.runtime.called(&format!("destroy {UNKNOWN}"), 1).await;
    world.until_cold(&idle.0).await;
    reaper.stop().await;
}

#[tokio::test]
async fn what_a_ledger_forgot_is_ended() {
    let world = world().await;
    let busy = world.busy_unit("busy", bounds(600_000)).await;
    let reaper = world.reaper();
    reaper.board_says("orphans", |orphans| orphans.activations > 1).await;
    assert_eq!(world.runtime.calls(), Vec::<String>::new());
    world.redis.flush().await;
    world.runtime.called(&format!("destroy {}", id(&busy)), 1).await;
    assert!(matches!(world.ledger.take(&busy.0, busy.1, 1, None).await.unwrap(), Taken::Over));
    reaper.stop().await;
}

#[tokio::test]
async fn an_orphan_that_does_not_go_is_tried_again() {
    let world = world().await;
    world.runtime.answer(Answers::Survivor);
    world.runtime.has_workload(UNKNOWN, "running", None);
    let reaper = world.reaper();
    reaper.board_says("orphans", |orphans| orphans.total.left > 0).await;
    world.runtime.answer(Answers::Known);
    reaper.board_says("orphans", |orphans| orphans.total.done == 1).await;
    reaper.stop().await;
}

#[tokio::test]
async fn all_reapers_together_list_once_in_a_period() {
    const PERIOD: Duration = Duration::from_millis(300);
    let world = World::with(|reaper| reaper.list_period_ms = 300).await;
    let began = Instant::now();
    let reapers = [world.reaper(), world.reaper(), world.reaper()];
    while world.runtime.listings() < 6 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for reaper in reapers {
        reaper.stop().await;
    }
    let periods = began.elapsed().as_millis() / PERIOD.as_millis() + 1;
    // Each of them lists once at its start, whoever else has.
    assert!(world.runtime.listings() <= usize::try_from(periods).unwrap() + 3, "{periods}");
}
