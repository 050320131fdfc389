//! Redis has reached its `maxmemory`: what begins something is refused, everything else goes on and adds little.

use std::time::Duration;

use contract::{Mode, StopReason, WorkspaceId};
use ledger::{
    ApiKeyId, Cancel, Entry, Erase, Granting, Leave, LedgerError, NewApiKey, Rate, Settle, Settled, StoredBound,
    Submitted,
};

use crate::support::*;

async fn bound(redis: &Redis, bytes: u64) {
    let mut raw = redis.raw().await;
    redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(bytes).exec_async(&mut raw).await.unwrap();
}

fn key(owner: &contract::Owner, n: u8) -> NewApiKey<'_> {
    NewApiKey { hash: [n; 32], owner, name: "k", scopes: "units:read", ttl: None, most: 10 }
}

/// Also where the settings give an owner more than Redis has.
#[tokio::test]
async fn no_owner_fills_it_alone() {
    let redis = Redis::start().await;
    bound(&redis, 32 << 20).await;
    let ledger = redis.ledger("g1").await;
    let accepted = async |owner_of: &str| {
        let mut sub = submission(&format!("{owner_of}-unit"), &"p".repeat(256 << 10));
        sub.owner = owner(owner_of);
        ledger.submit(&sub).await.unwrap()
    };
    let mut most = None;
    for _ in 0..100 {
        if let Submitted::Stored(bound) = accepted("greedy").await {
            most = Some(bound);
            break;
        }
    }
    assert_eq!(most, Some(StoredBound::Bytes(8 << 20)));
    assert!(matches!(accepted("modest").await, Submitted::Accepted { .. }));
}

#[tokio::test]
async fn what_begins_is_refused_and_what_was_accepted_goes_on_to_its_end() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let (ann, ben) = (owner("ann"), owner("ben"));
    let running = submission("demo", "runs");
    let (uid, generation) = make_live(&ledger, &running).await;
    take(&ledger, &uid, generation).await;
    let (waits, unwanted) = (submission("demo", "waits"), submission("demo", "unwanted"));
    submit(&ledger, &waits).await;
    submit(&ledger, &unwanted).await;
    ledger.make_key(&key(&ann, 1)).await.unwrap();
    let w = WorkspaceId::parse("demo").unwrap();
    assert_eq!(ledger.grant(&w, &ann, &ben, Mode::Ro, 10).await.unwrap(), Granting::Done);
    bound(&redis, 1).await;

    let refused = |error: LedgerError| {
        assert!(matches!(error, LedgerError::Full(_)) && error.retry_after().is_some(), "{error:?}");
    };
    let late = submission("other", "late");
    refused(ledger.submit(&late).await.unwrap_err());
    refused(ledger.make_key(&key(&ann, 2)).await.unwrap_err());
    refused(ledger.grant(&w, &ann, &owner("cid"), Mode::Ro, 10).await.unwrap_err());
    assert_eq!(ledger.turn(&late.turn).await.unwrap(), None);
    // Who calls is known, what is there is told, and what ends something does.
    assert!(ledger.use_key(&[1; 32]).await.unwrap().is_some());
    assert_eq!(
        ledger.leave(ledger::Paced::Calls, &ann, Rate { per_sec: 1, burst: 1 }, 1).await.unwrap(),
        Leave::For(1)
    );
    assert!(ledger.revoke_key(&ann, &ApiKeyId::of(&[1; 32])).await.unwrap());
    assert_eq!(ledger.revoke_grant(&w, &ann, &ben).await.unwrap(), Granting::Done);
    assert_eq!(ledger.cancel(&unwanted.turn).await.unwrap(), Cancel::Settled);
    assert!(ledger.claim_period("age", Duration::from_secs(60)).await.unwrap());
    assert!(!ledger.claim_period("age", Duration::from_secs(60)).await.unwrap());

    // The turn that runs ends, and its reply is cut only beyond what every turn has room for.
    for seq in 1..=20 {
        assert!(matches!(emit(&ledger, &uid, generation, &running.turn, seq).await, ledger::Emitted::Written { .. }));
    }
    let done = serde_json::json!({"type": "done", "ok": true, "reply": "y".repeat(100_000)}).to_string();
    let ended = ledger.settle(&uid, generation, &running.turn, Settle { done_json: &done, ..well() }).await.unwrap();
    let Settled::Written { next: Some(next), .. } = ended else { panic!("{ended:?}") };
    assert_eq!(next.turn.turn_id, waits.turn);
    let result = ledger.turn(&running.turn).await.unwrap().unwrap().result.unwrap();
    assert!((1..10_000).contains(&result["reply"].as_str().unwrap().len()) && result["detail"].is_string(), "{result}");
    settle(&ledger, &uid, generation, &waits.turn).await;
    let reply = &ledger.turn(&waits.turn).await.unwrap().unwrap().result.unwrap()["reply"];
    assert_eq!(reply, "yes");

    // It drains, is lost, starts again, and is erased: all of it without a byte to spare.
    assert_eq!(ledger.erase(&uid, false).await.unwrap(), Erase::Draining);
    assert_eq!(ledger.pick_drains(Duration::from_secs(2), 10).await.unwrap().len(), 1);
    assert!(ledger.exited(&uid, generation, exit(StopReason::Stopped)).await.unwrap());
    assert_eq!(ledger.erase(&uid, false).await.unwrap(), Erase::Begun { keep_workspace: false });
    ledger.forget(&uid).await.unwrap();
    assert_eq!(ledger.unit(&uid).await.unwrap(), None);
    bound(&redis, 0).await;
    assert!(matches!(submit(&ledger, &late).await, Submitted::Accepted { .. }));
}

#[tokio::test]
async fn a_turn_that_waits_is_started_and_survives_a_lost_worker_while_it_is_full() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let turn = submission("demo", "x");
    let Submitted::Accepted { uid, start: Some(job), .. } = submit(&ledger, &turn).await else { panic!() };
    bound(&redis, 1).await;
    assert!(ledger.renew_start(&uid, job.generation, Duration::from_secs(5)).await.unwrap());
    ledger.ready(&uid, job.generation, Some("nonce"), 7).await.unwrap();
    take(&ledger, &uid, job.generation).await;
    emit(&ledger, &uid, job.generation, &turn.turn, 1).await;
    crash(&ledger, &uid, job.generation).await;
    assert_eq!(ledger.pick_starts(Duration::from_secs(5), 10).await.unwrap().len(), 1);
    let generation = next_live(&ledger, &uid).await;
    assert_eq!(take(&ledger, &uid, generation).await.attempt, 2);
    settle(&ledger, &uid, generation, &turn.turn).await;
    assert!(ledger.due(10).await.is_ok());
    assert_eq!(ledger.age(10).await.unwrap(), 0);
}

#[tokio::test]
async fn events_take_no_more_room_while_it_is_full_and_readers_are_told_what_they_missed() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let _fanout = run_fanout(&ledger);
    let turn = submission("demo", "x");
    let (uid, generation) = make_live(&ledger, &turn).await;
    take(&ledger, &uid, generation).await;
    bound(&redis, 1).await;
    let mut reader = ledger.fanout().subscribe(&uid, ledger::StreamId::ZERO, &share()).await.unwrap();
    assert!(matches!(next(&mut reader).await, Some(Entry::Event { .. })), "worker-ready");
    let last = 300;
    let text = "e".repeat(3_000);
    for seq in 1..=last {
        // Every tenth does not fit at all.
        let text = if seq % 10 == 0 && seq < last { "e".repeat(40_000) } else { text.clone() };
        let json = delta(&turn.turn, seq, &text);
        let emit = ledger::Emit {
            turn: Some(&turn.turn),
            seq: Some(seq),
            kind: "message-delta",
            json: &json,
            splice_turn: false,
        };
        assert!(matches!(ledger.emit(&uid, generation, emit).await.unwrap(), ledger::Emitted::Written { .. }));
        let kept: usize = events(&redis, &uid).await.iter().map(|event| event.to_string().len()).sum();
        assert!(kept <= 16_384, "{kept} bytes of events");
    }
    let (mut expected, mut gap) = (1, false);
    while expected <= last {
        match next(&mut reader).await {
            Some(Entry::Gap { .. }) => gap = true,
            Some(Entry::Event { json, .. }) => {
                let seq = serde_json::from_str::<serde_json::Value>(&json).unwrap()["seq"].as_u64().unwrap();
                assert!(
                    seq == expected || (gap && seq > expected),
                    "{seq} in the place of {expected}, and nobody said so"
                );
                (expected, gap) = (seq + 1, false);
            }
            other => panic!("{other:?}"),
        }
    }
}
