//! What is asked before a way out is opened, and what is told of one that is not.

use contract::Generation;
use ledger::{DrainReason, Errand};

use crate::support::*;

#[tokio::test]
async fn a_refusal_is_told_once_for_each_host_and_of_the_running_turn_only() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let (uid, generation) = make_idle(&ledger, "demo").await;
    let deny = async |generation, host: &str| {
        let setting = format!("profiles.default.egress = [\"{host}\"]");
        ledger.deny_egress(&uid, generation, host, &setting).await.unwrap()
    };
    assert!(!deny(generation, "a.example").await, "no turn is running");

    for round in 1..=2 {
        submit(&ledger, &submission("demo", "out")).await;
        let turn = take(&ledger, &uid, generation).await.turn_id;
        assert!(deny(generation, "a.example").await, "every turn is told anew");
        assert!(!deny(generation, "a.example").await);
        assert!(!deny(Generation(generation.0 + 1), "b.example").await, "another generation");
        assert!(deny(generation, "a.example:8443").await, "another port is another host");
        let written = (0..30).map(|n| format!("h{n}.example")).collect::<Vec<_>>();
        let mut told = 2;
        for host in &written {
            told += u32::from(deny(generation, host).await);
        }
        assert_eq!(told, 20, "round {round}");
        settle(&ledger, &uid, generation, &turn).await;
        let events = events(&redis, &uid).await;
        let of_turn: Vec<_> =
            events.iter().filter(|e| e["type"] == "egress-denied" && e["turn_id"] == turn.as_str()).collect();
        assert_eq!(of_turn.len(), 20);
        assert_eq!(of_turn[0]["host"], "a.example");
        assert_eq!(of_turn[0]["setting"], "profiles.default.egress = [\"a.example\"]");
        assert_eq!(of_turn[0]["generation"], generation.0);
    }
}

#[tokio::test]
async fn a_generation_that_drains_without_a_turn_has_no_errand() {
    let redis = Redis::start().await;
    let ledger = redis.ledger("g1").await;
    let (uid, generation) = make_idle(&ledger, "demo").await;
    let profile = submission("demo", "x").shape.profile;
    let idle = Errand { profile: profile.clone(), turn: None };
    assert_eq!(ledger.errand(&uid, generation).await.unwrap(), Some(idle));
    assert_eq!(ledger.errand(&uid, Generation(generation.0 + 1)).await.unwrap(), None);

    submit(&ledger, &submission("demo", "out")).await;
    let turn = take(&ledger, &uid, generation).await.turn_id;
    let busy = Some(Errand { profile, turn: Some(turn.clone()) });
    assert_eq!(ledger.errand(&uid, generation).await.unwrap(), busy);
    ledger.begin_drain(&uid, generation, DrainReason::Stopped, None).await.unwrap();
    assert_eq!(ledger.errand(&uid, generation).await.unwrap(), busy, "it may finish its turn");
    settle(&ledger, &uid, generation, &turn).await;
    assert_eq!(ledger.errand(&uid, generation).await.unwrap(), None);
}
