//! Processes that stop for a while and then go on as if nothing had happened. What they try then is refused.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::api::Api;
use tests::eventually;
use tests::gate::SocketGate;
use tests::git;
use tests::sandbox::{Part, Sandbox};
use tests::service::Service;
use tests::stack::{self, Backend, Options, Stack};
use tokio::time::timeout;

use crate::support::{MINUTE, exec_profile, uid};

/// Commits a file when it is let go.
const WAITS: &str = r#"read -r name; echo begun; until [ -e go ]; do sleep 0.05; done; rm go; echo "$name" > "$name""#;

/// A deployment of two gateways, `a` and `b`; workers are led to the worker port that the gate leads to.
struct Two {
    stack: Stack,
    a: Api,
    other: Service,
    b: Api,
    workers: SocketGate,
}

impl Two {
    /// `runtime` stands between gateway `a` and the runtime.
    async fn start(script: &str, runtime: Option<fn(&Stack) -> SocketGate>) -> (Self, Option<SocketGate>) {
        let mut stack = Stack::prepare(&Options::new(Backend::Process).settings(&exec_profile(script, ""))).await;
        let workers = SocketGate::open(&stack.worker_port("gate"), &stack.worker_port("worker"));
        stack.runtime.set_env("REKINDLE_RUNTIME__WORKER_PORT", &format!("unix://{}", workers.path().display()));
        let gate = runtime.map(|open| open(&stack));
        if let Some(gate) = &gate {
            stack.gateway.set_env("REKINDLE_RUNTIME__URL", &format!("unix://{}", gate.path().display()));
        }
        let (mut other, address) = stack.another_gateway("b");
        stack.runtime.start();
        stack.gateway.start();
        stack.reaper.start();
        other.start();
        stack.ready().await;
        stack::ready(&address).await;
        let a = stack.api("ann");
        let b = a.at(address);
        (Self { stack, a, other, b, workers }, gate)
    }
}

/// Of a turn: one end, one commit, whatever anybody tried.
async fn told_once(stack: &Stack, turn: &str, uid: &str) {
    let events = stack.redis.events(uid).await;
    let of = |kind: &str| events.iter().filter(|e| e["type"] == kind && e["turn_id"] == turn).count();
    assert_eq!((of("done"), of("turn-complete"), of("turn-failed")), (1, 1, 0), "{events:#?}");
    let workspace = stack.workspace(uid);
    let trailers = git::git(&workspace, &["log", "--format=%(trailers:key=Turn,valueonly,separator=%x2C)"]);
    assert_eq!(trailers.lines().filter(|line| *line == turn).count(), 1, "{trailers}");
    assert_eq!(git::git(&workspace, &["status", "--porcelain"]), "");
}

async fn submit(api: &Api, unit: &str) -> String {
    let path = format!("/v1/units/{unit}/invoke");
    let answer = api.post_with(&path, &[("prefer", "respond-async")], &json!({"prompt": "file"})).await.expect(202);
    answer.json()["turn_id"].as_str().expect("a turn's id").to_owned()
}

/// Waits until a turn is settled, well.
async fn completed(api: &Api, turn: &str) -> Value {
    let path = format!("/v1/turns/{turn}");
    let record = eventually("the turn is settled", MINUTE, || async {
        let record = api.get(&path).await.expect(200).json();
        matches!(record["status"].as_str(), Some("completed" | "failed")).then_some(record)
    })
    .await;
    assert_eq!(record["status"], "completed", "{record:#}");
    record
}

#[tokio::test]
async fn a_gateway_that_slept_between_script_and_runtime_starts_nothing() {
    let gate = |stack: &Stack| {
        let to = stack.home().join("run/runtime.sock");
        SocketGate::open(&stack.home().join("run/gate-runtime.sock"), &to)
    };
    let (two, gate) = Two::start(r#"read -r name; echo "$name" > "$name""#, Some(gate)).await;
    let gate = gate.expect("it was asked for");
    two.workers.lead(&two.stack.worker_port("b"));
    gate.hold();
    let turn = submit(&two.a, "demo").await;
    eventually("the start is on its way", MINUTE, || async { gate.asked().contains("POST /workloads ").then_some(()) })
        .await;
    two.stack.gateway.signal(Signal::STOP);

    // Its lease ends; the other one does all of it, and the unit comes to its end.
    completed(&two.b, &turn).await;
    let uid = uid(&two.b, "demo").await;
    two.b.post("/v1/units/demo/stop", &json!({})).await;
    crate::support::gone(&two.stack, &two.b, "demo").await;
    assert!(!gate.answered().contains(" 409 "), "{}", gate.answered());

    // Now the call arrives, and then its sender wakes up.
    gate.release();
    eventually("the late start is refused", MINUTE, || async { gate.answered().contains(" 409 ").then_some(()) }).await;
    two.stack.gateway.signal(Signal::CONT);
    stack::ready(&two.stack.address).await;
    crate::support::gone(&two.stack, &two.a, "demo").await;
    told_once(&two.stack, &turn, &uid).await;
    two.a.invoke("demo", "another").await.expect(200);
}

#[tokio::test]
async fn a_gateway_that_slept_on_a_last_word_cannot_say_it_for_the_next_generation() {
    let (two, _) = Two::start(WAITS, None).await;
    let turn = submit(&two.a, "demo").await;
    let begun = two.b.events("demo", Some("0")).await.until("message-delta", MINUTE).await;
    let first = begun.last().expect("an event").data["generation"].clone();
    let uid = uid(&two.b, "demo").await;

    // What the worker says now lies in the sleeper's socket, and it reaches nobody else.
    two.stack.gateway.signal(Signal::STOP);
    two.workers.lead(&two.stack.worker_port("nobody"));
    std::fs::write(two.stack.workspace(&uid).join("go"), "").expect("let the turn go on");
    let record = two.stack.state(&uid).join("record.json");
    eventually("the turn is on record", MINUTE, || async {
        std::fs::read_to_string(&record).is_ok_and(|text| text.contains(&turn)).then_some(())
    })
    .await;
    // The worker is ended, and the next one asked what came of the turn.
    two.b.post("/v1/units/demo/stop", &json!({})).await;
    eventually("that generation is over", MINUTE, || async {
        let unit = two.b.get("/v1/units/demo").await.expect(200).json();
        (unit["state"] == "starting" && unit["generation"] != first).then_some(())
    })
    .await;
    two.workers.lead(&two.stack.worker_port("b"));
    completed(&two.b, &turn).await;
    told_once(&two.stack, &turn, &uid).await;

    two.stack.gateway.signal(Signal::CONT);
    stack::ready(&two.stack.address).await;
    assert_eq!(two.a.get("/v1/units/demo").await.expect(200).json()["state"], "live");
    let events = two.stack.redis.events(&uid).await;
    let done = events.iter().find(|e| e["type"] == "done").expect("it is told");
    assert_ne!(done["generation"], first, "the next generation told it");
    // Whatever the sleeper had to say is said by now: it serves its own callers again.
    let next = submit(&two.a, "demo").await;
    std::fs::write(two.stack.workspace(&uid).join("go"), "").expect("let the turn go on");
    completed(&two.a, &next).await;
    told_once(&two.stack, &turn, &uid).await;
    drop(two.other);
}

/// A stopped worker hears no TERM; it is killed as it is, and only then the next one begins.
async fn sleeps_through_its_end(backend: Backend) {
    let stack = Stack::start(Options::new(backend).settings(&exec_profile(WAITS, ""))).await;
    let api = stack.api("ann");
    let turn = submit(&api, "demo").await;
    let begun = api.events("demo", Some("0")).await.until("message-delta", MINUTE).await;
    let first = begun.last().expect("an event").data["generation"].clone();
    let uid = uid(&api, "demo").await;
    let workers = Sandbox::all(&stack, Part::Worker);
    let [worker] = workers.as_slice() else { panic!("one worker, not {workers:?}") };
    assert!(worker.signal(Signal::STOP));

    api.post("/v1/units/demo/stop", &json!({})).await;
    let mut events = api.events("demo", Some("0")).await;
    loop {
        let event = timeout(MINUTE, events.next()).await.expect("it runs again").expect("an open stream");
        if event.kind() == "message-delta" && event.data["generation"] != first {
            break;
        }
    }
    assert!(!worker.signal(Signal::CONT), "there is nobody left to wake up");
    std::fs::write(stack.workspace(&uid).join("go"), "").expect("let the turn go on");
    completed(&api, &turn).await;
    told_once(&stack, &turn, &uid).await;
}

#[tokio::test]
async fn a_worker_that_sleeps_through_its_end_is_gone_before_the_next_one_begins_as_a_process() {
    sleeps_through_its_end(Backend::Process).await;
}

#[tokio::test]
async fn a_worker_that_sleeps_through_its_end_is_gone_before_the_next_one_begins_on_docker() {
    sleeps_through_its_end(Backend::Docker).await;
}

/// Longer than a gateway's patience with Redis, shorter than the callers' with a gateway.
#[tokio::test]
async fn workers_gateways_and_runtimes_that_sleep_and_wake_up_double_and_lose_nothing() {
    crate::chaos::sleepwalk(Backend::Process, 20, 300, Duration::from_millis(2_500)).await;
}
