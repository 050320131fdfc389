//! What is left over, what is stuck, and turns that take too long.

use contract::Tell;
use ledger::{Erase, Taken, UnitState};

use super::world::{World, bounds};

const UNKNOWN: &str = "uabcdefghijklmnopqrstuvwx2-1790000000000";

#[tokio::test]
async fn a_turn_that_takes_too_long_ends_and_the_next_generation_is_asked_about_it() {
    let mut world = World::new().await;
    let patient = world.busy_unit("patient", bounds(1)).await;
    world.timeout_sec = 0;
    let slow = world.busy_unit("slow", bounds(1)).await;
    let reaper = world.reaper();
    world.until(&slow.0, |s| matches!(s, UnitState::Starting { generation } if generation > slow.1)).await;
    assert_eq!(world.state(&patient.0).await, UnitState::Live { generation: patient.1 });
    let next = world.state(&slow.0).await.generation().unwrap();
    world.ledger.ready(&slow.0, next, Some("nonce"), 1).await.unwrap();
    match world.ledger.take(&slow.0, next, 1, None).await.unwrap() {
        Taken::Turn(turn) => assert_eq!(turn.tell, Some(Tell::Timeout)),
        other => panic!("{other:?}"),
    }
    let tasks = reaper.stop().await;
    assert_eq!(tasks["turn_timeout"].total.done, 1, "{tasks:?}");
}

#[tokio::test]
async fn folders_and_trash_go_when_their_time_has_come() {
    let world = World::with(|reaper| {
        (reaper.leftovers_period_sec, reaper.orphan_grace_ms, reaper.trash_retention_sec) = (1, 50, 1000);
    })
    .await;
    let starting = world.starting_unit("starting", bounds(600_000)).await;
    let current = format!("{}-{}", starting.0, starting.1);
    world.runtime.has(|store| {
        store.folders = vec![UNKNOWN.into(), current.clone()];
        store.trash = vec![("old".into(), 1000), ("young".into(), 999)];
    });
    let reaper = world.reaper();
    world.runtime.called(&format!("destroy {UNKNOWN}"), 1).await;
    reaper.board_says("leftovers", |leftovers| leftovers.total.done == 2).await;
    assert_eq!(world.runtime.calls(), ["remove old".to_owned(), format!("destroy {UNKNOWN}")]);
    assert_eq!(world.state(&starting.0).await, UnitState::Starting { generation: starting.1 });
    reaper.stop().await;
}

#[tokio::test]
async fn an_erasure_that_was_left_in_the_middle_is_ended() {
    let world = World::with(|reaper| reaper.leftovers_period_sec = 1).await;
    let kept = world.idle_unit("kept", bounds(600_000)).await;
    let gone = world.idle_unit("gone", bounds(50)).await;
    // The caller left while it drained.
    assert_eq!(world.ledger.erase(&gone.0, false).await.unwrap(), Erase::Draining);
    let reaper = world.reaper();
    reaper.board_says("erasures", |erasures| erasures.total.done == 1).await;
    assert_eq!(world.ledger.unit(&gone.0).await.unwrap(), None);
    let trashed: Vec<_> = world.runtime.calls().into_iter().filter(|c| c.starts_with("trash")).collect();
    assert_eq!(trashed, [format!("trash /states/{}", gone.0), format!("trash /workspaces/{}", gone.0)]);
    assert_eq!(world.state(&kept.0).await, UnitState::Live { generation: kept.1 });
    reaper.stop().await;
}

#[tokio::test]
async fn a_place_that_a_cold_unit_has_is_given_back() {
    let world = World::with(|reaper| reaper.list_period_ms = 50).await;
    let busy = world.busy_unit("busy", bounds(600_000)).await;
    let (stranger, _) = UNKNOWN.split_once('-').unwrap();
    assert_eq!(world.redis.command(&format!("ZADD live +inf {stranger}")).await, ":1");
    let reaper = world.reaper();
    reaper.board_says("places", |places| places.total.done == 1).await;
    assert_eq!(world.redis.command(&format!("ZSCORE live {stranger}")).await, "$-1");
    assert_eq!(world.redis.command(&format!("ZSCORE live {}", busy.0)).await, "$3");
    reaper.stop().await;
}
