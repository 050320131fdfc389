//! Workloads and generations that lose each other find an end, and one that works is left alone.

use std::time::Duration;

use serde_json::json;
use tests::api::Api;
use tests::eventually;
use tests::sandbox::{Part, Sandbox, containers};
use tests::stack::{Backend, Options, Stack};

use crate::support::{MINUTE, exec_profile, find, uid};

const STEPS: &str = "echo begun; until [ -e go ]; do sleep 0.05; done; rm go; echo ended";
/// Within which what nobody has is gone: a period of the comparison, the grace, TERM and KILL.
const BOUND: Duration = Duration::from_secs(15);

async fn stack(backend: Backend) -> Stack {
    Stack::start(Options::new(backend).settings(&exec_profile(STEPS, ""))).await
}

/// A turn that runs until its workspace has a file `go`; the unit's uid.
async fn busy(api: &Api, unit: &str) -> String {
    let path = format!("/v1/units/{unit}/invoke");
    api.post_with(&path, &[("prefer", "respond-async")], &json!({"prompt": "go"})).await.expect(202);
    api.events(unit, Some("0")).await.until("message-delta", MINUTE).await;
    uid(api, unit).await
}

fn go(stack: &Stack, uid: &str) {
    std::fs::write(stack.workspace(uid).join("go"), "").unwrap();
}

/// Nothing of the unit's workloads is left anywhere.
async fn gone(stack: &Stack, uid: &str) {
    eventually(&format!("the workload of {uid} is gone"), BOUND, || async {
        let listed = stack.workloads().await.iter().any(|w| w["workloadId"].as_str().unwrap().starts_with(uid));
        let folder = stack.generations().iter().any(|id| id.starts_with(uid));
        (!listed && !folder).then_some(())
    })
    .await;
}

async fn a_ledger_that_forgets(backend: Backend) {
    let stack = stack(backend).await;
    let api = stack.api("ann");
    let (works, lost) = (busy(&api, "works").await, busy(&api, "lost").await);
    // A part of it first: by the time that this one is gone, the other was compared as well.
    stack.redis.command(&["DEL", &format!("unit:{lost}")]).await.unwrap();
    gone(&stack, &lost).await;
    go(&stack, &works);
    let events = api.events("works", Some("0")).await.until_any(&["turn-complete", "turn-failed"], MINUTE).await;
    assert_eq!(events.last().unwrap().kind(), "turn-complete", "{events:#?}");
    assert_eq!(events.iter().filter(|e| e.kind() == "turn-accepted").count(), 1);
    assert!(events.iter().all(|e| e.kind() != "worker-exit"), "{events:#?}");
    // Then all of it, with one worker that idles and one that works.
    let late = busy(&api, "late").await;
    assert_eq!(stack.redis.command(&["FLUSHALL"]).await.unwrap(), "+OK\r\n");
    gone(&stack, &late).await;
    gone(&stack, &works).await;
    if backend == Backend::Docker {
        assert_eq!(containers(&stack.deployment), Vec::<String>::new());
    }
    // The workspace is still there, and so is the way to it.
    go(&stack, &works);
    assert_eq!(api.invoke("works", "go").await.expect(200).json()["reply"], "begun\nended\n");
}

#[tokio::test]
async fn what_a_ledger_forgets_ends_and_nothing_else_as_a_process() {
    a_ledger_that_forgets(Backend::Process).await;
}

#[tokio::test]
async fn what_a_ledger_forgets_ends_and_nothing_else_on_docker() {
    a_ledger_that_forgets(Backend::Docker).await;
}

/// The runtime dies at several points between the first trace of a workload and its answer, with a turn running elsewhere.
async fn starts_that_are_cut_off(backend: Backend) {
    let mut stack = stack(backend).await;
    let api = stack.api("ann");
    let works = busy(&api, "works").await;
    for delay_ms in [0, 15, 60, 150] {
        let (unit, before) = (format!("cut-{delay_ms}"), stack.generations().len());
        let path = format!("/v1/units/{unit}/invoke");
        api.post_with(&path, &[("prefer", "respond-async")], &json!({"prompt": "go"})).await.expect(202);
        eventually("a trace of its workload", MINUTE, || async { (stack.generations().len() > before).then_some(()) })
            .await;
        // Not a wait for anything: the moments of a start, one after the other.
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        stack.runtime.kill();
        stack.runtime.start();
        let mut events = api.events(&unit, Some("0")).await;
        events.until("message-delta", MINUTE).await;
        let uid = uid(&api, &unit).await;
        go(&stack, &uid);
        let rest = events.until_any(&["turn-complete", "turn-failed"], MINUTE).await;
        assert_eq!(rest.last().unwrap().kind(), "turn-complete", "{rest:#?}");
        let started: Vec<_> = stack.generations().into_iter().filter(|id| id.starts_with(&uid)).collect();
        assert_eq!(started.len(), 1, "one generation of it is left, and no other: {started:?}");
        api.post(&format!("/v1/units/{unit}/stop"), &json!({})).await;
        gone(&stack, &uid).await;
    }
    go(&stack, &works);
    let events = api.events("works", Some("0")).await.until_any(&["turn-complete", "turn-failed"], MINUTE).await;
    assert_eq!(find(&events, "done").data["reply"], "begun\nended\n");
    assert_eq!(events.iter().filter(|e| e.kind() == "turn-accepted").count(), 1);
    if backend == Backend::Docker {
        assert_eq!(containers(&stack.deployment).len(), 1);
    }
}

#[tokio::test]
async fn a_start_that_the_runtime_dies_in_leaves_nothing_behind_as_a_process() {
    starts_that_are_cut_off(Backend::Process).await;
}

#[tokio::test]
async fn a_start_that_the_runtime_dies_in_leaves_nothing_behind_on_docker() {
    starts_that_are_cut_off(Backend::Docker).await;
}

#[tokio::test]
async fn a_worker_that_dies_while_no_gateway_is_there_is_cleared_away_and_its_turn_run_again() {
    let mut stack = stack(Backend::Process).await;
    let api = stack.api("ann");
    let demo = busy(&api, "demo").await;
    stack.gateway.kill();
    let workers = Sandbox::all(&stack, Part::Worker);
    assert_eq!(workers.len(), 1);
    assert!(workers[0].signal(rustix::process::Signal::KILL));
    gone(&stack, &demo).await;
    stack.gateway.start();
    stack.ready().await;
    let mut stream = api.events("demo", Some("0")).await;
    let mut events = stream.until("message-delta", MINUTE).await;
    events.extend(stream.until("message-delta", MINUTE).await);
    // Not before: what lies in the tree when the turn is run again is put aside.
    go(&stack, &demo);
    events.extend(stream.until_any(&["turn-complete", "turn-failed"], MINUTE).await);
    let attempts: Vec<_> =
        events.iter().filter(|e| e.kind() == "turn-accepted").map(|e| e.data["attempt"].as_u64()).collect();
    assert_eq!(attempts, [Some(1), Some(2)]);
    assert_eq!(find(&events, "worker-exit").data["reason"], "failed");
}
