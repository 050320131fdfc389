//! Redis goes away and comes back.

use std::time::Duration;

use ledger::{Entry, LedgerError, Mail, Submitted, UnitState};
use tokio::time::Instant;

use crate::support::*;

#[tokio::test]
async fn what_was_accepted_survives_a_kill() {
    let mut redis = Redis::durable().await;
    let ledger = redis.ledger("g1").await;
    let (uid, generation) = make_idle(&ledger, "demo").await;
    let mut accepted = Vec::new();
    for i in 0..50 {
        let turn = submission(if i % 2 == 0 { "demo" } else { "other" }, &format!("p{i}"));
        assert!(matches!(submit(&ledger, &turn).await, Submitted::Accepted { .. }));
        accepted.push(turn);
    }
    emit(&ledger, &uid, generation, &accepted[0].turn, 1).await;
    redis.kill();
    let asked = Instant::now();
    let error = ledger.submit(&submission("demo", "nobody hears this")).await.unwrap_err();
    assert!(matches!(error, LedgerError::Unavailable { .. }), "{error:?}");
    assert!(error.retry_after().is_some());
    assert!(asked.elapsed() < Duration::from_secs(3));
    assert!(ledger.ping().await.is_err());
    redis.restart().await;

    // The scripts are gone with the old process; the ledger reconnects and loads what it needs.
    for turn in &accepted {
        let record = ledger.turn(&turn.turn).await.unwrap().unwrap();
        assert_eq!(record.prompt, turn.prompt);
        assert!(matches!(submit(&ledger, turn).await, Submitted::Accepted { .. }), "asked again, accepted once");
    }
    let unit = ledger.unit(&uid).await.unwrap().unwrap();
    assert_eq!(
        (unit.state, unit.taken, unit.waiting),
        (UnitState::Live { generation }, Some(accepted[0].turn.clone()), 24)
    );
    settle(&ledger, &uid, generation, &accepted[0].turn).await;
}

#[tokio::test]
async fn the_fan_out_outlives_a_restart_without_a_lost_or_doubled_event() {
    let mut redis = Redis::durable().await;
    let ledger = redis.ledger("g1").await;
    let mut mail = ledger.fanout().mail();
    let _fanout = run_fanout(&ledger);
    let first = submission("demo", "hello");
    let (uid, generation) = make_live(&ledger, &first).await;
    take(&ledger, &uid, generation).await;
    let after = ledger.turn(&first.turn).await.unwrap().unwrap().after;
    let mut reader = ledger.fanout().subscribe(&uid, after, &share()).await.unwrap();
    assert!(matches!(next(&mut reader).await, Some(Entry::Event { .. })));
    for seq in 1..=20 {
        emit(&ledger, &uid, generation, &first.turn, seq).await;
    }
    for expected in 1..=10 {
        assert_eq!(next_seq(&mut reader).await.1, expected);
    }
    redis.kill();
    assert!(ledger.fanout().subscribe(&uid, after, &share()).await.is_err());
    redis.restart().await;
    for seq in 21..=40 {
        emit(&ledger, &uid, generation, &first.turn, seq).await;
    }
    for expected in 11..=40 {
        assert_eq!(next_seq(&mut reader).await.1, expected);
    }
    // Readers that wait are to be asked again.
    let relinked = async { while mail.recv().await.unwrap() != Mail::Relink {} };
    tokio::time::timeout(Duration::from_secs(10), relinked).await.unwrap();
}

#[tokio::test]
async fn nobody_there_is_said_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let config = ledger::Config::new(format!("redis+unix://{}/none.sock", dir.path().display()), "g1");
    let error = ledger::Ledger::connect(config).await.unwrap_err();
    assert!(matches!(error, LedgerError::Unavailable { .. }), "{error:?}");
    let error = ledger::Ledger::connect(ledger::Config::new("nonsense", "g1")).await.unwrap_err();
    assert!(matches!(error, LedgerError::Misconfigured { .. }), "{error:?}");
}

#[tokio::test]
async fn out_of_memory_and_replicas_are_passing_and_accept_nothing() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let mut raw = redis.raw().await;
    let turn = submission("demo", "x");
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).exec_async(&mut raw).await.unwrap();
    let error = ledger.submit(&turn).await.unwrap_err();
    assert!(matches!(error, LedgerError::Full(_)), "{error:?}");
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(0).exec_async(&mut raw).await.unwrap();
    assert_eq!(ledger.turn(&turn.turn).await.unwrap(), None);
    redis::cmd("REPLICAOF").arg("127.0.0.1").arg(1).exec_async(&mut raw).await.unwrap();
    let error = ledger.submit(&turn).await.unwrap_err();
    assert!(matches!(error, LedgerError::Unavailable { .. }), "{error:?}");
    redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec_async(&mut raw).await.unwrap();
    assert!(matches!(submit(&ledger, &turn).await, Submitted::Accepted { .. }));

    // A replica that is asked for and absent: accepted, but not yet to be answered for; asked again it is the same turn.
    let mut config = redis.config("g2");
    config.wait_replicas = 1;
    let careful = ledger::Ledger::connect(config).await.unwrap();
    assert!(matches!(careful.submit(&turn).await, Err(LedgerError::Unavailable { .. })));
    assert_eq!(ledger.turns(&uid("demo"), None, 10, 1 << 20).await.unwrap().0.len(), 1);
}

#[tokio::test]
async fn what_is_accepted_with_a_replica_is_on_it_and_without_one_it_is_not_lost() {
    let redis = Redis::start().await;
    let replica = redis.replica().await;
    let ledger = redis.ledger("g1").await;
    let careful = ledger::Ledger::connect(ledger::Config { wait_replicas: 1, ..redis.config("g2") }).await.unwrap();
    let on_replica = async |turn: &contract::TurnId| {
        let mut raw = replica.raw().await;
        let status: Option<String> =
            redis::cmd("HGET").arg(format!("turn:{turn}")).arg("status").query_async(&mut raw).await.unwrap();
        status
    };
    // The replica comes up: until it has everything, nothing is answered for.
    let first = submission("demo", "1");
    let followed = async { while careful.submit(&first).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), followed).await.expect("the replica never follows");
    assert_eq!(on_replica(&first.turn).await.as_deref(), Some("queued"));
    for n in 0..20 {
        let turn = submission("demo", &format!("prompt {n}"));
        assert!(matches!(submit(&careful, &turn).await, Submitted::Accepted { .. }));
        assert_eq!(on_replica(&turn.turn).await.as_deref(), Some("queued"), "the {n}th was answered for too early");
    }

    // Without it the caller is told to come back, in bounded time, and nobody else is held up.
    replica.freeze(true);
    let late = submission("demo", "late");
    let asked = Instant::now();
    let other = submission("other", "1");
    let (refused, free) = tokio::join!(careful.submit(&late), ledger.submit(&other));
    let error = refused.unwrap_err();
    assert!(matches!(error, LedgerError::Unavailable { .. }) && error.retry_after().is_some(), "{error:?}");
    assert!(asked.elapsed() < Duration::from_secs(5));
    assert!(matches!(free, Ok(Submitted::Accepted { .. })), "{free:?}");
    // It is one turn, whoever asks again.
    replica.freeze(false);
    let again = async { while careful.submit(&late).await.is_err() {} };
    tokio::time::timeout(Duration::from_secs(20), again).await.expect("the replica never comes back");
    assert_eq!(on_replica(&late.turn).await.as_deref(), Some("queued"));
    let turns = ledger.turns(&uid("demo"), None, 100, 1 << 20).await.unwrap().0;
    assert_eq!(turns.iter().filter(|t| t.prompt == "late").count(), 1);
    assert_eq!(turns.len(), 22);
}

#[tokio::test]
async fn a_foreign_value_under_a_key_is_called_corrupt() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let turn = submission("demo", "x");
    submit(&ledger, &turn).await;
    let mut raw = redis.raw().await;
    redis::cmd("HSET")
        .arg(format!("turn:{}", turn.turn))
        .arg("prompt")
        .arg(&b"\xff\xfe"[..])
        .exec_async(&mut raw)
        .await
        .unwrap();
    let error = ledger.turn(&turn.turn).await.unwrap_err();
    assert!(matches!(&error, LedgerError::Corrupt { key, .. } if key.starts_with("turn:")), "{error:?}");
    assert_eq!(error.retry_after(), None);
}

#[tokio::test]
async fn drain_nudges_wake_the_waiter() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let mut nudges = ledger.drain_nudges();
    assert!(nudges.wait(Duration::from_secs(5)).await.unwrap(), "the first look is free");
    assert!(!nudges.wait(Duration::from_millis(20)).await.unwrap());
    let (uid, _) = make_idle(&ledger, "demo").await;
    let (woken, drained) = tokio::join!(nudges.wait(Duration::from_secs(10)), ledger.drain_unit(&uid));
    assert!(woken.unwrap() && drained.unwrap().is_some());
    assert!(!nudges.wait(Duration::from_millis(20)).await.unwrap());
}
