//! What several journeys ask of a deployment.

use std::time::Duration;

use serde_json::Value;
use tests::api::Api;
use tests::eventually;
use tests::sse::Event;
use tests::stack::Stack;

/// Longer than any single step of a journey takes on a busy machine.
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// Settings of a default profile whose `exec` runner runs this shell script.
pub(crate) fn exec_profile(script: &str, more: &str) -> String {
    let script = toml_text(script);
    format!(
        "[profiles.default]\nimage = \"rekindle/test-base:latest\"\nrunner = \"exec\"\nidle_timeout_sec = 60\n\
         runner_command = [\"/bin/sh\", \"-c\", {script}]\n{more}\n"
    )
}

/// A text as TOML writes it.
pub(crate) fn toml_text(text: &str) -> String {
    // JSON's escapes are a subset of TOML's for basic strings.
    Value::from(text).to_string()
}

/// The first event of a kind.
#[track_caller]
pub(crate) fn find<'a>(events: &'a [Event], kind: &str) -> &'a Event {
    events.iter().find(|e| e.kind() == kind).unwrap_or_else(|| panic!("no {kind} in {events:#?}"))
}

/// A unit's uid.
pub(crate) async fn uid(api: &Api, unit: &str) -> String {
    let unit = api.get(&format!("/v1/units/{unit}")).await.expect(200).json();
    unit["uid"].as_str().unwrap_or_else(|| panic!("no uid in {unit:#}")).to_owned()
}

/// Waits until a unit is cold and the runtime knows of no workload any more.
pub(crate) async fn gone(stack: &Stack, api: &Api, unit: &str) {
    let path = format!("/v1/units/{unit}");
    eventually("the unit is cold", MINUTE, || async {
        (api.get(&path).await.expect(200).json()["state"] == "cold").then_some(())
    })
    .await;
    let left: Vec<Value> = stack.workloads().await.into_iter().filter(|w| w["state"] != "destroyed").collect();
    assert!(left.is_empty(), "{left:#?}");
}
