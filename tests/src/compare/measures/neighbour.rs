//! A quiet owner's warm turns while another owner takes from everything that both share, beside those while nobody does.

use std::time::Duration;

use tests::noise::{self, Noise};
use tests::stack::Backend;
use tokio::time::Instant;

use super::{Measure, Rounds, ms};
use crate::deployment;
use crate::figure::Figure;

pub const MEASURE: Measure = Measure {
    name: "neighbour",
    what: "p99 of a warm turn's whole time beside a noisy owner (tests/src/noise.rs), and beside nobody",
    figures: &["neighbour-p99"],
    run: |rounds| Box::pin(run(rounds)),
};

async fn run(rounds: Rounds) -> anyhow::Result<Vec<Figure>> {
    let stack = deployment::start(deployment::limited(Backend::Process, "").settings(&noise::profiles())).await;
    let (noisy, mut quiet) = (stack.api("mallory"), stack.api("bob").session().await?);
    let window = rounds.of(Duration::from_secs(15), Duration::from_secs(3));
    for _ in 0..20 {
        quiet.invoke("quiet", "hi").await?.expect(200);
    }
    let (mut beside_noise, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..rounds.of(4, 1) {
        turns(&mut quiet, window, &mut alone).await?;
        let noise = Noise::begin(&noisy, window).await;
        turns(&mut quiet, window, &mut beside_noise).await?;
        noise.end().await;
    }
    // Samples of one round lie at one index. While there is noise there are fewer, so of the others every so many is taken.
    let stride = (alone.len() / beside_noise.len()).max(1);
    let alone: Vec<f64> = alone.into_iter().step_by(stride).take(beside_noise.len()).collect();
    beside_noise.truncate(alone.len());
    Ok(vec![Figure { quantile: 0.99, ..Figure::beside("neighbour-p99", beside_noise, alone) }])
}

async fn turns(quiet: &mut tests::api::Session, window: Duration, took: &mut Vec<f64>) -> anyhow::Result<()> {
    let until = Instant::now() + window;
    while Instant::now() < until {
        let begun = Instant::now();
        quiet.invoke("quiet", "hi").await?.expect(200);
        took.push(ms(begun.elapsed()));
    }
    Ok(())
}
