//! Many cold units at once, and what each of them leaves in Redis.

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
            callers.spawn(async move { api.invoke(&format!("burst-{round}-{unit}"), "hi").await.expect(200) });
        }
        callers.join_all().await;
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
