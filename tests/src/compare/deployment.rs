//! Deployments that are measured: as `rekindle up` makes them, with processes that can be looked at.

use std::time::Duration;

use serde_json::json;
use tests::api::Api;
use tests::eventually;
use tests::sandbox::{self, Part};
use tests::stack::{Backend, Options, Stack};

/// What both Docker and `docker run` start.
pub const IMAGE: &str = "rekindle/agent:latest";

/// Longer than any single step of a measure takes.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A profile that runs `echo`, and rates and caps that no measure reaches: what is measured is the work.
pub fn options(backend: Backend) -> Options {
    Options::new(backend).settings(&format!(
        "[profiles.default]\nimage = \"{IMAGE}\"\nrunner = \"echo\"\nidle_timeout_sec = 600\n\
         [limits]\nrequests_per_sec = 100000\nrequest_burst = 200000\nlive_per_owner = 500\nlive_total = 500\n"
    ))
}

/// Starts it, with the log level that services have by themselves.
pub async fn start(options: Options) -> Stack {
    let mut stack = Stack::prepare(&options).await;
    for service in [&mut stack.runtime, &mut stack.gateway, &mut stack.reaper] {
        service.set_env("RUST_LOG", "info");
        service.start();
    }
    stack.ready().await;
    stack
}

/// Ends a unit's worker and waits until it is gone.
pub async fn stop(api: &Api, unit: &str) {
    api.post_with(&format!("/v1/units/{unit}/stop"), &[("prefer", "wait=60")], &json!({})).await.expect(200);
}

/// Erases a unit and waits until the gateway does not know it any more.
pub async fn erase(api: &Api, unit: &str) {
    let path = format!("/v1/units/{unit}");
    assert!(api.delete(&path).await.status.is_success(), "erase {unit}");
    eventually("the unit is erased", LIMIT, || async { (api.get(&path).await.status.as_u16() == 404).then_some(()) })
        .await;
}

/// Process id of a part of a unit's workload, as a child process.
pub async fn pid(stack: &Stack, api: &Api, unit: &str, part: Part) -> u32 {
    let unit = api.get(&format!("/v1/units/{unit}")).await.expect(200).json();
    let workload = format!("{}-{}", unit["uid"].as_str().unwrap_or_default(), unit["generation"]);
    sandbox::pid(&stack.generation(&workload), part).unwrap_or_else(|| panic!("{workload} has no {part:?}"))
}
