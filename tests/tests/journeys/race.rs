//! Calls that come at the very moment when their unit's worker is reaped. The ledger's own tests do this 2,000 times; here it
//! is the whole deployment.

use std::time::Duration;

use rand::Rng as _;
use serde_json::Value;
use tests::api::Api;
use tests::stack::{Backend, Options, Stack};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

const UNITS: usize = 10;
const ROUNDS: usize = 5;
/// The smallest that settings can say.
const IDLE: Duration = Duration::from_secs(1);
/// How far from the moment at which the unit is due a call may come, before and after it.
const AROUND: Duration = Duration::from_millis(80);

#[tokio::test]
async fn calls_at_the_moment_of_reaping_are_answered_once_and_wait_for_one_start_at_most() {
    let settings = "[reaper]\nperiod_ms = 5\n[profiles.default]\nrunner = \"echo\"\nidle_timeout_sec = 1\n";
    let stack = Stack::start(Options::new(Backend::Process).settings(settings)).await;
    let api = stack.api("ann");
    let callers: JoinSet<_> = (0..UNITS).map(|n| call(api.clone(), format!("unit-{n}"))).collect();
    let starts = callers.join_all().await.concat();
    let warm = starts.iter().filter(|start| *start == "warm").count();
    println!("{} calls at the moment of reaping, {warm} were warm", starts.len());
    assert!(warm > 0 && warm < starts.len() - UNITS, "both sides of the moment were hit: {starts:?}");
    for n in 0..UNITS {
        let uid = crate::support::uid(&api, &format!("unit-{n}")).await;
        let waited = starts_before_each_end(&stack.redis.events(&uid).await);
        assert_eq!(waited.len(), ROUNDS, "each turn ended once");
        assert!(waited.iter().all(|starts| *starts <= 1), "unit-{n} waited for more than one start: {waited:?}");
    }
}

/// How warm each turn's worker was.
async fn call(api: Api, unit: String) -> Vec<String> {
    let mut starts = Vec::new();
    for round in 0..ROUNDS {
        let prompt = format!("round {round}");
        let answer = api.invoke(&unit, &prompt).await.expect(200);
        let told = Instant::now();
        assert_eq!(answer.json()["reply"], prompt.as_str(), "{unit}");
        let turn = answer.json()["turn_id"].as_str().expect("a turn's id").to_owned();
        assert_eq!(api.get(&format!("/v1/turns/{turn}")).await.expect(200).json()["attempt"], 1);
        starts.push(answer.header("rekindle-start").to_owned());
        let later = rand::rng().random_range(Duration::ZERO..2 * AROUND);
        sleep_until(told + IDLE - AROUND + later).await;
    }
    starts
}

/// For each turn's end, how many workers became ready since the one before.
fn starts_before_each_end(events: &[Value]) -> Vec<usize> {
    let (mut waited, mut starts) = (Vec::new(), 0);
    for event in events {
        match event["type"].as_str() {
            Some("worker-ready") => starts += 1,
            Some("turn-complete" | "turn-failed") => waited.push(std::mem::take(&mut starts)),
            _ => {}
        }
    }
    waited
}
