//! Many cold units at once, and what each of them leaves in Redis.

use std::time::Duration;

use serde_json::json;
use tests::api::Api;
use tests::stack::Backend;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Measure, Rounds};
use crate::deployment::{self, stop};
use crate::figure::Figure;

pub const MEASURE: Measure = Measure {
    name: "burst",
    what: "300 units that nobody has called before, all at once, until the last has its answer; then what Redis keeps of each",
    figures: &["burst-300", "unit-redis"],
    run: |rounds| Box::pin(run(rounds)),
};

const UNITS: usize = 300;

async fn run(rounds: Rounds) -> anyhow::Result<Vec<Figure>> {
    let stack = deployment::start(deployment::options(Backend::Process)).await;
    let api = stack.api("ann");
    let (mut seconds, mut bytes) = (Vec::new(), Vec::new());
    for round in 0..rounds.of(5, 1) {
        let before = stack.redis.info("used_memory").await? as f64;
        let begun = Instant::now();
        let mut callers = JoinSet::new();
        for unit in 0..UNITS {
            let api = api.clone();
            callers.spawn(async move { call(&api, &format!("burst-{round}-{unit}")).await });
        }
        callers.join_all().await.into_iter().collect::<Result<(), _>>()?;
        seconds.push(begun.elapsed().as_secs_f64());
        let mut callers = JoinSet::new();
        for unit in 0..UNITS {
            let api = api.clone();
            callers.spawn(async move { stop(&api, &format!("burst-{round}-{unit}")).await });
        }
        callers.join_all().await;
        bytes.push((stack.redis.info("used_memory").await? as f64 - before) / UNITS as f64);
    }
    Ok(vec![Figure::alone("burst-300", seconds), Figure::alone("unit-redis", bytes)])
}

/// One turn to its end. Who is told to come back (503) does so, as any client would; the key makes that safe.
async fn call(api: &Api, unit: &str) -> anyhow::Result<()> {
    let path = format!("/v1/units/{unit}/invoke");
    loop {
        let answer = api.post_with(&path, &[("idempotency-key", unit)], &json!({ "prompt": "hi" })).await;
        match answer.status.as_u16() {
            200 => return Ok(()),
            503 => tokio::time::sleep(Duration::from_millis(200)).await,
            status => anyhow::bail!("invoke {unit}: {status} {}", answer.text()),
        }
    }
}
