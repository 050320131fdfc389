//! What must be true when the storm is over, asked of everybody who keeps a record of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde_json::Value;
use tests::api::Api;
use tests::git::git;
use tests::sandbox;
use tests::stack::{Backend, Stack};
use tokio::time::Instant;

use super::callers::Told;

/// How long after the last turn anything may be left over.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);

/// What a run came to.
#[derive(Debug, Default)]
pub(super) struct Counts {
    completed: usize,
    failed: BTreeMap<String, usize>,
    unasked: usize,
    again: usize,
    workers: usize,
    slowest: Duration,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { completed, failed, unasked, again, workers, slowest } = self;
        write!(f, "{completed} completed, {failed:?} failed, {unasked} of them unasked, {again} attempts repeated, ")?;
        write!(f, "{workers} workers ready, slowest answer {:.1} s", slowest.as_secs_f32())
    }
}

/// The told turns by their units.
fn by_unit(told: &BTreeMap<String, Told>) -> BTreeMap<&str, BTreeMap<&str, &Told>> {
    let mut units = BTreeMap::<_, BTreeMap<_, _>>::new();
    for (turn, told) in told {
        units.entry(told.unit.as_str()).or_default().insert(turn.as_str(), told);
    }
    units
}

/// Waits until nothing is stuck and nothing is left: every unit is cold, or live without a turn; and exactly the generations
/// that the ledger calls live exist, by the runtime's word, as folders, and as containers.
pub(super) async fn nothing_is_left(stack: &Stack, api: &Api, told: &BTreeMap<String, Told>) {
    let until = Instant::now() + SETTLED_WITHIN;
    while let Err(left) = look(stack, api, told).await {
        assert!(Instant::now() < until, "after {SETTLED_WITHIN:?}: {left}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn look(stack: &Stack, api: &Api, told: &BTreeMap<String, Told>) -> Result<(), String> {
    let mut live = BTreeSet::new();
    for unit in by_unit(told).into_keys() {
        let record = api.get(&format!("/v1/units/{unit}")).await.expect(200).json();
        match record["state"].as_str() {
            Some("cold") if record["busy"] == false => {}
            Some("live") if record["busy"] == false => {
                live.insert(format!("{}-{}", record["uid"].as_str().unwrap_or_default(), record["generation"]));
            }
            _ => return Err(format!("{record:#}")),
        }
    }
    let id = |workload: &Value| workload["workloadId"].as_str().unwrap_or_default().to_owned();
    let running: BTreeSet<_> = stack.workloads().await.iter().filter(|w| w["state"] != "destroyed").map(id).collect();
    let folders: BTreeSet<_> = stack.generations().into_iter().collect();
    for (whose, known) in [("the runtime", &running), ("the generations' folder", &folders)] {
        if *known != live {
            return Err(format!("the ledger knows {live:?}, {whose} {known:?}"));
        }
    }
    let containers =
        if stack.backend == Backend::Docker { sandbox::containers(&stack.deployment).len() } else { live.len() };
    if containers != live.len() {
        return Err(format!("the ledger knows {live:?}, the engine has {containers} containers"));
    }
    Ok(())
}

/// Compares what callers were told with the turn records, the out-streams and the branches.
pub(super) async fn everything_is_told_once(stack: &Stack, api: &Api, told: &BTreeMap<String, Told>) -> Counts {
    let mut counts = Counts { slowest: told.values().map(|t| t.took).max().unwrap_or_default(), ..Counts::default() };
    let mut wrong = Vec::new();
    for (unit, turns) in by_unit(told) {
        let uid = crate::support::uid(api, unit).await;
        let records = records(api, unit).await;
        if !records.keys().map(String::as_str).eq(turns.keys().copied()) {
            let known: Vec<_> = records.keys().collect();
            wrong.push(format!("{unit}: callers have {:?}, the ledger {known:?}", turns.keys().collect::<Vec<_>>()));
        }
        let events = stack.redis.events(&uid).await;
        counts.workers += events.iter().filter(|e| e["type"] == "worker-ready").count();
        let commits = commits(stack, &uid);
        for (turn, told) in turns {
            let what = format!("{unit} {turn}");
            let status = records.get(turn).and_then(|r| r["status"].as_str()).unwrap_or_default();
            if status != if told.completed { "completed" } else { "failed" } {
                wrong.push(format!("{what}: told {told:?}, the record says {status}"));
            }
            let ends = terminals(&events, turn);
            if ends != [if told.completed { "turn-complete" } else { "turn-failed" }] {
                wrong.push(format!("{what}: told {told:?}, its terminal events are {ends:?}"));
            }
            let (expected, found) = (usize::from(told.completed), commits.iter().filter(|c| *c == turn).count());
            let unasked = records.get(turn).is_some_and(is_unasked);
            counts.unasked += usize::from(unasked);
            // The one exception: a turn that was recorded, and then given up since no generation could be started to be asked
            // about it. Its caller is told just that, and it is on the branch at most once.
            if expected != found && !(unasked && found == 1) {
                wrong.push(format!("{what}: told {told:?}, {found} commits: {:#}", records[turn]));
            }
            counts.again +=
                records.get(turn).and_then(|r| r["attempt"].as_u64()).map_or(0, |n| n.saturating_sub(1) as usize);
            if told.completed {
                counts.completed += 1;
            } else {
                *counts.failed.entry(told.reason.clone()).or_default() += 1;
            }
        }
        wrong.extend(strange_commits(stack, &uid, &commits).into_iter().map(|why| format!("{unit}: {why}")));
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    counts
}

/// Whether the platform says of a turn that nobody could be asked what came of it.
fn is_unasked(record: &Value) -> bool {
    let said = record["detail"].as_str().unwrap_or_default();
    record["status"] == "failed" && said.contains("nobody could be asked what came of it, so its commit may be there")
}

/// All turns of a unit as the API tells them, by id.
async fn records(api: &Api, unit: &str) -> BTreeMap<String, Value> {
    let (mut all, mut before) = (BTreeMap::new(), String::new());
    loop {
        let page = api.get(&format!("/v1/units/{unit}/turns{before}")).await.expect(200).json();
        for turn in page["turns"].as_array().expect("a list of turns") {
            all.insert(turn["turn_id"].as_str().expect("a turn's id").to_owned(), turn.clone());
        }
        match page["next"].as_str() {
            Some(next) => before = format!("?before={next}"),
            None => return all,
        }
    }
}

fn terminals<'a>(events: &'a [Value], turn: &str) -> Vec<&'a str> {
    let last = |e: &&Value| e["type"] == "turn-complete" || (e["type"] == "turn-failed" && e["final"] == true);
    events.iter().filter(|e| e["turn_id"] == turn).filter(last).filter_map(|e| e["type"].as_str()).collect()
}

/// `Turn:` of every commit on the branch; empty where a commit has none.
fn commits(stack: &Stack, uid: &str) -> Vec<String> {
    let log = git(&stack.workspace(uid), &["log", "--format=x%(trailers:key=Turn,valueonly,separator=%x2C)"]);
    log.lines().map(|line| line.trim_start_matches('x').to_owned()).collect()
}

/// The branch has the first commit, one for each completed turn, and nothing else; the tree is what it says.
fn strange_commits(stack: &Stack, uid: &str, commits: &[String]) -> Option<String> {
    let workspace = stack.workspace(uid);
    let without = commits.iter().filter(|turn| turn.is_empty()).count();
    let dirty = git(&workspace, &["status", "--porcelain"]);
    let files = git(&workspace, &["ls-tree", "-r", "--name-only", "HEAD"]).lines().count();
    let strange = without > 1 || !dirty.is_empty() || files + without != commits.len();
    strange.then(|| {
        format!("{without} commits without a turn, {files} files of {} commits, dirty: {dirty:?}", commits.len())
    })
}
