//! One writer per workspace.

use contract::{Mode, StopReason};
use ledger::{Cancel, DrainReason, Settled, Submitted, UnitState};

use crate::support::*;

async fn state(ledger: &ledger::Ledger, name: &str) -> UnitState {
    ledger.unit(&uid(name)).await.unwrap().unwrap().state
}

fn on(name: &str, workspaces: &[&str]) -> ledger::Submission {
    let mut submission = submission(name, name);
    submission.shape.workspaces = workspaces.iter().map(|w| rw(w)).collect();
    submission
}

#[tokio::test]
async fn an_idle_holder_is_preempted_and_a_busy_one_is_waited_for_in_order() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let a = on("a", &["shared"]);
    let (a_uid, a_gen) = make_live(&ledger, &a).await;
    take(&ledger, &a_uid, a_gen).await;
    for name in ["b", "c"] {
        let Submitted::Accepted { start: None, deliver: None, .. } = submit(&ledger, &on(name, &["shared"])).await
        else {
            panic!()
        };
        let unit = ledger.unit(&uid(name)).await.unwrap().unwrap();
        assert_eq!((unit.state, unit.waits_for.as_deref()), (UnitState::Cold, Some("workspace shared")));
    }
    let queued = events(&redis, &uid("c")).await;
    assert_eq!((queued[0]["reason"].as_str(), queued[0]["position"].as_u64()), (Some("workspace shared"), Some(1)));
    // A message to the holder that comes after them waits behind them.
    tokio::time::sleep(std::time::Duration::from_millis(3)).await;
    let late = on("a", &["shared"]);
    submit(&ledger, &late).await;
    let Settled::Written { next: None, .. } = settle(&ledger, &a_uid, a_gen, &a.turn).await else {
        panic!("jumped the line")
    };
    assert_eq!(state(&ledger, "a").await, UnitState::Draining { generation: a_gen, reason: DrainReason::Preempted });
    assert_eq!(state(&ledger, "b").await, UnitState::Cold, "not before the holder is gone");
    ledger.exited(&a_uid, a_gen, exit(StopReason::Stopped)).await.unwrap();
    for name in ["b", "c", "a"] {
        let unit = uid(name);
        let generation = next_live(&ledger, &unit).await;
        let others = ["b", "c", "a"].into_iter().filter(|n| *n != name);
        for other in others {
            assert_eq!(state(&ledger, other).await, UnitState::Cold, "{other} while {name} has it");
        }
        let turn = take(&ledger, &unit, generation).await.turn_id;
        settle(&ledger, &unit, generation, &turn).await;
        if name == "a" {
            assert_eq!(turn, late.turn);
            assert_eq!(state(&ledger, "a").await, UnitState::Live { generation });
        } else {
            assert_eq!(state(&ledger, name).await, UnitState::Draining { generation, reason: DrainReason::Preempted });
            ledger.exited(&unit, generation, exit(StopReason::Stopped)).await.unwrap();
        }
    }
    // Now the holder is idle: it is ended in the newcomer's own script.
    let a_gen = state(&ledger, "a").await.generation().unwrap();
    submit(&ledger, &on("b", &["shared"])).await;
    assert_eq!(state(&ledger, "a").await, UnitState::Draining { generation: a_gen, reason: DrainReason::Preempted });
    ledger.exited(&a_uid, a_gen, exit(StopReason::Stopped)).await.unwrap();
    assert_eq!(state(&ledger, "b").await.as_str(), "starting");
}

#[tokio::test]
async fn all_leases_or_none() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let a = on("a", &["one"]);
    let (a_uid, a_gen) = make_live(&ledger, &a).await;
    take(&ledger, &a_uid, a_gen).await;
    submit(&ledger, &on("b", &["two", "one"])).await;
    assert_eq!(state(&ledger, "b").await, UnitState::Cold);
    // The free one of the two was not taken.
    let c = on("c", &["two"]);
    let Submitted::Accepted { start: Some(_), .. } = submit(&ledger, &c).await else {
        panic!("held by one that waits")
    };
    settle(&ledger, &a_uid, a_gen, &a.turn).await;
    ledger.exited(&a_uid, a_gen, exit(StopReason::Stopped)).await.unwrap();
    let unit = ledger.unit(&uid("b")).await.unwrap().unwrap();
    assert_eq!((unit.state, unit.waits_for.as_deref()), (UnitState::Cold, Some("workspace two")));
    let c_gen = next_live(&ledger, &uid("c")).await;
    take(&ledger, &uid("c"), c_gen).await;
    settle(&ledger, &uid("c"), c_gen, &c.turn).await;
    ledger.exited(&uid("c"), c_gen, exit(StopReason::Stopped)).await.unwrap();
    assert_eq!(state(&ledger, "b").await.as_str(), "starting");
}

#[tokio::test]
async fn a_unit_whose_turn_left_a_tree_unclean_keeps_its_lease() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let a = on("a", &["shared"]);
    let (a_uid, a_gen) = make_live(&ledger, &a).await;
    take(&ledger, &a_uid, a_gen).await;
    submit(&ledger, &on("b", &["shared"])).await;
    crash(&ledger, &a_uid, a_gen).await;
    let again = next_live(&ledger, &a_uid).await;
    assert_eq!(state(&ledger, "b").await, UnitState::Cold);
    assert_eq!(take(&ledger, &a_uid, again).await.unclean.len(), 1);
    settle(&ledger, &a_uid, again, &a.turn).await;
    ledger.exited(&a_uid, again, exit(StopReason::Stopped)).await.unwrap();
    let b_gen = next_live(&ledger, &uid("b")).await;
    assert!(take(&ledger, &uid("b"), b_gen).await.unclean.is_empty());
}

#[tokio::test]
async fn readers_need_no_lease_and_a_cancelled_waiter_leaves_the_line() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let a = on("a", &["shared"]);
    let (a_uid, a_gen) = make_live(&ledger, &a).await;
    take(&ledger, &a_uid, a_gen).await;
    let mut reader = on("r", &["shared"]);
    reader.shape.workspaces[0].mode = Mode::Ro;
    assert!(matches!(submit(&ledger, &reader).await, Submitted::Accepted { start: Some(_), .. }));
    let b = on("b", &["shared"]);
    submit(&ledger, &b).await;
    assert_eq!(ledger.cancel(&b.turn).await.unwrap(), Cancel::Settled);
    let unit = ledger.unit(&uid("b")).await.unwrap().unwrap();
    assert_eq!((unit.state, unit.waits_for, unit.waiting), (UnitState::Cold, None, 0));
    settle(&ledger, &a_uid, a_gen, &a.turn).await;
    assert_eq!(state(&ledger, "a").await, UnitState::Live { generation: a_gen }, "nobody waits any more");
}

#[tokio::test]
async fn a_workspace_is_of_the_owner_that_used_it_first() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    submit(&ledger, &on("a", &["shared"])).await;
    for mode in [Mode::Rw, Mode::Ro] {
        let mut theirs = on("a", &["fresh", "shared"]);
        theirs.owner = owner("bob|x/../y@z");
        theirs.shape.workspaces[1].mode = mode;
        let refused = submit(&ledger, &theirs).await;
        assert_eq!(refused, Submitted::WorkspaceNotFound(rw("shared").id));
        // Nothing was changed: neither the unit nor a claim on the other workspace.
        assert!(ledger.units(&theirs.owner, None, 10, 1 << 20).await.unwrap().0.is_empty());
        assert_eq!(ledger.turn(&theirs.turn).await.unwrap(), None);
    }
    assert!(matches!(submit(&ledger, &on("b", &["fresh"])).await, Submitted::Accepted { start: Some(_), .. }));
    // A unit's own workspace is that unit's alone, whoever owns it.
    let own = uid("a").own_workspace();
    assert_eq!(submit(&ledger, &on("b2", &[own.as_str()])).await, Submitted::WorkspaceNotFound(own.clone()));
    assert!(matches!(submit(&ledger, &on("a", &[own.as_str()])).await, Submitted::Accepted { .. }));
}
