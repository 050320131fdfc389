//! Durable turns a second: each is accepted, run, recorded and settled before its caller sends the next one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tests::api::Api;
use tests::stack::Backend;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{Measure, Rounds};
use crate::deployment;
use crate::figure::Figure;

const UNITS: [usize; 3] = [1, 8, 32];

const FIGURES: &[&str] = &["turns-1", "turns-8", "turns-32"];

pub const MEASURE: Measure = Measure {
    name: "throughput",
    what: "durable warm turns of echo a second, one caller for each of 1, 8 and 32 units",
    figures: FIGURES,
    run: |rounds| Box::pin(run(rounds)),
};

async fn run(rounds: Rounds) -> anyhow::Result<Vec<Figure>> {
    let stack = deployment::start(deployment::options(Backend::Process)).await;
    let api = stack.api("ann");
    let window = rounds.of(Duration::from_secs(3), Duration::from_secs(1));
    let mut rates = UNITS.map(|_| Vec::new());
    for units in UNITS {
        // Starts the workers, and is not counted.
        turns_a_second(&api, units, Duration::ZERO).await?;
    }
    for _ in 0..rounds.of(7, 2) {
        for (units, rates) in UNITS.iter().zip(&mut rates) {
            rates.push(turns_a_second(&api, *units, window).await?);
        }
    }
    let names = FIGURES.iter();
    Ok(names.zip(rates).map(|(name, rates)| Figure::alone(name, rates)).collect())
}

/// Turns of all units that ended within the window, by its length. Every unit has one turn at least.
async fn turns_a_second(api: &Api, units: usize, window: Duration) -> anyhow::Result<f64> {
    let mut sessions = Vec::new();
    for unit in 0..units {
        sessions.push((format!("turns-{unit}"), api.session().await?));
    }
    let ended = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut callers = JoinSet::new();
    for (unit, mut session) in sessions {
        let ended = ended.clone();
        callers.spawn(async move {
            loop {
                session.invoke(&unit, "hi").await?.expect(200);
                if begun.elapsed() > window {
                    return anyhow::Ok(());
                }
                ended.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    callers.join_all().await.into_iter().collect::<Result<(), _>>()?;
    Ok(ended.load(Ordering::Relaxed) as f64 / window.as_secs_f64())
}
