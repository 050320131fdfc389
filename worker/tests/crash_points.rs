//! The worker is killed at each step of a turn in turn, and the next generation ends it as the record says.
//!
//! Three ways to be delivered again: as another attempt, as one that is out of attempts, as one that was cancelled meanwhile.

#[allow(dead_code, reason = "the other tests use all of it")]
mod bench;

use std::path::Path;

use bench::{Unit, Worker, file, turn, turn_id, types, until};
use serde_json::{Value, json};
use workspace::STEPS;

/// From this step on the turn has happened.
const HAPPENED: &str = "record-renamed";
/// The branches that a turn moves, secondaries first.
const WORKSPACES: [&str; 2] = ["workspace", "other"];

/// Counts its runs, changes both workspaces, answers.
const SCRIPT: &str = "echo run >>$HOME/runs; echo x >a; mkdir -p d; echo y >d/b; echo z >../other/c; echo answer";
/// The same, and fails.
const FAILING: &str = "echo run >>$HOME/runs; echo x >a; echo more >>kept; echo z >../other/c; echo answer; exit 3";

struct Case {
    unit: Unit,
    tips: [String; 2],
}

impl Case {
    /// A unit with two workspaces that had a turn already, and the steps at which its next workers end.
    async fn new(steps: &str) -> Self {
        let mut unit = Unit::new();
        let beside = Path::new(env!("CARGO_BIN_EXE_rekindle-worker")).with_file_name("rekindle-worker-crash");
        assert!(beside.exists(), "{} is not built: run `make binaries`", beside.display());
        unit.program = beside;
        unit.workspaces = WORKSPACES.into();
        std::fs::create_dir(unit.path("other")).unwrap();
        let mut case = Self { unit, tips: Default::default() };
        let events = case.worker(1).turn(turn(1, "echo first >kept; echo first >../other/kept")).await;
        assert_eq!(types(&events), ["turn-accepted", "commit", "commit", "done"]);
        case.tips = case.heads();
        std::fs::write(case.unit.path("state/crash-at"), steps).unwrap();
        case
    }

    fn worker(&self, generation: u64) -> Worker {
        self.unit.worker(generation, "exec", &["/bin/sh"])
    }

    fn heads(&self) -> [String; 2] {
        WORKSPACES.map(|name| self.unit.git_in(name, &["rev-parse", "refs/heads/main"]).trim().to_owned())
    }

    /// Delivers the turn to a generation that does not survive it.
    async fn killed(&self, generation: u64, turn: Value, step: &str) {
        let mut worker = self.worker(generation);
        worker.entry(turn).await;
        let process = &mut worker.process;
        let status = until(|| process.try_wait().unwrap()).await;
        assert_eq!(status.code(), None, "{step}: killed by a signal");
        assert_eq!(file(&self.unit.path("state/crash-log")).await, step);
    }

    /// What the next generation is given, and what it says.
    async fn again(&self, generation: u64, script: &str, tell: Value) -> (Vec<Value>, Worker) {
        let mut worker = self.worker(generation);
        let events = worker.turn(redelivered(script, tell)).await;
        (events, worker)
    }

    /// Whatever happened: both trees and repositories are sound and clean, no pin is left.
    fn assert_clean(&self, step: &str) {
        for name in WORKSPACES {
            assert_eq!(self.unit.git_in(name, &["status", "--porcelain"]), "", "{step}: {name}");
            assert_eq!(self.unit.git_in(name, &["symbolic-ref", "HEAD"]), "refs/heads/main\n", "{step}: {name}");
            assert_eq!(self.unit.git_in(name, &["for-each-ref", "refs/rekindle/pending"]), "", "{step}: {name}");
            self.unit.git_in(name, &["fsck", "--strict", "--no-dangling"]);
        }
    }

    /// Commits of the turn on each branch.
    fn commits(&self) -> [usize; 2] {
        let trailer = format!("--grep=^Turn: {}$", turn_id(2));
        WORKSPACES.map(|name| self.unit.git_in(name, &["log", "--format=%H", &trailer, "main"]).lines().count())
    }

    fn runs(&self) -> usize {
        std::fs::read_to_string(self.unit.path("home/runs")).map_or(0, |runs| runs.lines().count())
    }
}

fn redelivered(script: &str, tell: Value) -> Value {
    let mut again = turn(2, script);
    again["attempt"] = 2.into();
    again["tell"] = tell;
    again["unclean"] = json!({"notes": turn_id(2), "other": turn_id(2)});
    again
}

fn position(step: &str) -> usize {
    STEPS.iter().position(|s| *s == step).expect("a step")
}

/// What stays the same of a `done`, however often it is told.
fn result(done: &Value) -> Value {
    let mut done = done.clone();
    for field in ["seq", "cache", "detail"] {
        done.as_object_mut().unwrap().remove(field);
    }
    done
}

async fn killed_at(step: &str, tell: Value) {
    let case = Case::new(step).await;
    case.killed(2, turn(2, SCRIPT), step).await;
    let ran_before = case.runs();
    assert_eq!(ran_before, usize::from(position(step) >= position("agent")), "{step}");

    let (events, mut worker) = case.again(3, SCRIPT, tell.clone()).await;
    let done = events.last().unwrap();
    case.assert_clean(step);
    let happened = position(step) >= position(HAPPENED);
    if happened || tell.is_null() {
        let told: &[_] = if happened {
            &["commit", "commit", "done"]
        } else {
            &["turn-accepted", "message-delta", "commit", "commit", "done"]
        };
        assert!(
            types(&events).iter().filter(|t| **t != "message-delta").eq(told.iter().filter(|t| **t != "message-delta")),
            "{step}: {events:#?}"
        );
        assert_eq!((&done["ok"], &done["reply"]), (&true.into(), &"answer\n".into()), "{step}: {done}");
        assert!(done["usage"].is_object(), "{step}: {done}");
        assert_eq!(case.commits(), [1, 1], "{step}");
        assert_eq!(case.runs(), ran_before + usize::from(!happened), "{step}");
        let parents = WORKSPACES.map(|name| case.unit.git_in(name, &["rev-parse", "main^"]).trim().to_owned());
        assert_eq!(parents, case.tips, "{step}: right on top of what was there");
    } else {
        assert_eq!((types(&events), &done["reason"]), (vec!["done"], &tell), "{step}: {events:#?}");
        assert_eq!(case.heads(), case.tips, "{step}");
        assert_eq!(case.runs(), ran_before, "{step}: run again");
    }
    // Once more, as after an answer that was lost: the same is told, and nothing else happens.
    let heads = case.heads();
    let again = worker.turn(redelivered(SCRIPT, "cancelled".into())).await;
    assert_eq!(result(again.last().unwrap()), result(done), "{step}");
    assert_eq!(case.heads(), heads, "{step}");
    case.assert_clean(step);
    // And the unit goes on.
    let next = worker.turn(turn(3, "echo next >next; echo on")).await;
    assert_eq!(types(&next), ["turn-accepted", "message-delta", "commit", "done"], "{step}");
    case.assert_clean(step);
}

#[tokio::test]
async fn killed_at_each_step_and_tried_again() {
    for step in STEPS {
        killed_at(step, Value::Null).await;
    }
}

#[tokio::test]
async fn killed_at_each_step_of_the_last_attempt() {
    for step in STEPS {
        killed_at(step, "dead".into()).await;
    }
}

#[tokio::test]
async fn killed_at_each_step_and_cancelled_before_the_next_generation() {
    for step in STEPS {
        killed_at(step, "cancelled".into()).await;
    }
}

#[tokio::test]
async fn killed_while_a_failed_turn_is_put_back() {
    for step in ["leftovers-kept", "tree-restored", "record-written", "record-renamed", "moves-made", "commits-told"] {
        for tell in [Value::Null, "cancelled".into()] {
            let case = Case::new(step).await;
            case.killed(2, turn(2, FAILING), step).await;
            let (events, mut worker) = case.again(3, FAILING, tell.clone()).await;
            let done = events.last().unwrap();
            let happened = STEPS.contains(&step) && position(step) >= position(HAPPENED);
            let reason = if happened || tell.is_null() { "error".into() } else { tell };
            assert_eq!((&done["ok"], &done["reason"]), (&false.into(), &reason), "{step}: {done}");
            case.assert_clean(step);
            assert_eq!((case.heads(), case.commits()), (case.tips.clone(), [0, 0]), "{step}");
            let kept = format!("refs/rekindle/interrupted/{}:a", turn_id(2));
            assert_eq!(case.unit.git(&["show", &kept]), "x\n", "{step}: what it left is kept");
            assert_eq!(worker.turn(turn(3, "echo on")).await.last().unwrap()["ok"], true, "{step}");
            case.assert_clean(step);
        }
    }
}

/// The generation that takes up a killed one's turn is killed as well.
#[tokio::test]
async fn killed_again_during_the_recovery() {
    let twice = [
        ("agent", "leftovers-kept"),
        ("prepared", "leftovers-kept"),
        ("prepared", "tree-restored"),
        ("prepared", "record-renamed"),
        ("record-renamed", "branch-moved"),
        ("branch-moved", "branch-moved"),
        ("moved", "commits-told"),
        ("recorded", "opened"),
        ("recorded", "done"),
    ];
    for (first, second) in twice {
        let step = format!("{first}, {second}");
        let case = Case::new(&format!("{first}\n{second}")).await;
        case.killed(2, turn(2, SCRIPT), first).await;
        case.killed(3, redelivered(SCRIPT, Value::Null), second).await;
        let (events, _worker) = case.again(4, SCRIPT, Value::Null).await;
        let done = events.last().unwrap();
        assert_eq!((&done["ok"], &done["reply"]), (&true.into(), &"answer\n".into()), "{step}: {done}");
        assert_eq!(case.commits(), [1, 1], "{step}");
        case.assert_clean(&step);
    }
}

/// A turn is given up with its leftovers in the trees, and the next one's worker is killed before it looks at them, or the
/// ledger knows of nothing: they are still that turn's, and nobody's commit.
#[tokio::test]
async fn what_a_given_up_turn_left_passes_for_nobody_elses() {
    for unclean in [json!({"notes": turn_id(3), "other": turn_id(3)}), json!({})] {
        let case = Case::new("prepared\naccepted").await;
        case.killed(2, turn(2, SCRIPT), "prepared").await;
        case.killed(3, turn(3, "echo own >own; echo next"), "accepted").await;
        let mut worker = case.worker(4);
        let mut again = turn(3, "echo own >own; echo next");
        again["attempt"] = 2.into();
        again["unclean"] = unclean.clone();
        let events = worker.turn(again).await;
        assert_eq!(events.last().unwrap()["reply"], "next\n", "{unclean}: {events:#?}");
        case.assert_clean("given up");
        let subjects = case.unit.git(&["log", "--format=%(trailers:key=Trigger,valueonly,separator=)", "-2", "main"]);
        assert_eq!(subjects, "message\nmessage\n", "{unclean}: nothing from outside");
        assert_eq!(case.unit.git(&["show", "--name-only", "--format=", "main"]), "own\n");
        assert_eq!((case.commits(), &case.heads()[1]), ([0, 0], &case.tips[1]));
        let kept = format!("refs/rekindle/interrupted/{}", turn_id(2));
        assert_eq!(case.unit.git(&["show", &format!("{kept}:d/b")]), "y\n");
        assert_eq!(case.unit.git_in("other", &["show", &format!("{kept}:c")]), "z\n");
    }
}

/// An idle worker that puts its repository in order is killed in the middle of it.
#[tokio::test]
async fn killed_while_objects_are_packed() {
    let case = Case::new("").await;
    let script = "i=0; while [ $i -lt 2050 ]; do i=$((i+1)); echo $i >f$i; done";
    for (generation, step) in [(2, "pack-placed"), (3, "loose-removed"), (4, "")] {
        let mut worker = case.worker(generation);
        // The second one has to find many again: what is loose and packed still counts.
        let script = if generation == 2 { script } else { "true" };
        assert_eq!(worker.turn(turn(generation, script)).await.last().unwrap()["ok"], true, "{step}");
        std::fs::write(case.unit.path("state/crash-at"), step).unwrap();
        worker.signal(rustix::process::Signal::TERM);
        let (code, _) = worker.ended().await;
        assert_eq!(code, if step.is_empty() { Some(0) } else { None }, "{step}");
        case.assert_clean(step);
    }
    let left = case.unit.git(&["count-objects"]);
    assert!(left.split(' ').next().unwrap().parse::<u32>().unwrap() < 2_000, "{left}");
}

/// What kills the worker must not be in what is installed.
#[test]
fn the_installed_program_has_no_crash_points() {
    let mine = Path::new(env!("CARGO_BIN_EXE_rekindle-worker"));
    let has = |name: &str| {
        let path = mine.with_file_name(name);
        let bytes = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}: run `make binaries`", path.display()));
        bytes.windows(b"crash-at".len()).any(|window| window == b"crash-at")
    };
    assert!(has("rekindle-worker-crash"), "or else this test sees nothing");
    assert!(!has("rekindle-worker") && !has("rekindle-worker-static"));
}
