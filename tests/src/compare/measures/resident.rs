//! What the processes of a deployment hold in memory while nobody calls.

use tests::proc::{self, Memory};
use tests::sandbox::Part;
use tests::stack::Backend;

use super::{Measure, Rounds};
use crate::deployment;
use crate::figure::Figure;

const FIGURES: &[&str] = &[
    "worker-rss",
    "worker-pss",
    "shim-rss",
    "shim-pss",
    "gateway-rss",
    "gateway-pss",
    "runtime-rss",
    "runtime-pss",
    "reaper-rss",
    "reaper-pss",
];

pub const MEASURE: Measure = Measure {
    name: "resident",
    what: "memory of each process, with a few units that are warm and idle: resident, and its own part of what is shared",
    figures: FIGURES,
    run: |rounds| Box::pin(run(rounds)),
};

async fn run(rounds: Rounds) -> anyhow::Result<Vec<Figure>> {
    let stack = deployment::start(deployment::options(Backend::Process)).await;
    let api = stack.api("ann");
    let mut samples = vec![Vec::new(); FIGURES.len()];
    for round in 0..rounds.of(7, 2) {
        let unit = format!("idle-{round}");
        for _ in 0..10 {
            api.invoke(&unit, "hi").await.expect(200);
        }
        let [worker, shim] = [Part::Worker, Part::Shim].map(|part| deployment::pid(&stack, &api, &unit, part));
        let pids = [worker.await, shim.await, stack.gateway.pid(), stack.runtime.pid(), stack.reaper.pid()];
        let mut figures = samples.iter_mut();
        for pid in pids {
            let Memory { resident, proportional } = proc::memory(pid)?;
            for bytes in [resident, proportional] {
                figures.next().into_iter().for_each(|samples| samples.push(mebibytes(bytes)));
            }
        }
    }
    Ok(FIGURES.iter().zip(samples).map(|(name, samples)| Figure::alone(name, samples)).collect())
}

pub fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
