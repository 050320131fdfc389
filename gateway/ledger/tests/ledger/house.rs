//! What reapers ask for.

use std::time::Duration;

use contract::{Generation, StopReason, WorkloadId};
use ledger::{DrainReason, Erase, Ledger, Stray, StrayKind, Submitted, Tracked, UnitState};

use crate::support::*;

const LEASE: Duration = Duration::from_secs(60);

fn workload(name: &str, generation: Generation) -> WorkloadId {
    WorkloadId { uid: uid(name), generation }
}

async fn starting(ledger: &Ledger, name: &str) -> Generation {
    match submit(ledger, &submission(name, "first")).await {
        Submitted::Accepted { start: Some(job), .. } => job.generation,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_stray_is_due_after_its_grace_and_then_leased() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("r1").await;
    let other = redis.ledger("r2").await;
    let (live, draining) = (make_idle(&ledger, "live").await.1, make_idle(&ledger, "draining").await.1);
    let gone = make_idle(&ledger, "gone").await.1;
    let begun = starting(&ledger, "starting").await;
    for (name, generation) in [("draining", draining), ("gone", gone)] {
        assert!(ledger.begin_drain(&uid(name), generation, DrainReason::Stopped, None).await.unwrap());
    }
    ledger.exited(&uid("gone"), gone, exit(StopReason::Stopped)).await.unwrap();
    let current = [workload("live", live), workload("draining", draining), workload("starting", begun)];
    let over = [workload("live", Generation(live.0 - 1)), workload("gone", gone), workload("never", gone)];
    let listed: Vec<_> = current.into_iter().chain(over.clone()).collect();
    let ask = async |ledger: &Ledger, grace| {
        ledger.strays(StrayKind::Workloads, &listed, Duration::from_millis(grace), LEASE).await.unwrap()
    };
    let all = |due| over.clone().map(|workload| Stray { workload, due }).to_vec();
    assert_eq!(ask(&ledger, 30_000).await, all(false));
    // The grace is the one of the first look; another kind has a grace of its own.
    assert_eq!(ask(&other, 0).await, all(false));
    let folders = ledger.strays(StrayKind::Folders, &over[..1], Duration::ZERO, LEASE).await.unwrap();
    assert_eq!(folders, [Stray { workload: over[0].clone(), due: true }]);
    // What is not named begins anew, and what is due is one reaper's alone.
    assert_eq!(ledger.strays(StrayKind::Workloads, &[], LEASE, LEASE).await.unwrap(), []);
    assert_eq!(ask(&ledger, 0).await, all(true));
    assert_eq!(ask(&other, 0).await, all(false));
}

#[tokio::test]
async fn what_has_begun_is_tracked_until_it_drains() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("r1").await;
    let live = make_idle(&ledger, "live").await.1;
    let busy = make_live(&ledger, &submission("busy", "first")).await.1;
    let begun = starting(&ledger, "starting").await;
    let (drained, generation) = make_idle(&ledger, "draining").await;
    ledger.begin_drain(&drained, generation, DrainReason::Stopped, None).await.unwrap();
    let mut tracked = ledger.tracked().await.unwrap();
    let expected = [("live", live, true), ("busy", busy, true), ("starting", begun, false)];
    let mut expected = expected.map(|(name, at, live)| Tracked { workload: workload(name, at), live });
    for list in [&mut tracked[..], &mut expected] {
        list.sort_by_key(|t| t.workload.to_string());
    }
    assert_eq!(tracked, expected);
}

#[tokio::test]
async fn a_period_is_one_reapers() {
    let redis = Redis::start().await;
    let (one, two) = (redis.ledger("r1").await, redis.ledger("r2").await);
    let long = Duration::from_secs(60);
    assert!(one.claim_period("a", long).await.unwrap());
    assert!(!two.claim_period("a", long).await.unwrap());
    assert!(!one.claim_period("a", long).await.unwrap());
    assert!(two.claim_period("b", Duration::from_millis(20)).await.unwrap());
    tokio::time::sleep(Duration::from_millis(30)).await;
    assert!(one.claim_period("b", long).await.unwrap());
}

#[tokio::test]
async fn an_abandoned_erasure_is_picked_when_the_unit_is_cold() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("r1").await;
    let (gone, generation) = make_idle(&ledger, "gone").await;
    make_idle(&ledger, "other").await;
    assert_eq!(ledger.erase(&gone, true).await.unwrap(), Erase::Draining);
    let soon = Duration::from_millis(1);
    tokio::time::sleep(soon * 5).await;
    assert_eq!(ledger.pick_erasures(soon, 10).await.unwrap(), []);
    ledger.exited(&gone, generation, exit(StopReason::Stopped)).await.unwrap();
    tokio::time::sleep(soon * 5).await;
    assert_eq!(ledger.pick_erasures(LEASE, 10).await.unwrap(), [], "it was gone on with just now");
    let picked = ledger.pick_erasures(soon, 10).await.unwrap();
    assert_eq!((picked.len(), &picked[0].uid, picked[0].keep_workspace), (1, &gone, true));
    ledger.forget(&gone).await.unwrap();
    tokio::time::sleep(soon * 5).await;
    assert_eq!(ledger.pick_erasures(soon, 10).await.unwrap(), []);
}

#[tokio::test]
async fn a_line_behind_a_holder_that_was_lost_moves_on() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("r1").await;
    let on_shared = |name: &str| {
        let mut submission = submission(name, "x");
        submission.shape.workspaces = vec![rw("shared")];
        submission
    };
    let holder = on_shared("holder");
    let (holder_uid, generation) = make_live(&ledger, &holder).await;
    take(&ledger, &holder_uid, generation).await;
    submit(&ledger, &on_shared("first")).await;
    submit(&ledger, &on_shared("second")).await;
    assert_eq!(ledger.tend_lines(10).await.unwrap(), [], "a busy holder is waited for");
    // As if the newest part of the ledger had been lost.
    let mut raw = redis.raw().await;
    redis::cmd("DEL")
        .arg(ledger::keys::unit(&holder_uid))
        .arg(holder_uid.in_stream())
        .exec_async(&mut raw)
        .await
        .unwrap();
    let moved = ledger.tend_lines(10).await.unwrap();
    assert_eq!((moved.len(), moved[0].workspace.as_str(), &moved[0].uid), (1, "shared", &uid("first")));
    next_live(&ledger, &uid("first")).await;
    assert_eq!(ledger.unit(&uid("second")).await.unwrap().unwrap().state, UnitState::Cold);
    assert_eq!(ledger.tend_lines(10).await.unwrap(), []);
}

#[tokio::test]
async fn a_start_that_waits_says_why_once_and_is_not_given_up() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let mut turn = submission("demo", "x");
    turn.policy.start_timeout_ms = 1;
    let Submitted::Accepted { uid, start: Some(job), .. } = submit(&ledger, &turn).await else { panic!() };
    for _ in 0..2 {
        assert!(ledger.start_waits(&uid, job.generation, "disk", LEASE).await.unwrap());
    }
    assert_eq!(ledger.due(10).await.unwrap(), []);
    let events = events(&redis, &uid).await;
    assert_eq!((types(&events), events[0]["reason"].as_str()), (vec!["queued"], Some("disk")));
    // Nothing waits any more: there is nothing to start.
    ledger.cancel(&turn.turn).await.unwrap();
    assert!(!ledger.start_waits(&uid, job.generation, "disk", LEASE).await.unwrap());
    assert!(matches!(ledger.unit(&uid).await.unwrap().unwrap().state, UnitState::Draining { .. }));
}

#[tokio::test]
async fn a_drain_job_is_its_reapers_for_as_long_as_that_says_so() {
    let redis = Redis::start().await;
    let (one, two) = (redis.ledger("r1").await, redis.ledger("r2").await);
    let (uid, generation) = make_idle(&one, "demo").await;
    one.drain_unit(&uid).await.unwrap();
    let short = Duration::from_millis(1);
    assert_eq!(one.pick_drains(LEASE, 10).await.unwrap().len(), 1);
    assert_eq!(two.pick_drains(LEASE, 10).await.unwrap(), []);
    assert!(!two.renew_drain(&uid, generation, LEASE).await.unwrap(), "it is not its own");
    assert!(one.renew_drain(&uid, generation, short).await.unwrap());
    // Its reaper was killed: the lease is over before anybody would have renewed it.
    let picked = async {
        loop {
            let jobs = two.pick_drains(LEASE, 10).await.unwrap();
            if let [job] = &jobs[..] {
                return job.generation;
            }
        }
    };
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), picked).await.unwrap(), generation);
    // It was only stopped, and wakes.
    assert!(!one.renew_drain(&uid, generation, short).await.unwrap());
    assert!(two.exited(&uid, generation, exit(StopReason::Stopped)).await.unwrap());
    assert!(!two.renew_drain(&uid, generation, LEASE).await.unwrap(), "it is done");
}

#[tokio::test]
async fn a_strays_lease_is_renewed_while_it_is_removed() {
    let redis = Redis::start().await;
    let (one, two) = (redis.ledger("r1").await, redis.ledger("r2").await);
    let never = workload("never", Generation(7));
    let due = async |ledger: &Ledger| {
        let found = ledger.strays(StrayKind::Workloads, std::slice::from_ref(&never), Duration::ZERO, LEASE).await;
        found.unwrap()[0].due
    };
    assert!(due(&one).await);
    assert!(!due(&two).await);
    assert!(one.renew_stray(StrayKind::Workloads, &never, Duration::from_millis(1)).await.unwrap());
    let again = async { while !due(&two).await {} };
    tokio::time::timeout(Duration::from_secs(10), again).await.unwrap();
    assert_eq!(one.strays(StrayKind::Workloads, &[], LEASE, LEASE).await.unwrap(), []);
    assert!(!one.renew_stray(StrayKind::Workloads, &never, LEASE).await.unwrap(), "it is gone");
}
