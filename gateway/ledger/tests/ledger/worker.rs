//! Deliveries, events and settlements.

use contract::{FailReason, StopReason, Tell, TurnId, WorkspaceId};
use ledger::{
    Cancel, DeadlineKind, DrainReason, Emit, Emitted, Mail, Settle, Settled, StreamId, Submitted, Taken, TurnStatus,
    UnitState,
};
use serde_json::{Value, json};

use crate::support::*;

async fn commands(redis: &Redis) -> u64 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query_async(&mut redis.raw().await).await.unwrap();
    let calls = |line: &str| line.split("calls=").nth(1)?.split(',').next()?.parse::<u64>().ok();
    let names = ["evalsha", "eval:", "eval_ro", "script", "multi", "exec", "wait"];
    stats.lines().filter(|l| names.iter().any(|n| l.starts_with(&format!("cmdstat_{n}")))).filter_map(calls).sum()
}

#[tokio::test]
async fn a_warm_submit_is_one_round_trip() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let (uid, generation) = make_idle(&ledger, "demo").await;
    let before = commands(&redis).await;
    let second = submission("demo", "again");
    let Submitted::Accepted { deliver: Some(delivery), after, .. } = submit(&ledger, &second).await else {
        panic!("not delivered")
    };
    assert_eq!(commands(&redis).await - before, 1);
    assert_eq!((delivery.uid, delivery.generation, delivery.link.connection), (uid.clone(), generation, 1));
    assert_eq!((delivery.turn.prompt.as_str(), delivery.turn.attempt), ("again", 1));
    let Settled::Written { id, .. } = settle(&ledger, &uid, generation, &second.turn).await else { unreachable!() };
    assert!(after < id);
}

#[tokio::test]
async fn a_submit_on_another_gateway_reaches_the_link_by_mail() {
    let redis = Redis::start().await;
    let (ledger, other) = (redis.ledger("g1").await, redis.ledger("g2").await);
    let (uid, generation) = make_idle(&ledger, "demo").await;
    // Without a mailbox the gateway is taken for dead: the turn waits for the next read.
    let lost = submission("demo", "waits");
    let Submitted::Accepted { deliver: None, .. } = submit(&other, &lost).await else { panic!() };
    assert_eq!(ledger.unit(&uid).await.unwrap().unwrap().taken, None);
    assert_eq!(take(&ledger, &uid, generation).await.turn_id, lost.turn);
    settle(&ledger, &uid, generation, &lost.turn).await;

    let mut mail = ledger.fanout().mail();
    let _fanout = run_fanout(&ledger);
    // The first thing a mailbox does is to be there.
    assert_eq!(mail.recv().await.unwrap(), Mail::StartsWaiting);
    let sent = submission("demo", "by mail");
    let Submitted::Accepted { deliver: None, .. } = submit(&other, &sent).await else { panic!() };
    let Some(Mail::Deliver(delivery)) = mail.recv().await else { panic!() };
    assert_eq!((delivery.turn.turn_id, delivery.turn.prompt.as_str()), (sent.turn.clone(), "by mail"));
    assert_eq!((delivery.link.gateway.as_str(), delivery.link.connection), ("g1", 1));
    emit(&ledger, &uid, generation, &sent.turn, 1).await;
    assert_eq!(other.cancel(&sent.turn).await.unwrap(), Cancel::Flagged { deliver: None });
    assert_eq!(
        mail.recv().await.unwrap(),
        Mail::Cancel { uid: uid.clone(), generation, connection: 1, turn: sent.turn }
    );
    other.drain_unit(&uid).await.unwrap();
    assert_eq!(mail.recv().await.unwrap(), Mail::Draining { uid, generation, connection: 1 });
    // A start that nobody has yet is everybody's.
    submit(&other, &submission("cold", "x")).await;
    let cold = super::support::uid("cold");
    let begun = other.drain_unit(&cold).await.unwrap().unwrap();
    other.exited(&cold, begun, exit(StopReason::Stopped)).await.unwrap();
    assert_eq!(mail.recv().await.unwrap(), Mail::StartsWaiting);
}

#[tokio::test]
async fn a_held_turn_is_given_again_until_an_event_of_it_is_seen() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let first = submission("demo", "hello");
    let (uid, generation) = make_live(&ledger, &first).await;
    let given = take(&ledger, &uid, generation).await;
    assert_eq!(take(&ledger, &uid, generation).await, given);
    emit(&ledger, &uid, generation, &first.turn, 1).await;
    assert_eq!(ledger.take(&uid, generation, 2, None).await.unwrap(), Taken::Nothing);
    // The link is the newest reader's; an older one cannot clear it.
    ledger.unlink(&uid, generation, 1).await.unwrap();
    submit(&ledger, &submission("demo", "next")).await;
    let Settled::Written { next: Some(next), .. } = settle(&ledger, &uid, generation, &first.turn).await else {
        panic!("no next")
    };
    assert_eq!((next.link.connection, next.turn.prompt.as_str()), (2, "next"));
}

#[tokio::test]
async fn events_are_fenced_numbered_and_spliced() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let first = submission("demo", "hello");
    let (uid, generation) = make_live(&ledger, &first).await;
    assert_eq!(emit(&ledger, &uid, generation, &first.turn, 1).await, Emitted::Stale, "not taken yet");
    take(&ledger, &uid, generation).await;
    assert_eq!(emit(&ledger, &uid, generation, &turn_id(), 1).await, Emitted::Stale);
    let mut ids = Vec::new();
    for seq in 1..=200 {
        let Emitted::Written { id, cancel: false } = emit(&ledger, &uid, generation, &first.turn, seq).await else {
            panic!()
        };
        ids.push(id);
    }
    // Of a repeat the id of the last numbered one is told, which the repeated one is unless somebody plays.
    for seq in [200, 137, 1] {
        let again = emit(&ledger, &uid, generation, &first.turn, seq).await;
        assert_eq!(again, Emitted::Repeat { id: ids[199] });
    }
    let foreign = Emit {
        turn: None,
        seq: None,
        kind: "commit",
        json: "{\"type\":\"commit\",\n\"sha\":\"abc\"}",
        splice_turn: true,
    };
    assert!(matches!(ledger.emit(&uid, generation, foreign).await.unwrap(), Emitted::Written { .. }));
    let events = events(&redis, &uid).await;
    assert_eq!(events.len(), 202);
    let last = events.last().unwrap();
    assert_eq!((last["turn_id"].as_str(), last["sha"].as_str()), (Some(first.turn.as_str()), Some("abc")));
    let record = ledger.turn(&first.turn).await.unwrap().unwrap();
    assert_eq!((record.commits.len(), record.first_event), (1, ids[0]));
    assert_eq!(record.commits[0]["sha"], "abc");
}

#[tokio::test]
async fn the_first_terminal_wins() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let first = submission("demo", "hello");
    let (uid, generation) = make_live(&ledger, &first).await;
    take(&ledger, &uid, generation).await;
    let with_cache = Settle { cache: Some("c0ffee".into()), ..well() };
    let Settled::Written { id, next: None } = ledger.settle(&uid, generation, &first.turn, with_cache).await.unwrap()
    else {
        panic!()
    };
    let again = ledger.settle(&uid, generation, &first.turn, badly()).await.unwrap();
    assert_eq!(again, Settled::Repeat { id });
    assert_eq!(ledger.settle(&uid, generation, &turn_id(), well()).await.unwrap(), Settled::Stale);
    assert_eq!(types(&events(&redis, &uid).await), ["worker-ready", "done", "turn-complete"]);
    assert_eq!(ledger.turn(&first.turn).await.unwrap().unwrap().status, TurnStatus::Completed);
    let second = submission("demo", "next");
    submit(&ledger, &second).await;
    assert_eq!(take(&ledger, &uid, generation).await.cache.as_deref(), Some("c0ffee"));
    let settled = ledger.settle(&uid, generation, &second.turn, badly()).await.unwrap();
    assert!(matches!(settled, Settled::Written { .. }));
    let record = ledger.turn(&second.turn).await.unwrap().unwrap();
    assert_eq!((record.status, record.reason), (TurnStatus::Failed, Some(FailReason::Error)));
    let newest = ledger.turns(&uid, None, 1, 1 << 20).await.unwrap().0;
    assert_eq!(newest[0].turn, second.turn);
    assert_eq!(ledger.turns(&uid, Some(second.turn), 5, 1 << 20).await.unwrap().0[0].turn, first.turn);
}

#[tokio::test]
async fn lost_generations_count_and_in_the_end_the_worker_is_told_dead() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let first = submission("demo", "hello");
    let (uid, mut generation) = make_live(&ledger, &first).await;
    for attempt in 1..=2 {
        let given = take(&ledger, &uid, generation).await;
        assert_eq!((given.attempt, given.tell), (attempt, None));
        let workspace = WorkspaceId::parse("demo").unwrap();
        assert_eq!(given.unclean.get(&workspace), (attempt == 2).then_some(&first.turn));
        emit(&ledger, &uid, generation, &first.turn, 1).await;
        crash(&ledger, &uid, generation).await;
        generation = next_live(&ledger, &uid).await;
    }
    let given = take(&ledger, &uid, generation).await;
    assert_eq!((given.attempt, given.tell, given.unclean.len()), (2, Some(Tell::Dead), 1));
    ledger.settle(&uid, generation, &first.turn, badly()).await.unwrap();
    let record = ledger.turn(&first.turn).await.unwrap().unwrap();
    assert_eq!((record.reason, record.attempt), (Some(FailReason::Dead), 2));
    let events = events(&redis, &uid).await;
    let failed: Vec<_> = events.iter().filter(|e| e["type"] == "turn-failed").collect();
    assert_eq!(failed.iter().map(|e| e["final"].as_bool().unwrap()).collect::<Vec<_>>(), [false, false, true]);
    assert_eq!(failed[2]["attempts"], 2);
    // What the substrate said of the last one.
    assert_eq!(record.detail.as_deref(), Some("the last one: failed"));
    assert_eq!((&failed[1]["detail"], &failed[2]["detail"]), (&json!("failed"), &json!("the last one: failed")));
    // The tree is clean again, and the next turn starts counting afresh.
    let second = submission("demo", "next");
    submit(&ledger, &second).await;
    let given = take(&ledger, &uid, generation).await;
    assert_eq!((given.attempt, given.tell, given.unclean.len()), (1, None, 0));
    let dead: Vec<String> =
        redis::cmd("ZRANGE").arg("dead").arg(0).arg(-1).query_async(&mut redis.raw().await).await.unwrap();
    assert_eq!(dead, [first.turn.as_str()]);
}

#[tokio::test]
async fn a_turn_of_which_nobody_can_be_asked_is_settled_in_the_end() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let mut first = submission("demo", "hello");
    first.policy.max_attempts = 1;
    let (uid, generation) = make_live(&ledger, &first).await;
    take(&ledger, &uid, generation).await;
    crash(&ledger, &uid, generation).await;
    for _ in 0..2 {
        let generation = next_live(&ledger, &uid).await;
        assert_eq!(take(&ledger, &uid, generation).await.tell, Some(Tell::Dead));
        crash(&ledger, &uid, generation).await;
    }
    let record = ledger.turn(&first.turn).await.unwrap().unwrap();
    assert_eq!(
        (record.reason, ledger.unit(&uid).await.unwrap().unwrap().state),
        (Some(FailReason::Dead), UnitState::Cold)
    );
    assert!(record.detail.unwrap().starts_with("nobody could be asked what came of it"));
    // Never delivered to a worker that could say more, and the next one learns that the tree may be unclean.
    let next = submission("demo", "next");
    let (uid, generation) = make_live(&ledger, &next).await;
    assert_eq!(take(&ledger, &uid, generation).await.unclean.values().collect::<Vec<_>>(), [&first.turn]);
}

#[tokio::test]
async fn a_turn_that_takes_too_long_from_its_delivery_is_asked_for_its_record_next() {
    let redis = Redis::start().await;
    let config = ledger::Config { turn_margin: std::time::Duration::ZERO, ..redis.config("g1") };
    let ledger = ledger::Ledger::connect(config).await.unwrap();
    let slow = ledger::Submission { timeout_sec: 0, ..submission("demo", "slow") };
    let (uid, generation) = make_live(&ledger, &slow).await;
    assert!(ledger.due(10).await.unwrap().is_empty(), "not before it is delivered");
    assert!(!ledger.begin_drain(&uid, generation, DrainReason::TurnTimeout, None).await.unwrap());
    take(&ledger, &uid, generation).await;
    let due = ledger.due(10).await.unwrap();
    assert_eq!((due.len(), due[0].kind, &due[0].uid), (1, DeadlineKind::Turn, &uid));
    assert!(ledger.begin_drain(&uid, generation, DrainReason::TurnTimeout, None).await.unwrap());
    ledger.exited(&uid, generation, exit(StopReason::Stopped)).await.unwrap();
    let generation = next_live(&ledger, &uid).await;
    assert_eq!(take(&ledger, &uid, generation).await.tell, Some(Tell::Timeout));
    ledger.settle(&uid, generation, &slow.turn, badly()).await.unwrap();
    assert_eq!(ledger.turn(&slow.turn).await.unwrap().unwrap().reason, Some(FailReason::Timeout));

    // Settled between the look at what is due and the drain: another turn must not pay for it.
    let quick = ledger::Submission { timeout_sec: 0, ..submission("demo", "quick") };
    let next = submission("demo", "next");
    submit(&ledger, &quick).await;
    submit(&ledger, &next).await;
    assert_eq!(take(&ledger, &uid, generation).await.turn_id, quick.turn);
    assert_eq!(ledger.due(10).await.unwrap()[0].kind, DeadlineKind::Turn);
    settle(&ledger, &uid, generation, &quick.turn).await;
    assert_eq!(take(&ledger, &uid, generation).await.turn_id, next.turn);
    assert!(!ledger.begin_drain(&uid, generation, DrainReason::TurnTimeout, None).await.unwrap());
    settle(&ledger, &uid, generation, &next.turn).await;
    assert!(ledger.due(10).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_stop_does_not_count_as_an_attempt() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let first = submission("demo", "hello");
    let (uid, mut generation) = make_live(&ledger, &first).await;
    for round in 0..12 {
        let given = take(&ledger, &uid, generation).await;
        // A cap of its own: the eleventh counts.
        assert_eq!(given.attempt, if round <= 10 { 1 } else { 2 });
        assert_eq!(ledger.drain_unit(&uid).await.unwrap(), Some(generation));
        ledger.exited(&uid, generation, exit(StopReason::Stopped)).await.unwrap();
        generation = next_live(&ledger, &uid).await;
    }
}

#[tokio::test]
async fn a_draining_worker_may_finish_its_turn() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let first = submission("demo", "hello");
    let (uid, generation) = make_live(&ledger, &first).await;
    take(&ledger, &uid, generation).await;
    submit(&ledger, &submission("demo", "next")).await;
    ledger.drain_unit(&uid).await.unwrap();
    assert!(matches!(emit(&ledger, &uid, generation, &first.turn, 1).await, Emitted::Written { .. }));
    let Settled::Written { next: None, .. } = settle(&ledger, &uid, generation, &first.turn).await else {
        panic!("more work while draining")
    };
    assert_eq!(ledger.take(&uid, generation, 1, None).await.unwrap(), Taken::Stop);
}

#[tokio::test]
async fn cancels_of_waiting_running_and_settled_turns() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let (running, waiting) = (submission("demo", "runs"), submission("demo", "waits"));
    let (uid, generation) = make_live(&ledger, &running).await;
    take(&ledger, &uid, generation).await;
    submit(&ledger, &waiting).await;
    assert_eq!(ledger.cancel(&waiting.turn).await.unwrap(), Cancel::Settled);
    assert_eq!(ledger.cancel(&waiting.turn).await.unwrap(), Cancel::AlreadySettled);
    assert_eq!(ledger.cancel(&turn_id()).await.unwrap(), Cancel::Unknown);
    let record = ledger.turn(&waiting.turn).await.unwrap().unwrap();
    assert_eq!((record.reason, record.attempt), (Some(FailReason::Cancelled), 0));

    assert!(matches!(emit(&ledger, &uid, generation, &running.turn, 1).await, Emitted::Written { cancel: false, .. }));
    for _ in 0..2 {
        let Cancel::Flagged { deliver: Some(link) } = ledger.cancel(&running.turn).await.unwrap() else { panic!() };
        assert_eq!((link.gateway.as_str(), link.connection), ("g1", 1));
    }
    assert!(matches!(emit(&ledger, &uid, generation, &running.turn, 2).await, Emitted::Written { cancel: true, .. }));
    assert_eq!(ledger.take(&uid, generation, 1, None).await.unwrap(), Taken::Cancel(running.turn.clone()));
    let mut raw = redis.raw().await;
    let bound: Vec<String> = redis::cmd("ZRANGE").arg("deadlines").arg(0).arg(-1).query_async(&mut raw).await.unwrap();
    assert!(bound.iter().any(|d| d.starts_with("cancel|")), "{bound:?}");
    redis::cmd("ZADD")
        .arg("deadlines")
        .arg(1)
        .arg(format!("cancel|{uid}|{generation}"))
        .exec_async(&mut raw)
        .await
        .unwrap();
    assert_eq!(ledger.due(10).await.unwrap()[0].kind, DeadlineKind::Cancel);

    // Its generation is lost before it answered: the next one is asked for the record and runs nothing.
    ledger.begin_drain(&uid, generation, DrainReason::Unresponsive, None).await.unwrap();
    ledger.exited(&uid, generation, exit(StopReason::Stopped)).await.unwrap();
    assert_eq!(ledger.cancel(&running.turn).await.unwrap(), Cancel::Flagged { deliver: None });
    let generation = next_live(&ledger, &uid).await;
    assert_eq!(take(&ledger, &uid, generation).await.tell, Some(Tell::Cancelled));
    ledger.settle(&uid, generation, &running.turn, badly()).await.unwrap();
    assert_eq!(ledger.turn(&running.turn).await.unwrap().unwrap().reason, Some(FailReason::Cancelled));
    let left: Vec<String> = redis::cmd("ZRANGE").arg("deadlines").arg(0).arg(-1).query_async(&mut raw).await.unwrap();
    assert!(!left.iter().any(|d| d.starts_with("cancel|")), "{left:?}");
}

#[tokio::test]
async fn another_shape_waits_for_another_generation() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let (uid, generation) = make_idle(&ledger, "demo").await;
    let mut other = submission("demo", "other tools");
    other.shape.tools = vec!["Bash".into()];
    let Submitted::Accepted { deliver: None, start: None, .. } = submit(&ledger, &other).await else { panic!() };
    let state = ledger.unit(&uid).await.unwrap().unwrap().state;
    assert_eq!(state, UnitState::Draining { generation, reason: DrainReason::OtherShape });
    ledger.exited(&uid, generation, exit(StopReason::Stopped)).await.unwrap();
    let next = next_live(&ledger, &uid).await;
    assert_eq!(take(&ledger, &uid, next).await.tools, ["Bash"]);
    // While busy, it waits until the turn is settled.
    let third = submission("demo", "first shape again");
    submit(&ledger, &third).await;
    let Settled::Written { next: None, .. } = settle(&ledger, &uid, next, &other.turn).await else {
        panic!("another shape was given out")
    };
    assert_eq!(ledger.take(&uid, next, 1, None).await.unwrap(), Taken::Stop);
    ledger.exited(&uid, next, exit(StopReason::Stopped)).await.unwrap();
    let last = next_live(&ledger, &uid).await;
    assert_eq!(take(&ledger, &uid, last).await.turn_id, third.turn);
}

#[tokio::test]
async fn large_and_strange_texts_pass_untouched() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let mut first = submission("demo", "");
    first.prompt = format!("\0\u{1}\n\r\"\\ü\u{2028}💥{}", "x".repeat(1 << 20));
    first.options.output_schema =
        Some(serde_json::json!({"a": [], "b": {}, "n": null, "big": 12345678901234567890u64, "f": 1e300}));
    let (uid, generation) = make_live(&ledger, &first).await;
    let given = take(&ledger, &uid, generation).await;
    assert_eq!((&given.prompt, &given.options), (&first.prompt, &first.options));
    let text = "\0💥".repeat(100_000);
    let json = delta(&first.turn, 1, &text);
    assert!(json.len() > 512 << 10);
    let emit = Emit { turn: Some(&first.turn), seq: Some(1), kind: "message-delta", json: &json, splice_turn: false };
    assert!(matches!(ledger.emit(&uid, generation, emit).await.unwrap(), Emitted::Written { .. }));
    assert_eq!(events(&redis, &uid).await.last().unwrap()["text"], Value::from(text));
    assert_eq!(ledger.turn(&first.turn).await.unwrap().unwrap().prompt, first.prompt);
    assert!(StreamId::ZERO < ledger.turn(&first.turn).await.unwrap().unwrap().first_event);
    assert!(TurnId::parse(first.turn.as_str()).is_ok());
}
