//! A storm: every second one process of the deployment is killed, whichever, while callers go on calling.
//!
//! `REKINDLE_CHAOS_TURNS` sets the number of turns and `REKINDLE_CHAOS_SEED` repeats the dice of an earlier run.

mod audit;
mod callers;
mod monkey;

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tests::stack::{Backend, Options, Stack};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::support::toml_text;
use callers::Load;
use monkey::Attack;

/// Turns of both journeys together, unless the environment says otherwise.
const TURNS: usize = 1_500;
/// One of so many turns runs on Docker.
const ON_DOCKER: usize = 5;
/// Names the file, writes it, and gives whoever kills a while to do it in between.
const COMMIT_A_FILE: &str = r#"read -r name; echo "$name" > "$name"; sleep 0.2; echo "$name is written""#;

#[tokio::test]
async fn nothing_is_lost_or_doubled_or_left_whatever_is_killed_as_a_process() {
    let turns = from_environment("REKINDLE_CHAOS_TURNS").map_or(TURNS, |n| n as usize);
    storm(Backend::Process, 50, turns - turns / ON_DOCKER, Attack::Kill).await;
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_or_left_whatever_is_killed_on_docker() {
    let turns = from_environment("REKINDLE_CHAOS_TURNS").map_or(TURNS, |n| n as usize);
    storm(Backend::Docker, 10, turns / ON_DOCKER, Attack::Kill).await;
}

/// As [`storm`], of processes that sleep for a while of this length at most.
pub(crate) async fn sleepwalk(backend: Backend, units: usize, turns: usize, at_most: Duration) {
    storm(backend, units, turns, Attack::Sleep(at_most)).await;
}

async fn storm(backend: Backend, units: usize, turns: usize, attack: Attack) {
    let load = Load { units, turns, callers: units, seed: seed() };
    let profile = format!(
        "[profiles.default]\nimage = \"rekindle/test-base:latest\"\nrunner = \"exec\"\nidle_timeout_sec = 2\nmax_attempts = 5\n\
         runner_command = [\"/bin/sh\", \"-c\", {}]\n",
        toml_text(COMMIT_A_FILE)
    );
    let mut stack = Stack::start(Options::new(backend).settings(&profile)).await;
    let api = stack.api("ann");
    let over = CancellationToken::new();
    let begun = Instant::now();
    let callers = async {
        let told = callers::submit_all(&api, load).await;
        over.cancel();
        (told, begun.elapsed())
    };
    let dice = StdRng::seed_from_u64(load.seed);
    let ((told, took), hit) = tokio::join!(callers, monkey::attack(&mut stack, attack, dice, over.clone()));
    audit::nothing_is_left(&stack, &api, &told).await;
    let left = begun.elapsed() - took;
    let counts = audit::everything_is_told_once(&stack, &api, &told).await;
    say(&format!(
        "chaos on {}, seed {}: {turns} turns in {units} units within {:.1} s; hit {hit:?}; {counts}; at rest {:.1} s later",
        backend.name(),
        load.seed,
        took.as_secs_f32(),
        left.as_secs_f32(),
    ));
}

/// Also when the test passes.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn seed() -> u64 {
    let seed = from_environment("REKINDLE_CHAOS_SEED").unwrap_or_else(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now: Duration| now.subsec_nanos().into())
    });
    println!("REKINDLE_CHAOS_SEED={seed}");
    seed
}

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}
