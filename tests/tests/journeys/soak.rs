//! A soak: the same round of work again and again, after each of which the deployment holds what it held before.
//!
//! `REKINDLE_SOAK_MIN` sets its length in minutes; 3 without it. The pace is gentle, so that it runs beside other journeys.

mod census;
mod growth;
mod work;

use std::collections::BTreeMap;
use std::time::Duration;

use tests::stack::{Backend, Options, Stack};
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::support::exec_profile;
use census::Census;
use work::Work;

/// From the begin of a round to that of the next, unless it takes longer.
const PERIOD: Duration = Duration::from_secs(3);
/// Rounds before the first that counts. Turns are forgotten and pools filled by then.
const WARM_UP: usize = 4;

/// What turns leave in Redis and the erased in the trash is kept for moments, so that a steady load comes to a steady size.
async fn deployment() -> Stack {
    let settings = exec_profile(
        "sh -s",
        "[limits]\nturn_ttl_sec = 2\nout_entries = 100\nrequests_per_sec = 10000\nrequest_burst = 20000\n\
         [reaper]\nperiod_ms = 100\ntrash_retention_sec = 0\nleftovers_period_sec = 1\n",
    );
    Stack::start(Options::new(Backend::Process).settings(&settings)).await
}

#[tokio::test]
async fn nothing_grows_however_long_it_works() {
    let minutes = std::env::var("REKINDLE_SOAK_MIN").map_or(3, |text| text.parse().expect("a number of minutes"));
    let stack = deployment().await;
    let work = Work::begin(&stack).await;
    let mut census = Census::default();
    let until = Instant::now() + Duration::from_secs(60 * minutes);
    let mut pace = interval(PERIOD);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < until {
        pace.tick().await;
        work.round().await;
        census.take(&stack, &work.resident).await;
    }
    let growing = growth::growing(&census.series, WARM_UP);
    assert!(growing.is_empty(), "after {} rounds:\n{}\n{census}", census.rounds(), growing.join("\n"));
    println!("{census}");
}

/// The judge can see: one descriptor, one file and one key a round, lost on purpose, are named, and
/// nothing else is.
#[tokio::test]
async fn what_is_lost_a_little_each_round_is_named() {
    let stack = deployment().await;
    let work = Work::begin(&stack).await;
    let mut census = Census::default();
    let mut kept = Vec::new();
    for round in 0..WARM_UP + 8 {
        work.round().await;
        // A reader that never leaves.
        kept.push(stack.api("ann").events("resident", None).await);
        std::fs::write(stack.store().join(format!("lost-{round}")), "").unwrap();
        stack.redis.command(&["SET", &format!("lost-{round}"), "x"]).await.unwrap();
        census.take(&stack, &work.resident).await;
    }
    let growing = growth::growing(&census.series, WARM_UP);
    let counted: Vec<_> = growing.iter().filter(|line| !line.contains("memory")).collect();
    let named: BTreeMap<_, _> = counted.iter().filter_map(|line| line.split_once(": ")).collect();
    let names: Vec<_> = named.keys().copied().collect();
    assert_eq!(names, ["files", "gateway's descriptors", "keys in Redis"], "{growing:#?}\n{census}");
}
