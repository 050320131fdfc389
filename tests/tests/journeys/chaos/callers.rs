//! Callers as they should be: bounded in number, each request under an idempotency key, repeated until it is answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hyper::Method;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};
use tests::api::Api;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// A call that says nothing for so long is given up and made again.
const ONE_CALL: Duration = Duration::from_secs(8);
/// Between two tries; the gateway is down for about as long.
const PAUSE: Duration = Duration::from_millis(100);
/// Longer than all leases that one turn can have to wait for.
const ONE_TURN: Duration = Duration::from_secs(120);

/// How many turns, for which units, by how many callers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub units: usize,
    pub turns: usize,
    pub callers: usize,
    pub seed: u64,
}

/// What a caller was told in the end.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub unit: String,
    pub completed: bool,
    pub reason: String,
    pub took: Duration,
}

/// A unit's name.
pub(super) fn unit(number: usize) -> String {
    format!("unit-{number}")
}

/// Submits all turns and waits for all answers, by turn. Every prompt is the name of the file that its turn commits.
pub(super) async fn submit_all(api: &Api, load: Load) -> BTreeMap<String, Told> {
    let next = Arc::new(AtomicUsize::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..load.callers {
        let (api, next) = (api.clone(), next.clone());
        let mut dice = StdRng::seed_from_u64(load.seed ^ (caller as u64 + 1));
        callers.spawn(async move {
            let mut answered = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= load.turns {
                    return answered;
                }
                let unit = unit(dice.random_range(0..load.units));
                let (file, key) = (format!("file-{number}"), format!("{}-{number}", load.seed));
                let turn = call(&api, &unit, &file, &key);
                answered.push(timeout(ONE_TURN, turn).await.unwrap_or_else(|_| panic!("{unit} never answers")));
            }
        });
    }
    let answered: Vec<_> = callers.join_all().await.into_iter().flatten().collect();
    let told: BTreeMap<_, _> = answered.into_iter().collect();
    assert_eq!(told.len(), load.turns, "each key is a turn of its own");
    told
}

/// One turn to its end, however often it has to be asked.
async fn call(api: &Api, unit: &str, file: &str, key: &str) -> (String, Told) {
    let path = format!("/v1/units/{unit}/invoke");
    let headers = [("idempotency-key", key), ("prefer", "wait=5")];
    let body = json!({ "prompt": file }).to_string();
    let begun = Instant::now();
    loop {
        let answer = timeout(ONE_CALL, api.send(Method::POST, &path, &headers, body.clone().into())).await;
        // Whether it was accepted is unknown; the key makes it safe to ask again.
        let Ok(Ok(answer)) = answer else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let status = answer.status.as_u16();
        let told: Value = answer.json();
        let turn = told["turn_id"].as_str().unwrap_or_default().to_owned();
        let settled = status == 200 || told["type"] == "urn:rekindle:error:turn-failed";
        if settled {
            let reason = told["reason"].as_str().unwrap_or_default().to_owned();
            let told = Told { unit: unit.into(), completed: status == 200, reason, took: begun.elapsed() };
            return (turn, told);
        }
        assert!(matches!(status, 429 | 500..), "{unit}: {status} {told:#}");
        if status != 504 {
            tokio::time::sleep(PAUSE).await;
        }
    }
}
