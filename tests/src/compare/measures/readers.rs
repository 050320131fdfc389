//! A gateway with a thousand readers of events.

use tests::proc;
use tests::stack::Backend;

use super::resident::mebibytes;
use super::{Measure, Rounds};
use crate::deployment::{self, LIMIT};
use crate::figure::Figure;

const FIGURES: &[&str] = &["readers-rss", "readers-pss", "readers-connections"];

pub const MEASURE: Measure = Measure {
    name: "readers",
    what: "a gateway with 1,000 open event streams of 20 units, each of which has seen a turn go by",
    figures: FIGURES,
    run: |rounds| Box::pin(run(rounds)),
};

const UNITS: usize = 20;
const READERS: usize = 1_000;

async fn run(rounds: Rounds) -> anyhow::Result<Vec<Figure>> {
    rustix::process::setrlimit(rustix::process::Resource::Nofile, {
        let mut limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        limit.current = limit.maximum;
        limit
    })?;
    let (mut resident, mut proportional, mut connections) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds.of(5, 1) {
        // A gateway of its own for each round: memory that was once had is rarely given back.
        let stack = deployment::start(deployment::options(Backend::Process)).await;
        let api = stack.api("ann");
        for unit in 0..UNITS {
            api.invoke(&format!("read-{unit}"), "hi").await.expect(200);
        }
        let before = stack.redis.info("connected_clients").await?;
        let mut readers = Vec::new();
        for reader in 0..READERS {
            readers.push(api.events(&format!("read-{}", reader % UNITS), None).await);
        }
        for unit in 0..UNITS {
            api.invoke(&format!("read-{unit}"), "hi").await.expect(200);
        }
        for events in &mut readers {
            events.until("turn-complete", LIMIT).await;
        }
        let memory = proc::memory(stack.gateway.pid())?;
        resident.push(mebibytes(memory.resident));
        proportional.push(mebibytes(memory.proportional));
        connections.push(stack.redis.info("connected_clients").await?.saturating_sub(before) as f64);
    }
    let samples = [resident, proportional, connections];
    Ok(FIGURES.iter().zip(samples).map(|(name, samples)| Figure::alone(name, samples)).collect())
}
