//! A workspace of one owner's, used by another one.

use contract::{FailReason, Mode, Owner, StopReason, UnitId, WorkspaceId};
use ledger::{Erase, Grant, Granting, Ledger, Submission, Submitted, Taken, TurnStatus, UnitState};

use crate::support::*;

fn shared() -> WorkspaceId {
    WorkspaceId::parse("shared").unwrap()
}

/// A turn of this owner's unit `name` on a workspace.
fn of(who: &str, name: &str, workspace: &WorkspaceId, mode: Mode) -> Submission {
    let mut submission = submission(name, "p");
    submission.owner = owner(who);
    submission.shape.workspaces = vec![contract::WorkspaceAt { id: workspace.clone(), mode }];
    submission
}

fn uid_of(submission: &Submission) -> UnitId {
    UnitId::of(&submission.owner, &submission.name)
}

/// Ann has used `shared`; her unit is cold again.
async fn anns(ledger: &Ledger) -> Owner {
    let first = of("ann", "a", &shared(), Mode::Rw);
    let (uid, generation) = make_live(ledger, &first).await;
    take(ledger, &uid, generation).await;
    settle(ledger, &uid, generation, &first.turn).await;
    ledger.drain_unit(&uid).await.unwrap();
    assert!(ledger.exited(&uid, generation, exit(StopReason::Stopped)).await.unwrap());
    owner("ann")
}

#[tokio::test]
async fn a_grant_opens_a_workspace_at_its_mode() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g").await;
    let (ann, bob) = (anns(&ledger).await, owner("bob"));
    let (reads, writes) = (of("bob", "r", &shared(), Mode::Ro), of("bob", "w", &shared(), Mode::Rw));
    assert_eq!(submit(&ledger, &reads).await, Submitted::WorkspaceNotFound(shared()));
    assert_eq!(ledger.workspace_access(&shared(), &bob).await.unwrap().unwrap().granted, None);

    // Only its owner grants it.
    assert_eq!(ledger.grant(&shared(), &bob, &bob, Mode::Rw, 9).await.unwrap(), Granting::NoWorkspace);
    assert_eq!(ledger.grant(&shared(), &ann, &bob, Mode::Ro, 1).await.unwrap(), Granting::Done);
    assert_eq!(ledger.grant(&shared(), &ann, &owner("eve"), Mode::Ro, 1).await.unwrap(), Granting::Full);
    assert_eq!(ledger.grants(&shared(), &bob).await.unwrap(), None);
    let listed = ledger.grants(&shared(), &ann).await.unwrap().unwrap();
    assert_eq!(listed, [Grant { to: bob.clone(), mode: Mode::Ro }]);
    assert_eq!(ledger.workspace_access(&shared(), &bob).await.unwrap().unwrap().granted, Some(Mode::Ro));

    assert_eq!(submit(&ledger, &writes).await, Submitted::WorkspaceReadOnly(shared()));
    assert!(matches!(submit(&ledger, &reads).await, Submitted::Accepted { .. }));
    assert_eq!(ledger.grant(&shared(), &ann, &bob, Mode::Rw, 1).await.unwrap(), Granting::Done);
    assert!(matches!(submit(&ledger, &writes).await, Submitted::Accepted { .. }));
    // It is still hers.
    assert_eq!(ledger.workspace_owner(&shared()).await.unwrap(), Some(ann));
}

#[tokio::test]
async fn a_revoked_grant_ends_the_worker_and_every_turn_that_needs_it() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g").await;
    let (ann, bob) = (anns(&ledger).await, owner("bob"));
    ledger.grant(&shared(), &ann, &bob, Mode::Rw, 9).await.unwrap();
    let (runs, waits) = (of("bob", "w", &shared(), Mode::Rw), of("bob", "w", &shared(), Mode::Rw));
    let uid = uid_of(&runs);
    let (_, generation) = make_live(&ledger, &runs).await;
    take(&ledger, &uid, generation).await;
    submit(&ledger, &waits).await;
    // Ann stands in line for her own workspace.
    let hers = of("ann", "a", &shared(), Mode::Rw);
    submit(&ledger, &hers).await;

    assert_eq!(ledger.revoke_grant(&shared(), &ann, &bob).await.unwrap(), Granting::Done);
    assert_eq!(ledger.revoke_grant(&shared(), &ann, &bob).await.unwrap(), Granting::NoGrant);
    let unit = ledger.unit(&uid).await.unwrap().unwrap();
    assert!(matches!(unit.state, UnitState::Draining { .. }), "{unit:?}");
    assert_eq!(ledger.take(&uid, generation, 1, None).await.unwrap(), Taken::Stop);
    assert!(ledger.exited(&uid, generation, exit(StopReason::Stopped)).await.unwrap());

    for turn in [&runs.turn, &waits.turn] {
        let record = ledger.turn(turn).await.unwrap().unwrap();
        assert_eq!((record.status, record.reason), (TurnStatus::Failed, Some(FailReason::WorkspaceUnusable)));
        assert!(record.detail.as_deref().is_some_and(|d| d.contains("shared")), "{record:?}");
    }
    let unit = ledger.unit(&uid).await.unwrap().unwrap();
    assert_eq!((unit.state, unit.waiting), (UnitState::Cold, 0));
    // The lease went to who waited, and she is told what was left behind.
    let generation = next_live(&ledger, &uid_of(&hers)).await;
    let told = take(&ledger, &uid_of(&hers), generation).await;
    assert_eq!(told.unclean.get(&shared()), Some(&runs.turn));
}

#[tokio::test]
async fn a_turn_that_waits_is_told_when_it_would_start() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g").await;
    let (ann, bob) = (anns(&ledger).await, owner("bob"));
    ledger.grant(&shared(), &ann, &bob, Mode::Rw, 9).await.unwrap();
    // Ann's unit holds the lease; bob's stands in line.
    let hers = of("ann", "a", &shared(), Mode::Rw);
    let (uid, generation) = make_live(&ledger, &hers).await;
    take(&ledger, &uid, generation).await;
    let his = of("bob", "w", &shared(), Mode::Rw);
    submit(&ledger, &his).await;
    assert!(ledger.unit(&uid_of(&his)).await.unwrap().unwrap().waits_for.is_some());
    // Less than it asked for is as good as nothing.
    ledger.grant(&shared(), &ann, &bob, Mode::Ro, 9).await.unwrap();
    settle(&ledger, &uid, generation, &hers.turn).await;
    assert!(ledger.exited(&uid, generation, exit(StopReason::Stopped)).await.unwrap());
    let record = ledger.turn(&his.turn).await.unwrap().unwrap();
    assert_eq!(record.reason, Some(FailReason::WorkspaceUnusable), "{record:?}");
    assert_eq!(ledger.unit(&uid_of(&his)).await.unwrap().unwrap().state, UnitState::Cold);
}

#[tokio::test]
async fn less_than_before_ends_only_workers_that_have_more() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g").await;
    let (ann, bob) = (anns(&ledger).await, owner("bob"));
    ledger.grant(&shared(), &ann, &bob, Mode::Rw, 9).await.unwrap();
    let (reads, writes) = (of("bob", "r", &shared(), Mode::Ro), of("bob", "w", &shared(), Mode::Rw));
    make_live(&ledger, &reads).await;
    make_live(&ledger, &writes).await;
    let elsewhere = of("bob", "own", &WorkspaceId::parse("bobs").unwrap(), Mode::Rw);
    make_live(&ledger, &elsewhere).await;
    ledger.grant(&shared(), &ann, &bob, Mode::Ro, 9).await.unwrap();
    for (submission, state) in [(&reads, "live"), (&writes, "draining"), (&elsewhere, "live")] {
        let unit = ledger.unit(&uid_of(submission)).await.unwrap().unwrap();
        assert_eq!(unit.state.as_str(), state, "{}", unit.name);
    }
}

#[tokio::test]
async fn a_units_own_workspace_is_erased_when_nobody_mounts_it() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g").await;
    let (ann, bob) = (owner("ann"), owner("bob"));
    let unit = submission("own", "p");
    let uid = uid_of(&unit);
    let own = uid.own_workspace();
    let mut first = unit.clone();
    first.shape.workspaces = vec![contract::WorkspaceAt { id: own.clone(), mode: Mode::Rw }];
    let (_, generation) = make_live(&ledger, &first).await;
    ledger.cancel(&first.turn).await.unwrap();
    ledger.drain_unit(&uid).await.unwrap();
    assert!(ledger.exited(&uid, generation, exit(StopReason::Stopped)).await.unwrap());

    // Another unit of hers may not have it, bob's may once it is granted.
    let other = of("ann", "other", &own, Mode::Ro);
    assert_eq!(submit(&ledger, &other).await, Submitted::WorkspaceNotFound(own.clone()));
    ledger.grant(&own, &ann, &bob, Mode::Ro, 9).await.unwrap();
    let his = of("bob", "r", &own, Mode::Ro);
    let (his_uid, his_generation) = make_live(&ledger, &his).await;

    assert_eq!(ledger.erase(&uid, false).await.unwrap(), Erase::Draining);
    assert_eq!(ledger.unit(&his_uid).await.unwrap().unwrap().state.as_str(), "draining");
    assert_eq!(ledger.workspace_access(&own, &bob).await.unwrap().unwrap().granted, None);
    assert_eq!(ledger.erase(&uid, false).await.unwrap(), Erase::Draining, "his worker is there until it is gone");
    assert!(ledger.exited(&his_uid, his_generation, exit(StopReason::Stopped)).await.unwrap());
    assert!(matches!(ledger.erase(&uid, false).await.unwrap(), Erase::Begun { .. }));
    ledger.forget(&uid).await.unwrap();
    let mut raw = redis.raw().await;
    let left: bool = redis::cmd("EXISTS").arg(format!("ws:{own}:grants")).query_async(&mut raw).await.unwrap();
    assert!(!left);
}
