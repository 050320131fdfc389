//! Attempts as programs: small Python files of `tests/fixtures/redteam`, with what an attacker may know put before them.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;

use serde_json::{Value, json};
use tests::{keys, paths};
use tokio::io::AsyncWriteExt as _;

use super::cases::{Batch, Judge, of};

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../../fixtures/redteam/", $name, ".py"))
    };
}

/// What every attempt stands on.
const LIB: &str = fixture!("lib");

/// The worker that claims nothing.
pub(crate) const FOREIGN: &str = fixture!("foreign");

fn source(batch: Batch) -> &'static str {
    match batch {
        Batch::Secrets => fixture!("secrets"),
        Batch::Network => fixture!("network"),
        Batch::Host => fixture!("host"),
        Batch::Sockets | Batch::Patience | Batch::Foreign | Batch::Last => fixture!("sockets"),
        Batch::Models => fixture!("models"),
        Batch::Printed => fixture!("printed"),
        Batch::Resources | Batch::Leftovers => fixture!("resources"),
        Batch::Tricks => fixture!("tricks"),
        Batch::Tokens => fixture!("tokens"),
        Batch::Callers => fixture!("callers"),
    }
}

/// What came of an attempt.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) reached: bool,
    pub(crate) said: String,
}

/// By name of the case; those of [`Batch::Foreign`] have names of their own.
pub(crate) type Outcomes = BTreeMap<String, Outcome>;

/// How a case is called in the table.
pub(crate) fn title(batch: Batch, name: &str) -> String {
    if batch == Batch::Foreign { format!("foreign: {name}") } else { name.to_owned() }
}

/// What precedes every program.
pub(crate) fn preface(known: &Value) -> String {
    // A text in JSON is one in Python as well.
    format!("import json\nT = json.loads({})\n{LIB}\n", Value::from(known.to_string()))
}

/// The program that makes these attempts, and prints what came of them.
pub(crate) fn attempts(known: &Value, batch: Batch, names: &[&str]) -> String {
    let said = if batch == Batch::Foreign { "" } else { "tell(outcomes)" };
    format!("{}{}\noutcomes = run({})\n{said}\n", preface(known), source(batch), json!(names))
}

/// The program of a whole batch.
pub(crate) fn batch(known: &Value, batch: Batch) -> String {
    attempts(known, batch, &of(batch).map(|case| case.name).collect::<Vec<_>>())
}

/// Another sandbox's life.
pub(crate) fn victim(known: &Value) -> String {
    format!("{}{}", preface(known), fixture!("victim"))
}

/// What attempts told of themselves.
///
/// # Panics
/// When it is not what [`attempts`] prints.
pub(crate) fn told(output: &Value, batch: Batch) -> Outcomes {
    let all = output.as_object().unwrap_or_else(|| panic!("no outcomes of {batch:?}: {output}"));
    let outcome = |got: &Value| Outcome {
        reached: got["reached"].as_bool().expect("whether it reached"),
        said: got["said"].as_str().expect("what it said").to_owned(),
    };
    all.iter().map(|(name, got)| (title(batch, name), outcome(got))).collect()
}

/// The last line of a program's output that is the outcomes.
///
/// # Panics
/// When there is none, with what there is.
pub(crate) fn told_by(printed: &str, batch: Batch) -> Outcomes {
    let last = printed.lines().rev().find_map(|line| {
        let value = serde_json::from_str::<Value>(line).ok()?;
        (value["type"] == "result").then(|| value["output"].clone())
    });
    told(&last.unwrap_or_else(|| panic!("{batch:?} printed no outcomes: {printed}")), batch)
}

/// Runs a program as a plain child in a folder, with nothing between it and this machine.
///
/// # Panics
/// When it cannot be run.
pub(crate) async fn plainly(program: &str, folder: &Path, environment: &[(&str, &str)]) -> String {
    let mut command = paths::command(paths::tool("python3", "python3"));
    command.arg("-").current_dir(folder).env("HOME", folder).envs(environment.iter().copied());
    fed(command, program).await
}

/// Runs a command with this on its standard input; what it printed.
///
/// # Panics
/// When it cannot be run.
pub(crate) async fn fed(mut command: std::process::Command, input: &str) -> String {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut command = tokio::process::Command::from(command);
    let mut child = command.kill_on_drop(true).spawn().expect("start an attempt");
    let mut stdin = child.stdin.take().expect("its standard input");
    let feed = async {
        // One that ends before it has read all of its program says so on its standard error.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    let output = output.expect("wait for an attempt");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What an attempt puts where it must not be, as `lib.py` makes it.
fn forged(name: &str) -> String {
    format!("FORGED<{name}>")
}

/// More entries than a stream is let grow to.
const MOST_ENTRIES: usize = 20_500;

/// Judges those cases of a batch that a unit's stream decides. What was asked for is no evidence: it holds the program.
pub(crate) fn by_streams(outcomes: &mut Outcomes, which: Batch, own: &[Value], other: &[Value]) {
    for case in of(which) {
        let Some(outcome) = outcomes.get_mut(&title(which, case.name)) else { continue };
        match case.judge {
            Judge::Stream => {
                let mark = forged(case.name);
                // Text is what a runner prints anyway, whatever it looks like.
                let harmless: &[&str] =
                    if which == Batch::Printed { &["turn-accepted", "message-delta"] } else { &["turn-accepted"] };
                let counts = |event: &&Value| !harmless.contains(&event["type"].as_str().unwrap_or_default());
                outcome.reached = own.iter().chain(other).filter(counts).any(|event| event.to_string().contains(&mark));
            }
            Judge::Length => {
                outcome.reached = own.len() > MOST_ENTRIES;
                outcome.said = format!("{} entries", own.len());
            }
            _ => {}
        }
    }
}

/// A secret that is found only where it was put.
pub(crate) fn marked(what: &str) -> String {
    format!("{}{what}", keys::MARK)
}
