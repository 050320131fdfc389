//! Deployments that are measured: as `rekindle up` makes them, with processes that can be looked at.

use std::time::Duration;

use tests::api::Api;
use tests::sandbox::{self, Part};
use tests::stack::{Backend, Options, Stack};

/// What both Docker and `docker run` start.
pub const IMAGE: &str = "rekindle/agent:latest";

/// Longer than any single step of a measure takes.
pub const LIMIT: Duration = Duration::from_secs(120);

/// A profile that runs `echo`, and rates and caps that no measure reaches: what is measured is the work.
pub fn options(backend: Backend) -> Options {
    limited(backend, "requests_per_sec = 100000\nrequest_burst = 200000\nlive_per_owner = 500\nlive_total = 500")
}

/// The same with these limits, and the others as they are by themselves.
pub fn limited(backend: Backend, limits: &str) -> Options {
    Options::new(backend).settings(&format!(
        "[profiles.default]\nimage = \"{IMAGE}\"\nrunner = \"echo\"\nidle_timeout_sec = 600\n[limits]\n{limits}\n"
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

/// Process id of a part of a unit's workload, as a child process.
pub async fn pid(stack: &Stack, api: &Api, unit: &str, part: Part) -> u32 {
    let unit = api.get(&format!("/v1/units/{unit}")).await.expect(200).json();
    let workload = format!("{}-{}", unit["uid"].as_str().unwrap_or_default(), unit["generation"]);
    sandbox::pid(&stack.generation(&workload), part).unwrap_or_else(|| panic!("{workload} has no {part:?}"))
}
