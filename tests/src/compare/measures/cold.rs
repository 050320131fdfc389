//! A cold start on each backend beside `docker run` of the same image.

use serde_json::json;
use tests::api::Api;
use tests::stack::Backend;
use tokio::time::Instant;

use super::{Measure, Rounds, ms};
use crate::deployment::{self, IMAGE, LIMIT, erase};
use crate::figure::Figure;
use crate::floors;

pub const MEASURE: Measure = Measure {
    name: "cold",
    what: "a unit that nobody has called before, from the invoke to turn-accepted at the caller",
    figures: &["cold-docker", "cold-process"],
    run: |rounds| Box::pin(run(rounds)),
};

async fn run(rounds: Rounds) -> anyhow::Result<Vec<Figure>> {
    let docker = deployment::start(deployment::options(Backend::Docker)).await;
    let process = deployment::start(deployment::options(Backend::Process)).await;
    let apis = [docker.api("ann"), process.api("ann")];
    let mut took = [Vec::new(), Vec::new(), Vec::new()];
    // The first round fills caches and is not counted.
    for round in 0..=rounds.of(20, 3) {
        let mut times = Vec::new();
        for api in &apis {
            times.push(cold(api, &format!("cold-{round}")).await);
        }
        let begun = Instant::now();
        let mut container = floors::docker_run(IMAGE).await?;
        times.push(ms(begun.elapsed()));
        container.wait().await?;
        if round > 0 {
            took.iter_mut().zip(times).for_each(|(all, one)| all.push(one));
        }
    }
    let [on_docker, as_process, floor] = took;
    Ok(vec![Figure::beside("cold-docker", on_docker, floor.clone()), Figure::beside("cold-process", as_process, floor)])
}

async fn cold(api: &Api, unit: &str) -> f64 {
    let begun = Instant::now();
    let mut events = api.invoke_streaming(unit, &json!({ "prompt": "hi" })).await;
    events.until("turn-accepted", LIMIT).await;
    let took = ms(begun.elapsed());
    events.until("turn-complete", LIMIT).await;
    erase(api, unit).await;
    took
}
