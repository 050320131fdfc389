//! `rekindle stop`: ends a unit's worker, and waits until it is gone.

use std::time::Duration;

use contract::UnitName;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::api::{Api, Call};
use crate::failure::Failure;
use crate::spinner::Spinner;
use crate::target::Target;

/// The gateway waits this long itself.
const FIRST_WAIT_SEC: u64 = 25;
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(500);

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Which unit
    unit: UnitName,
}

pub async fn run(args: Args, target: &Target) -> Result<(), Failure> {
    let api = Api::new(target.reach()?)?;
    let unit = &args.unit;
    let began = Instant::now();
    let spinner = Spinner::new("waiting until the worker is gone");
    let path = format!("/v1/units/{unit}");
    let stop = Call::post(format!("{path}/stop"), &serde_json::json!({}));
    let mut now: Value = api.json(&stop.header("prefer", format!("wait={FIRST_WAIT_SEC}"))).await?;
    let generation = now["generation"].clone();
    // Not asked again: by then another generation may live, which nobody wants to end.
    while now["state"] == "draining" && now["generation"] == generation {
        if began.elapsed() > PATIENCE {
            return Err(Failure::StillRunning(format!(
                "{unit} still drains; its worker is gone only when the runtime says so (`rekindle doctor`)"
            )));
        }
        sleep(LOOK_EVERY).await;
        now = api.json(&Call::get(&path)).await?;
    }
    drop(spinner);
    match now["state"].as_str() {
        Some("cold") | None => println!("{unit}: the worker is gone"),
        Some(state) => println!("{unit}: the worker is gone; another is {state}, because turns wait"),
    }
    Ok(())
}
