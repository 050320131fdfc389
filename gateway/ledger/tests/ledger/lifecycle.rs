//! Cold → Starting → Live → Draining → Cold, and what refuses to go that way.

use std::time::Duration;

use contract::{FailReason, Generation, StopReason};
use ledger::{DeadlineKind, DrainReason, Ready, StartFailed, Submitted, Taken, TurnStatus, UnitState};

use crate::support::*;

#[tokio::test]
async fn a_life_from_cold_to_cold() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let first = submission("demo", "hello");
    let Submitted::Accepted { uid, position: 0, start: Some(job), deliver: None, .. } = submit(&ledger, &first).await
    else {
        panic!("not accepted")
    };
    assert_eq!((&job.shape, job.policy, &job.owner), (&first.shape, first.policy, &first.owner));
    assert_eq!(job.generation.0, job.accepted_ms);
    // Leased to whoever submitted.
    assert!(ledger.pick_starts(Duration::from_secs(5), 10).await.unwrap().is_empty());
    assert!(ledger.renew_start(&uid, job.generation, Duration::from_secs(5)).await.unwrap());
    assert!(!redis.ledger("g2").await.renew_start(&uid, job.generation, Duration::from_secs(5)).await.unwrap());

    let generation = job.generation;
    assert_eq!(ledger.take(&uid, generation, 1, None).await.unwrap(), Taken::Nothing);
    assert_eq!(ledger.ready(&uid, generation, Some("n"), 12).await.unwrap(), Ready::Live);
    assert_eq!(ledger.ready(&uid, generation, Some("n"), 12).await.unwrap(), Ready::Live);
    assert_eq!(ledger.ready(&uid, generation, Some("other"), 12).await.unwrap(), Ready::AlreadyClaimed);
    assert_eq!(ledger.ready(&uid, generation, None, 12).await.unwrap(), Ready::AlreadyClaimed);
    let current = ledger.current(&uid, generation).await.unwrap();
    assert_eq!((current.claimed, current.nonce_hash.as_deref()), (true, Some("n")));

    let turn = take(&ledger, &uid, generation).await;
    assert_eq!((turn.turn_id, turn.attempt, turn.start), (first.turn.clone(), 1, contract::Start::Cold));
    settle(&ledger, &uid, generation, &first.turn).await;
    let record = ledger.turn(&first.turn).await.unwrap().unwrap();
    assert_eq!(record.status, TurnStatus::Completed);
    assert_eq!(record.result.unwrap()["reply"], "yes");
    assert!(record.first_event > record.after && record.last_event.unwrap() > record.first_event);

    assert_eq!(ledger.drain_unit(&uid).await.unwrap(), Some(generation));
    assert_eq!(ledger.drain_unit(&uid).await.unwrap(), Some(generation));
    let jobs = ledger.pick_drains(Duration::from_secs(5), 10).await.unwrap();
    assert_eq!((jobs.len(), jobs[0].generation, jobs[0].reason), (1, generation, StopReason::Stopped));
    assert!(ledger.pick_drains(Duration::from_secs(5), 10).await.unwrap().is_empty());
    assert!(ledger.exited(&uid, generation, exit(StopReason::Stopped)).await.unwrap());
    assert!(!ledger.exited(&uid, generation, exit(StopReason::Stopped)).await.unwrap());
    let unit = ledger.unit(&uid).await.unwrap().unwrap();
    assert_eq!((unit.state, unit.last_generation, unit.waiting), (UnitState::Cold, Some(generation), 0));
    assert_eq!(types(&events(&redis, &uid).await), ["worker-ready", "done", "turn-complete", "worker-exit"]);
    assert_eq!(ledger.drain_unit(&uid).await.unwrap(), None);

    let mut raw = redis.raw().await;
    let left: Vec<String> = redis::cmd("ZRANGE").arg("deadlines").arg(0).arg(-1).query_async(&mut raw).await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_stale_generation_changes_nothing() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let first = submission("demo", "hello");
    let (uid, old) = make_live(&ledger, &first).await;
    take(&ledger, &uid, old).await;
    crash(&ledger, &uid, old).await;
    let new = next_live(&ledger, &uid).await;
    assert!(new > old);
    take(&ledger, &uid, new).await;
    let before =
        (ledger.unit(&uid).await.unwrap(), ledger.turn(&first.turn).await.unwrap(), events(&redis, &uid).await);

    assert_eq!(ledger.take(&uid, old, 9, None).await.unwrap(), Taken::Over);
    assert_eq!(ledger.ready(&uid, old, None, 1).await.unwrap(), Ready::Over);
    assert_eq!(emit(&ledger, &uid, old, &first.turn, 1).await, ledger::Emitted::Over);
    assert_eq!(ledger.settle(&uid, old, &first.turn, well()).await.unwrap(), ledger::Settled::Over);
    assert!(!ledger.begin_drain(&uid, old, DrainReason::Failed, None).await.unwrap());
    assert!(!ledger.begin_idle_drain(&uid, old).await.unwrap());
    assert!(!ledger.exited(&uid, old, exit(StopReason::Failed)).await.unwrap());
    assert_eq!(ledger.start_failed(&uid, old, "x", true).await.unwrap(), StartFailed::Over);
    assert_eq!(ledger.restart(&uid, old, Generation(1)).await.unwrap(), None);
    assert!(!ledger.renew_start(&uid, old, Duration::from_secs(1)).await.unwrap());
    ledger.unlink(&uid, old, 1).await.unwrap();
    // Nor does a right generation that is not draining exit.
    assert!(!ledger.exited(&uid, new, exit(StopReason::Failed)).await.unwrap());
    assert_eq!(ledger.current(&uid, old).await.unwrap().standing, ledger::Standing::Over);

    let after = (ledger.unit(&uid).await.unwrap(), ledger.turn(&first.turn).await.unwrap(), events(&redis, &uid).await);
    assert_eq!(before, after);
}

#[tokio::test]
async fn an_idle_unit_drains_by_redis_clock_only_and_a_submit_saves_it() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let mut first = submission("demo", "hello");
    first.policy.idle_timeout_ms = 150;
    let (uid, generation) = make_live(&ledger, &first).await;
    assert!(!ledger.begin_idle_drain(&uid, generation).await.unwrap(), "a turn waits");
    take(&ledger, &uid, generation).await;
    assert!(!ledger.begin_idle_drain(&uid, generation).await.unwrap(), "a turn is taken");
    settle(&ledger, &uid, generation, &first.turn).await;
    assert!(!ledger.begin_idle_drain(&uid, generation).await.unwrap(), "not idle for long enough");
    assert!(ledger.due(10).await.unwrap().is_empty());
    let due = tokio::time::timeout(Duration::from_secs(5), async {
        loop {
            let due = ledger.due(10).await.unwrap();
            if !due.is_empty() {
                return due;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    let due = due.await.unwrap();
    assert_eq!((due.len(), due[0].kind, &due[0].uid, due[0].generation), (1, DeadlineKind::Idle, &uid, generation));

    // A message in the last moment: the drain that was due finds the unit busy.
    let second = submission("demo", "again");
    let Submitted::Accepted { deliver: Some(delivery), .. } = submit(&ledger, &second).await else {
        panic!("not delivered")
    };
    assert_eq!(delivery.turn.start, contract::Start::Warm);
    assert!(!ledger.begin_idle_drain(&uid, generation).await.unwrap());
    assert!(ledger.due(10).await.unwrap().is_empty());
    settle(&ledger, &uid, generation, &second.turn).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(ledger.begin_idle_drain(&uid, generation).await.unwrap());

    // And one just after it: it waits for the next generation.
    let third = submission("demo", "late");
    let Submitted::Accepted { deliver: None, start: None, .. } = submit(&ledger, &third).await else {
        panic!("given to a draining one")
    };
    assert_eq!(ledger.take(&uid, generation, 1, None).await.unwrap(), Taken::Stop);
    assert!(ledger.exited(&uid, generation, exit(StopReason::IdleTimeout)).await.unwrap());
    let next = next_live(&ledger, &uid).await;
    assert_eq!(take(&ledger, &uid, next).await.turn_id, third.turn);
}

#[tokio::test]
async fn submits_race_with_an_idle_drain_and_none_is_lost() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    for round in 0..20 {
        let name = format!("unit{round}");
        let mut first = submission(&name, "hello");
        first.policy.idle_timeout_ms = 0;
        let (uid, generation) = make_live(&ledger, &first).await;
        take(&ledger, &uid, generation).await;
        settle(&ledger, &uid, generation, &first.turn).await;
        let second = submission(&name, "again");
        let (submitted, drained) = tokio::join!(ledger.submit(&second), ledger.begin_idle_drain(&uid, generation));
        let delivered = matches!(submitted.unwrap(), Submitted::Accepted { deliver: Some(_), .. });
        assert_ne!(delivered, drained.unwrap(), "either the turn or the end, never both");
        if !delivered {
            assert!(ledger.exited(&uid, generation, exit(StopReason::IdleTimeout)).await.unwrap());
            let next = next_live(&ledger, &uid).await;
            assert_eq!(take(&ledger, &uid, next).await.turn_id, second.turn);
        }
    }
}

#[tokio::test]
async fn failed_starts_back_off_and_settle_the_head_with_the_reason() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let first = submission("demo", "hello");
    let second = submission("demo", "second");
    let Submitted::Accepted { uid, start: Some(job), .. } = submit(&ledger, &first).await else { panic!() };
    submit(&ledger, &second).await;
    let failed = ledger.start_failed(&uid, job.generation, "engine is away", true).await.unwrap();
    let StartFailed::Retrying { after } = failed else { panic!("{failed:?}") };
    assert!(after >= Duration::from_millis(100));
    // What was begun is removed first.
    assert_eq!(ledger.pick_drains(Duration::from_secs(5), 10).await.unwrap()[0].reason, StopReason::StartFailed);
    assert!(ledger.exited(&uid, job.generation, exit(StopReason::StartFailed)).await.unwrap());
    assert!(ledger.pick_starts(Duration::from_secs(5), 10).await.unwrap().is_empty(), "the back-off has not passed");
    let jobs = tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let jobs = ledger.pick_starts(Duration::from_secs(5), 10).await.unwrap();
            if !jobs.is_empty() {
                return jobs;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let job = jobs.await.unwrap().remove(0);
    assert_eq!(job.failed_starts, 1);
    let unit = ledger.unit(&uid).await.unwrap().unwrap();
    assert_eq!((unit.failed_starts, unit.start_detail.as_deref()), (1, Some("engine is away")));

    let failed = ledger.start_failed(&uid, job.generation, "no such image", true).await.unwrap();
    assert_eq!(failed, StartFailed::Settled { turn: first.turn.clone() });
    let record = ledger.turn(&first.turn).await.unwrap().unwrap();
    assert_eq!(
        (record.status, record.reason, record.detail.as_deref()),
        (TurnStatus::Failed, Some(FailReason::StartFailed), Some("no such image"))
    );
    // The next turn gets its own tries; one that cannot help is made once.
    ledger.exited(&uid, job.generation, exit(StopReason::StartFailed)).await.unwrap();
    let generation = ledger.unit(&uid).await.unwrap().unwrap().state.generation().unwrap();
    let failed = ledger.start_failed(&uid, generation, "unknown profile", false).await.unwrap();
    assert_eq!(failed, StartFailed::Settled { turn: second.turn });
    ledger.exited(&uid, generation, exit(StopReason::StartFailed)).await.unwrap();
    assert_eq!(ledger.unit(&uid).await.unwrap().unwrap().state, UnitState::Cold);
    let events = events(&redis, &uid).await;
    let last: Vec<_> = events.iter().filter(|e| e["type"] == "turn-failed").collect();
    assert!(last.len() == 2 && last.iter().all(|e| e["final"] == true && e["attempts"] == 0));
}

#[tokio::test]
async fn workers_that_die_before_they_take_a_turn_are_not_started_for_ever() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let first = submission("demo", "hello");
    let (uid, generation) = make_live(&ledger, &first).await;
    crash(&ledger, &uid, generation).await;
    let second = ledger.unit(&uid).await.unwrap().unwrap().state.generation().unwrap();
    crash(&ledger, &uid, second).await;
    let record = ledger.turn(&first.turn).await.unwrap().unwrap();
    assert_eq!(record.reason, Some(FailReason::StartFailed));
    assert!(record.detail.unwrap().contains("before it took a turn"));
    assert_eq!(ledger.unit(&uid).await.unwrap().unwrap().state, UnitState::Cold);
}

#[tokio::test]
async fn a_refused_generation_is_started_anew_above_the_highest() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let Submitted::Accepted { uid, start: Some(job), .. } = submit(&ledger, &submission("demo", "x")).await else {
        panic!()
    };
    let highest = Generation(job.generation.0 + 1_000_000);
    let again = ledger.restart(&uid, job.generation, highest).await.unwrap().unwrap();
    assert_eq!(again.generation.0, highest.0 + 1);
    assert_eq!(ledger.ready(&uid, job.generation, None, 0).await.unwrap(), Ready::Over);
    assert_eq!(ledger.ready(&uid, again.generation, None, 0).await.unwrap(), Ready::Live);
}

#[tokio::test]
async fn start_and_lifetime_deadlines_are_due_once_and_only_while_they_matter() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let mut slow = submission("slow", "x");
    slow.policy.start_timeout_ms = 0;
    let Submitted::Accepted { uid, start: Some(job), .. } = submit(&ledger, &slow).await else { panic!() };
    assert_eq!(ledger.due(10).await.unwrap()[0].kind, DeadlineKind::Start);
    assert!(ledger.begin_drain(&uid, job.generation, DrainReason::StartTimedOut, None).await.unwrap());
    assert!(ledger.due(10).await.unwrap().is_empty());
    assert_eq!(ledger.unit(&uid).await.unwrap().unwrap().failed_starts, 1);

    let mut old = submission("old", "x");
    old.policy.max_lifetime_ms = 0;
    let (uid, generation) = make_live(&ledger, &old).await;
    let due = ledger.due(10).await.unwrap();
    assert_eq!((due.len(), due[0].kind, &due[0].uid), (1, DeadlineKind::Lifetime, &uid));
    assert!(ledger.begin_drain(&uid, generation, DrainReason::MaxLifetime, None).await.unwrap());
    assert!(ledger.due(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn erasing_ends_the_worker_settles_what_waits_and_forgets() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let (uid, generation) = make_idle(&ledger, "demo").await;
    assert_eq!(ledger.erase(&uid, false).await.unwrap(), ledger::Erase::Draining);
    assert_eq!(submit(&ledger, &submission("demo", "late")).await, Submitted::Erasing);
    ledger.forget(&uid).await.unwrap();
    assert!(ledger.unit(&uid).await.unwrap().unwrap().erasing, "not before it is cold");
    ledger.exited(&uid, generation, exit(StopReason::Stopped)).await.unwrap();
    assert_eq!(ledger.erase(&uid, false).await.unwrap(), ledger::Erase::Begun { keep_workspace: false });
    ledger.forget(&uid).await.unwrap();
    assert_eq!(ledger.unit(&uid).await.unwrap(), None);
    assert_eq!(ledger.erase(&uid, false).await.unwrap(), ledger::Erase::Unknown);
    assert!(ledger.units(&owner("ann"), None, 10, 1 << 20).await.unwrap().0.is_empty());

    // A busy one: its turn is settled when the generation is gone. A later unit of that name never repeats a generation.
    let busy = submission("demo", "busy");
    let (uid, again) = make_live(&ledger, &busy).await;
    assert!(again > generation);
    take(&ledger, &uid, again).await;
    assert_eq!(ledger.erase(&uid, true).await.unwrap(), ledger::Erase::Draining);
    ledger.exited(&uid, again, exit(StopReason::Stopped)).await.unwrap();
    assert_eq!(ledger.turn(&busy.turn).await.unwrap().unwrap().reason, Some(FailReason::Erased));
    assert_eq!(ledger.erase(&uid, true).await.unwrap(), ledger::Erase::Begun { keep_workspace: true });
}
