//! What an owner may leave in the ledger, and for how long.

use std::time::Duration;

use contract::WorkspaceId;
use ledger::{Config, EraseWorkspace, Granting, Idempotency, Ledger, Settle, StoredBound, Submitted, Taken};

use crate::recount::*;
use crate::support::*;

#[tokio::test]
async fn the_units_of_an_owner_are_bounded_until_one_is_erased() {
    let redis = Redis::start().await;
    let ledger = Ledger::connect(Config { units_per_owner: 3, ..redis.config("g1") }).await.unwrap();
    for n in 0..3 {
        assert!(matches!(submit(&ledger, &plain("ann", &format!("u{n}"), "x")).await, Submitted::Accepted { .. }));
    }
    let full = Submitted::Stored(StoredBound::Units(3));
    assert_eq!(submit(&ledger, &plain("ann", "u3", "x")).await, full);
    assert!(
        matches!(submit(&ledger, &plain("ann", "u0", "more")).await, Submitted::Accepted { .. }),
        "it has this one"
    );
    assert!(matches!(submit(&ledger, &plain("ben", "u3", "x")).await, Submitted::Accepted { .. }), "another owner");
    assert_exact(&redis, "refusals").await;
    erase(&ledger, &uid("u1")).await;
    assert!(matches!(submit(&ledger, &plain("ann", "u3", "x")).await, Submitted::Accepted { .. }));
    assert_exact(&redis, "an erasure").await;
}

#[tokio::test]
async fn the_workspaces_that_an_owner_names_are_bounded_until_one_is_erased() {
    let redis = Redis::start().await;
    let ledger = Ledger::connect(Config { workspaces_per_owner: 2, ..redis.config("g1") }).await.unwrap();
    let naming = |unit: &str, names: &[&str]| {
        let mut s = submission(unit, "x");
        s.shape.workspaces = names.iter().map(|name| rw(name)).collect();
        s
    };
    let w = |name: &str| WorkspaceId::parse(name).unwrap();
    let (ann, ben) = (owner("ann"), owner("ben"));
    let first = naming("one", &["a"]);
    let (one, generation) = make_live(&ledger, &first).await;
    let full = Submitted::Stored(StoredBound::Workspaces(2));
    assert_eq!(submit(&ledger, &naming("two", &["a", "b", "c"])).await, full, "none of them is taken");
    assert_eq!(ledger.workspace_owner(&w("b")).await.unwrap(), None);
    assert!(matches!(submit(&ledger, &naming("two", &["b"])).await, Submitted::Accepted { .. }));
    assert_eq!(submit(&ledger, &naming("three", &["c"])).await, full);
    assert_eq!(ledger.grant(&w("a"), &ann, &ben, contract::Mode::Ro, 10).await.unwrap(), Granting::Done);
    let mut names = ledger.workspaces(&ann).await.unwrap();
    names.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    assert_eq!(names, [w("a"), w("b")]);
    assert_exact(&redis, "refusals").await;

    assert_eq!(ledger.erase_workspace(&w("a"), &ben).await.unwrap(), EraseWorkspace::Unknown, "it is not his");
    assert_eq!(ledger.erase_workspace(&w("a"), &ann).await.unwrap(), EraseWorkspace::Busy);
    take(&ledger, &one, generation).await;
    settle(&ledger, &one, generation, &first.turn).await;
    assert_eq!(ledger.erase_workspace(&w("a"), &ann).await.unwrap(), EraseWorkspace::Draining, "an idle worker has it");
    let late = naming("one", &["a"]);
    assert_eq!(submit(&ledger, &late).await, Submitted::WorkspaceErasing(w("a")));
    ledger.forget_workspace(&w("b"), &ann).await.unwrap();
    assert_eq!(ledger.workspace_owner(&w("b")).await.unwrap(), Some(ann.clone()), "nobody erases this one");
    ledger.exited(&one, generation, exit(contract::StopReason::Stopped)).await.unwrap();
    assert_eq!(ledger.erase_workspace(&w("a"), &ann).await.unwrap(), EraseWorkspace::Begun);
    ledger.forget_workspace(&w("a"), &ann).await.unwrap();
    assert_eq!(ledger.workspace_owner(&w("a")).await.unwrap(), None);
    assert_exact(&redis, "an erasure").await;
    assert!(matches!(submit(&ledger, &naming("three", &["c"])).await, Submitted::Accepted { .. }));
    assert_eq!(ledger.erase_workspace(&one.own_workspace(), &ann).await.unwrap(), EraseWorkspace::Unknown);
}

#[tokio::test]
async fn the_bytes_of_an_owner_are_bounded_whatever_was_cancelled_meanwhile() {
    let redis = Redis::start().await;
    let config = Config { stored_bytes_per_owner: 8 << 20, detail_ttl: Duration::ZERO, ..redis.config("g1") };
    let ledger = Ledger::connect(config).await.unwrap();
    let big = "x".repeat(1 << 20);
    let mut accepted = 0;
    let refused = loop {
        let turn = plain("ann", "demo", &big);
        match submit(&ledger, &turn).await {
            Submitted::Accepted { .. } => {
                ledger.cancel(&turn.turn).await.unwrap();
                accepted += 1;
            }
            other => break other,
        }
        assert!(accepted < 20, "nothing bounds it");
    };
    assert_eq!((accepted, refused), (7, Submitted::Stored(StoredBound::Bytes(8 << 20))));
    assert!(matches!(submit(&ledger, &plain("ben", "demo", &big)).await, Submitted::Accepted { .. }));
    let used = counted(&redis).await;
    assert!(used.values().all(|bytes| *bytes <= 8 << 20), "{used:?}");
    assert_exact(&redis, "cancelled turns").await;
    // Their time is over: what is left of them is small.
    while ledger.age(10).await.unwrap() > 0 {}
    assert_exact(&redis, "prompts that are over their time").await;
    let turns = ledger.turns(&uid("demo"), None, 10).await.unwrap();
    assert_eq!(turns.iter().map(|t| (t.prompt.len(), t.reason.is_some())).collect::<Vec<_>>(), [(0, true); 7]);
    assert!(matches!(submit(&ledger, &plain("ann", "demo", &big)).await, Submitted::Accepted { .. }));
}

#[tokio::test]
async fn open_turns_are_bounded_in_all() {
    let redis = Redis::start().await;
    let ledger = Ledger::connect(Config { open_turns: 2, ..redis.config("g1") }).await.unwrap();
    let first = plain("ann", "demo", "x");
    submit(&ledger, &first).await;
    submit(&ledger, &plain("ben", "demo", "x")).await;
    assert!(matches!(submit(&ledger, &plain("cid", "demo", "x")).await, Submitted::AllFull { .. }));
    ledger.cancel(&first.turn).await.unwrap();
    assert!(matches!(submit(&ledger, &plain("cid", "demo", "x")).await, Submitted::Accepted { .. }));
    assert_exact(&redis, "three turns").await;
}

#[tokio::test]
async fn grants_are_counted() {
    let redis = Redis::start().await;
    let ledger = Ledger::connect(Config { stored_bytes_per_owner: 30_000, ..redis.config("g1") }).await.unwrap();
    let turn = submission("demo", "x");
    submit(&ledger, &turn).await;
    ledger.cancel(&turn.turn).await.unwrap();
    let (ann, w) = (owner("ann"), WorkspaceId::parse("demo").unwrap());
    let mut granted = 0;
    while ledger.grant(&w, &ann, &owner(&format!("o{granted}")), contract::Mode::Rw, 1000).await.unwrap()
        == Granting::Done
    {
        granted += 1;
        assert!(granted < 100, "nothing bounds them");
    }
    assert_exact(&redis, "grants").await;
    assert_eq!(ledger.revoke_grant(&w, &ann, &owner("o0")).await.unwrap(), Granting::Done);
    assert_eq!(ledger.grant(&w, &ann, &owner("late"), contract::Mode::Rw, 1000).await.unwrap(), Granting::Done);
    assert_exact(&redis, "grants that ended").await;
}

#[tokio::test]
async fn a_result_that_finds_no_room_is_cut_and_events_give_way() {
    let redis = Redis::start().await;
    let most = 1 << 20;
    let ledger = Ledger::connect(Config { stored_bytes_per_owner: most, ..redis.config("g1") }).await.unwrap();
    let (uid, generation) = make_idle(&ledger, "demo").await;
    let long = "x".repeat(400_000);
    for n in 0..4 {
        let turn = submission("demo", &n.to_string());
        submit(&ledger, &turn).await;
        for seq in 1..=10 {
            let json = delta(&turn.turn, seq, &long[..100_000]);
            let emit = ledger::Emit {
                turn: Some(&turn.turn),
                seq: Some(seq),
                kind: "message-delta",
                json: &json,
                splice_turn: false,
            };
            assert!(matches!(ledger.emit(&uid, generation, emit).await.unwrap(), ledger::Emitted::Written { .. }));
        }
        let done = serde_json::json!({"type": "done", "ok": true, "reply": long, "sessionId": "s"}).to_string();
        let settled = Settle { done_json: &done, ..well() };
        assert!(matches!(
            ledger.settle(&uid, generation, &turn.turn, settled).await.unwrap(),
            ledger::Settled::Written { .. }
        ));
        let result = ledger.turn(&turn.turn).await.unwrap().unwrap().result.unwrap();
        let reply = result["reply"].as_str().unwrap();
        let whole = n < 2;
        assert_eq!((reply.len() == long.len(), result["detail"].is_string()), (whole, !whole), "{n}");
        assert!(long.starts_with(reply) && !reply.is_empty() && result["sessionId"] == "s");
        let used = counted(&redis).await;
        assert!(used.values().all(|bytes| *bytes <= most as i64), "{used:?}");
        assert_exact(&redis, "an end").await;
    }
    assert_eq!(ledger.take(&uid, generation, 1).await.unwrap(), Taken::Nothing);
}

#[tokio::test]
async fn what_is_over_its_time_goes_and_what_is_not_settled_stays() {
    let redis = Redis::start().await;
    let config = Config { detail_ttl: Duration::ZERO, ..redis.config("g1") };
    let ledger = Ledger::connect(config.clone()).await.unwrap();
    let _fanout = run_fanout(&ledger);
    let (uid, generation) = make_idle(&ledger, "demo").await;
    let from = ledger.fanout().end(&uid).await.unwrap();
    let mut running = submission("demo", "runs");
    running.idempotency = Some(Idempotency { key: "k".into(), body_hash: "b".into() });
    submit(&ledger, &running).await;
    emit(&ledger, &uid, generation, &running.turn, 1).await;
    submit(&ledger, &submission("demo", "waits")).await;
    while ledger.age(1).await.unwrap() > 0 {}
    // The first turn's prompt and events are gone, and readers from before are told; what is not settled has all.
    let kept = events(&redis, &uid).await;
    assert_eq!(types(&kept), ["message-delta", "queued"]);
    let mut reader = ledger.fanout().subscribe(&uid, ledger::StreamId::ZERO).await.unwrap();
    assert_eq!(next(&mut reader).await, Some(ledger::Entry::Gap { from: ledger::StreamId::ZERO }));
    assert_eq!(next_seq(&mut reader).await.1, 1);
    let turns = ledger.turns(&uid, None, 10).await.unwrap();
    assert_eq!(turns.iter().map(|t| t.prompt.as_str()).collect::<Vec<_>>(), ["waits", "runs", ""]);
    assert_eq!(turns[2].result.as_ref().unwrap()["reply"], "yes");
    assert_exact(&redis, "some age").await;

    // All of it ends: the stream is empty, nobody who begins now is told of a gap, and the records go last.
    settle(&ledger, &uid, generation, &running.turn).await;
    let waits = turns[0].turn.clone();
    settle(&ledger, &uid, generation, &waits).await;
    let gone = async {
        while !events(&redis, &uid).await.is_empty() {
            ledger.age(10).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("events stay for ever");
    let end = ledger.fanout().end(&uid).await.unwrap();
    assert!(end > from);
    let fresh = submission("demo", "fresh");
    let Submitted::Accepted { after, .. } = submit(&ledger, &fresh).await else { panic!() };
    assert_eq!(after, end);
    let mut reader = ledger.fanout().subscribe(&uid, after).await.unwrap();
    emit(&ledger, &uid, generation, &fresh.turn, 1).await;
    assert_eq!(next_seq(&mut reader).await.1, 1, "no gap");
    let late = Ledger::connect(Config { turn_ttl: Duration::ZERO, ..config }).await.unwrap();
    settle(&late, &uid, generation, &fresh.turn).await;
    while late.age(10).await.unwrap() > 0 {}
    assert_eq!(ledger.turn(&fresh.turn).await.unwrap(), None);
    assert_eq!(ledger.turns(&uid, None, 10).await.unwrap().len(), 3);
    assert_exact(&redis, "all age").await;
}
