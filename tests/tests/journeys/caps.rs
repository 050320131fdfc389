//! Caps on workloads, counted from outside while units are called, reaped and called again.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use tests::stack::{Backend, Options, Stack};

const PER_OWNER: usize = 2;
const IN_ALL: usize = 3;
const STARTING: usize = 2;
const OWNERS: [&str; 2] = ["ann", "bob"];
const UNITS: usize = 12;
/// Times that all units are called at once. There is no room for most of them, so that they are cold again each time.
const ROUNDS: usize = 2;

#[tokio::test]
async fn caps_hold_over_many_reaps_as_a_process() {
    caps_hold(Backend::Process).await;
}

#[tokio::test]
async fn caps_hold_over_many_reaps_on_docker() {
    caps_hold(Backend::Docker).await;
}

async fn caps_hold(backend: Backend) {
    let stack = Stack::start(Options::new(backend).settings(&format!(
        "[limits]\nlive_per_owner = {PER_OWNER}\nlive_total = {IN_ALL}\npending_starts = {STARTING}\n\
         [profiles.default]\nimage = \"rekindle/test-base:latest\"\nrunner = \"echo\"\nidle_timeout_sec = 1\n"
    )))
    .await;
    let calls = async {
        for _ in 0..ROUNDS {
            join_all(units().map(|(owner, unit)| turn(&stack, owner, unit))).await;
        }
    };
    let mut most = Most::default();
    tokio::select! {
        () = calls => {}
        () = most.watch(&stack) => {}
    }
    assert!(most.of_an_owner <= PER_OWNER && most.in_all <= IN_ALL && most.starting <= STARTING, "{most:?}");
    // It was a crowd: as many as there may be were there.
    assert!(most.of_an_owner == PER_OWNER && most.in_all == IN_ALL, "{most:?}");
}

fn units() -> impl Iterator<Item = (&'static str, String)> {
    OWNERS.into_iter().flat_map(|owner| (0..UNITS).map(move |n| (owner, format!("u{n}"))))
}

async fn turn(stack: &Stack, owner: &str, unit: String) {
    let answer = stack.api(owner).invoke(&unit, "hello").await.expect(200);
    assert_eq!(answer.json()["reply"], "hello");
}

/// The most workloads that there were at one time: of one owner, in all, and those that were being started.
#[derive(Debug, Default)]
struct Most {
    of_an_owner: usize,
    in_all: usize,
    starting: usize,
}

impl Most {
    /// Counts what the runtime has, again and again.
    async fn watch(&mut self, stack: &Stack) {
        let mut owner_of = BTreeMap::new();
        loop {
            let all = stack.workloads().await;
            let there: Vec<_> = all.iter().filter(|w| w["state"] != "destroyed").collect();
            let mut of = BTreeMap::<_, usize>::new();
            for workload in &there {
                let uid =
                    workload["workloadId"].as_str().and_then(|id| id.rsplit_once('-')).expect("a workload's id").0;
                if !owner_of.contains_key(uid) {
                    owner_of = owners(stack).await;
                }
                *of.entry(owner_of[uid]).or_default() += 1;
            }
            self.of_an_owner = self.of_an_owner.max(of.values().copied().max().unwrap_or_default());
            self.in_all = self.in_all.max(there.len());
            self.starting = self.starting.max(there.iter().filter(|w| w["state"] == "starting").count());
        }
    }
}

/// Whose each unit is, by its uid.
async fn owners(stack: &Stack) -> BTreeMap<String, &'static str> {
    let mut owner_of = BTreeMap::new();
    for owner in OWNERS {
        let list = stack.api(owner).get("/v1/units?limit=100").await.expect(200).json();
        let uids = list["units"].as_array().into_iter().flatten().filter_map(|unit| unit["uid"].as_str());
        owner_of.extend(uids.map(|uid| (uid.to_owned(), owner)));
    }
    owner_of
}
