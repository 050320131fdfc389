//! What callers may rely on: idempotency, order, bounds, lists.

use ledger::{Idempotency, Submitted};

use crate::support::*;

#[tokio::test]
async fn the_same_turn_id_is_accepted_once_and_answered_alike() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let first = submission("demo", "hello");
    let cold = submit(&ledger, &first).await;
    assert_eq!(submit(&ledger, &first).await, cold, "with its start job again");
    let Submitted::Accepted { uid, start: Some(job), .. } = cold else { panic!() };
    ledger.ready(&uid, job.generation, None, 0).await.unwrap();
    take(&ledger, &uid, job.generation).await;
    settle(&ledger, &uid, job.generation, &first.turn).await;
    let second = submission("demo", "again");
    let warm = submit(&ledger, &second).await;
    assert!(matches!(&warm, Submitted::Accepted { deliver: Some(_), .. }));
    assert_eq!(submit(&ledger, &second).await, warm, "with its delivery again");
    assert_eq!(ledger.turns(&uid, None, 10, 1 << 20).await.unwrap().0.len(), 2);
    settle(&ledger, &uid, job.generation, &second.turn).await;
    let Submitted::Accepted { deliver: None, start: None, .. } = submit(&ledger, &second).await else {
        panic!("settled and given again")
    };
}

#[tokio::test]
async fn idempotency_keys_replay_and_refuse() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let keyed = |name: &str, body: &str| {
        let idempotency = Some(Idempotency { key: "k 1".into(), body_hash: body.into() });
        ledger::Submission { idempotency, ..submission(name, "hello") }
    };
    let first = keyed("demo", "h1");
    let Submitted::Accepted { uid, after, .. } = submit(&ledger, &first).await else { panic!() };
    let replayed = submit(&ledger, &keyed("demo", "h1")).await;
    assert_eq!(replayed, Submitted::Replayed { turn: first.turn.clone(), uid: uid.clone(), after });
    assert_eq!(submit(&ledger, &keyed("demo", "h2")).await, Submitted::KeyReused);
    assert_eq!(submit(&ledger, &keyed("other", "h2")).await, Submitted::KeyReused);
    assert_eq!(ledger.turns(&uid, None, 10, 1 << 20).await.unwrap().0.len(), 1);
    let mut theirs = keyed("demo", "h2");
    theirs.owner = owner("bob");
    theirs.shape.workspaces = vec![rw("bobs")];
    assert!(matches!(submit(&ledger, &theirs).await, Submitted::Accepted { .. }), "keys are each owner's own");
}

#[tokio::test]
async fn turns_wait_in_order_up_to_a_bound() {
    let redis = Redis::start().await;
    let mut config = redis.config("g1");
    config.queued_turns_per_unit = 2;
    let ledger = ledger::Ledger::connect(config).await.unwrap();
    let turns: Vec<_> = (0..3).map(|i| submission("demo", &format!("p{i}"))).collect();
    let (uid, generation) = make_live(&ledger, &turns[0]).await;
    take(&ledger, &uid, generation).await;
    for (i, turn) in turns.iter().enumerate().skip(1) {
        let Submitted::Accepted { position, .. } = submit(&ledger, turn).await else { panic!() };
        assert_eq!(position, i as u64);
    }
    assert!(matches!(submit(&ledger, &submission("demo", "too many")).await, Submitted::QueueFull { .. }));
    let unit = ledger.unit(&uid).await.unwrap().unwrap();
    assert_eq!((unit.waiting, unit.taken.as_ref()), (2, Some(&turns[0].turn)));
    assert_eq!(ledger.turn(&turns[1].turn).await.unwrap().unwrap().queued_reason.as_deref(), Some("unit busy"));
    for pair in turns.windows(2) {
        let ledger::Settled::Written { next: Some(next), .. } = settle(&ledger, &uid, generation, &pair[0].turn).await
        else {
            panic!()
        };
        assert_eq!(next.turn.turn_id, pair[1].turn);
    }
}

#[tokio::test]
async fn units_are_listed_by_name_in_pages() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    for name in ["c", "a", "d", "b"] {
        submit(&ledger, &submission(name, "x")).await;
    }
    let (page, cursor) = ledger.units(&owner("ann"), None, 3, 1 << 20).await.unwrap();
    assert_eq!(page.iter().map(|u| u.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    let (page, cursor) = ledger.units(&owner("ann"), cursor, 3, 1 << 20).await.unwrap();
    assert_eq!((page.len(), page[0].name.as_str(), cursor), (1, "d", None));
    assert_eq!(page[0].shape.as_ref().unwrap().runner, "echo");
    assert!(ledger.units(&owner("bob"), None, 3, 1 << 20).await.unwrap().0.is_empty());
    assert_eq!(ledger.unit(&uid("nobody")).await.unwrap(), None);
}
