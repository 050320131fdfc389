//! The fan-out and the bounds of out-streams.

use ledger::{Emitted, Entry, Ledger, Share, StreamId};

use crate::support::*;

async fn running(ledger: &Ledger) -> (contract::UnitId, contract::Generation, contract::TurnId) {
    let first = submission("demo", "hello");
    let (uid, generation) = make_live(ledger, &first).await;
    take(ledger, &uid, generation).await;
    (uid, generation, first.turn)
}

#[tokio::test]
async fn late_and_reconnecting_readers_get_every_event_exactly_once() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let _fanout = run_fanout(&ledger);
    let (uid, generation, turn) = running(&ledger).await;
    let after = ledger.turn(&turn).await.unwrap().unwrap().after;
    let mut early = ledger.fanout().subscribe(&uid, after, &share()).await.unwrap();
    // worker-ready is between the submit and the first event of the turn.
    assert!(matches!(next(&mut early).await, Some(Entry::Event { .. })));
    let writer = {
        let (ledger, uid, turn) = (ledger.clone(), uid.clone(), turn.clone());
        tokio::spawn(async move {
            for seq in 1..=300 {
                emit(&ledger, &uid, generation, &turn, seq).await;
            }
        })
    };
    let mut at_100 = StreamId::ZERO;
    for expected in 1..=150 {
        let (id, seq) = next_seq(&mut early).await;
        assert_eq!(seq, expected);
        if seq == 100 {
            at_100 = id;
        }
    }
    // It hangs up and comes back with the last id that it had; another one comes late and wants everything.
    drop(early);
    let mut again = ledger.fanout().subscribe(&uid, at_100, &share()).await.unwrap();
    let mut late = ledger.fanout().subscribe(&uid, after, &share()).await.unwrap();
    assert!(matches!(next(&mut late).await, Some(Entry::Event { .. })));
    let mut seen = Vec::new();
    for expected in 101..=300 {
        let got = next_seq(&mut again).await;
        assert_eq!(got.1, expected);
        seen.push(got);
    }
    for expected in 1..=300 {
        let got = next_seq(&mut late).await;
        assert_eq!(got.1, expected);
        if expected > 100 {
            assert_eq!(got, seen[expected as usize - 101], "two readers see the same");
        }
    }
    writer.await.unwrap();
    // One that asks from beyond the end gets what comes.
    let mut beyond = ledger.fanout().subscribe(&uid, StreamId { ms: u64::MAX, seq: 0 }, &share()).await.unwrap();
    emit(&ledger, &uid, generation, &turn, 301).await;
    assert_eq!(next_seq(&mut beyond).await.1, 301);
    assert_eq!(next_seq(&mut again).await.1, 301);
}

#[tokio::test]
async fn a_reader_that_falls_behind_misses_nothing() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let _fanout = run_fanout(&ledger);
    let (uid, generation, turn) = running(&ledger).await;
    let end = ledger.turn(&turn).await.unwrap().unwrap().after;
    let mut slow = ledger.fanout().subscribe(&uid, end, &share()).await.unwrap();
    let mut quick = ledger.fanout().subscribe(&uid, end, &share()).await.unwrap();
    next(&mut slow).await;
    next(&mut quick).await;
    for seq in 1..=1_500 {
        emit(&ledger, &uid, generation, &turn, seq).await;
        assert_eq!(next_seq(&mut quick).await.1, seq);
    }
    for seq in 1..=1_500 {
        assert_eq!(next_seq(&mut slow).await.1, seq);
    }
    // And it is with the others again.
    emit(&ledger, &uid, generation, &turn, 1_501).await;
    assert_eq!((next_seq(&mut slow).await.1, next_seq(&mut quick).await.1), (1_501, 1_501));
}

/// An event of this many bytes and some.
async fn emit_large(
    ledger: &Ledger,
    uid: &contract::UnitId,
    generation: contract::Generation,
    turn: &contract::TurnId,
    seq: u64,
) {
    let json = delta(turn, seq, &"x".repeat(400 << 10));
    let emit =
        ledger::Emit { turn: Some(turn), seq: Some(seq), kind: "message-delta", json: &json, splice_turn: false };
    assert!(matches!(ledger.emit(uid, generation, emit).await.unwrap(), Emitted::Written { .. }));
}

#[tokio::test]
async fn what_readers_hold_is_bounded_by_their_owners_share() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let _fanout = run_fanout(&ledger);
    let (uid, generation, turn) = running(&ledger).await;
    for seq in 1..=8 {
        emit_large(&ledger, &uid, generation, &turn, seq).await;
    }
    // Room for two such events and a half; each reader wants eight of them, and has taken none but the first.
    let share = Share::new(1 << 20);
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut reader = ledger.fanout().subscribe(&uid, StreamId::ZERO, &share).await.unwrap();
        assert!(matches!(next(&mut reader).await, Some(Entry::Event { .. })));
        let held = next(&mut reader).await;
        readers.push((reader, held));
    }
    assert!(share.left() < 400 << 10, "{} bytes are left", share.left());
    // One more waits, and holds nothing, until somebody takes what it has.
    let mut third = ledger.fanout().subscribe(&uid, StreamId::ZERO, &share).await.unwrap();
    next(&mut third).await;
    let waits = tokio::time::timeout(std::time::Duration::from_millis(200), next(&mut third)).await;
    assert!(waits.is_err(), "{waits:?}");
    // What comes is kept for nobody either: both are told of it when they get there.
    emit_large(&ledger, &uid, generation, &turn, 9).await;
    let seq = |entry: &Option<Entry>| match entry {
        Some(Entry::Event { json, .. }) => serde_json::from_str::<serde_json::Value>(json).unwrap()["seq"].as_u64(),
        other => panic!("{other:?}"),
    };
    let (mut first, mut held) = readers.swap_remove(0);
    drop(readers);
    for expected in 1..=9 {
        assert_eq!(seq(&held), Some(expected));
        drop(held.take());
        if expected < 9 {
            held = next(&mut first).await;
        }
    }
    drop(first);
    for expected in 1..=9 {
        assert_eq!(next_seq(&mut third).await.1, expected);
    }
    assert_eq!(share.left(), 1 << 20, "all is given back");
}

#[tokio::test]
async fn out_streams_are_trimmed_but_not_past_the_running_turn() {
    let redis = Redis::start().await;
    let mut config = redis.config("g1");
    config.out_entries = 20;
    let ledger = Ledger::connect(config).await.unwrap();
    let _fanout = run_fanout(&ledger);
    let (uid, generation, turn) = running(&ledger).await;
    for seq in 1..=39 {
        emit(&ledger, &uid, generation, &turn, seq).await;
    }
    let first = ledger.turn(&turn).await.unwrap().unwrap().first_event;
    let kept = events(&redis, &uid).await;
    assert_eq!((kept.len(), kept[0]["seq"].as_u64()), (39, Some(1)), "only what is older than the turn went");
    let mut reader = ledger.fanout().subscribe(&uid, StreamId::ZERO, &share()).await.unwrap();
    let gap = next(&mut reader).await;
    assert_eq!(gap, Some(Entry::Gap { from: StreamId::ZERO }), "worker-ready is gone");
    assert_eq!(next_seq(&mut reader).await, (first, 1));

    // Beyond twice the bound the turn itself is cut.
    for seq in 40..=100 {
        emit(&ledger, &uid, generation, &turn, seq).await;
    }
    let kept = events(&redis, &uid).await;
    assert_eq!((kept.len(), kept[0]["seq"].as_u64()), (40, Some(61)));
    let mut reader = ledger.fanout().subscribe(&uid, first, &share()).await.unwrap();
    assert_eq!(next(&mut reader).await, Some(Entry::Gap { from: first }));
    assert_eq!(next_seq(&mut reader).await.1, 61);
    // A repeat of a number that was trimmed is still a repeat.
    assert!(matches!(emit(&ledger, &uid, generation, &turn, 2).await, Emitted::Repeat { .. }));
    settle(&ledger, &uid, generation, &turn).await;
    submit(&ledger, &submission("demo", "next")).await;
    take(&ledger, &uid, generation).await;
    let raw: u64 = redis::cmd("XLEN").arg(uid.out_stream()).query_async(&mut redis.raw().await).await.unwrap();
    assert!(raw <= 42);
}

#[tokio::test]
async fn out_streams_are_trimmed_by_bytes() {
    let redis = Redis::start().await;
    let mut config = redis.config("g1");
    config.out_bytes = 10_000;
    let ledger = Ledger::connect(config).await.unwrap();
    let (uid, generation, turn) = running(&ledger).await;
    for seq in 1..=200 {
        let json = delta(&turn, seq, &"x".repeat(400));
        let emit =
            ledger::Emit { turn: Some(&turn), seq: Some(seq), kind: "message-delta", json: &json, splice_turn: false };
        ledger.emit(&uid, generation, emit).await.unwrap();
    }
    let bytes = |events: &[serde_json::Value]| events.iter().map(|e| e.to_string().len()).sum::<usize>();
    let kept = events(&redis, &uid).await;
    assert!((10_000..=20_000).contains(&bytes(&kept)), "{}", bytes(&kept));
    let counted: u64 = redis::cmd("HGET")
        .arg(format!("unit:{uid}"))
        .arg("out_bytes")
        .query_async(&mut redis.raw().await)
        .await
        .unwrap();
    assert_eq!(counted as usize, bytes(&kept), "the running count is exact");
}
