//! A rolling restart: two gateways behind a balancer, each restarted in its turn, under load. Nothing is lost, nothing runs twice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hyper::Method;
use serde_json::{Value, json};
use tests::api::Api;
use tests::eventually;
use tests::stack::{Backend, Options, Stack, ready};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::support::{MINUTE, exec_profile, find};

const UNITS: usize = 6;
/// What one unit may ask for at most, so that the load is bounded whatever happens.
const MOST_TURNS: usize = 400;
/// A balancer looks for another gateway about so often.
const BALANCE: Duration = Duration::from_millis(20);

/// A deployment with two gateways that every relay knows.
async fn two_gateways(options: Options) -> (Stack, tests::service::Service, String) {
    let mut stack = Stack::prepare(&options).await;
    let (mut second, address) = stack.another_gateway("second");
    let ports =
        format!("unix://{} unix://{}", stack.worker_port("worker").display(), stack.worker_port("second").display());
    stack.runtime.set_env("REKINDLE_RUNTIME__WORKER_PORT", &ports);
    stack.runtime.start();
    stack.gateway.start();
    second.start();
    stack.reaper.start();
    stack.ready().await;
    ready(&address).await;
    (stack, second, address)
}

#[tokio::test]
async fn a_rolling_restart_of_two_gateways_under_load_loses_nothing() {
    let (mut stack, mut second, address) = two_gateways(Options::new(Backend::Process)).await;
    let gateways = [stack.api("ann"), stack.api("ann").at(&address)];
    let over = Arc::new(AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for unit in 0..UNITS {
        callers.spawn(call(gateways.clone(), unit, over.clone()));
    }
    for _ in 0..2 {
        // Long enough under load that each restart meets turns in every state.
        sleep(Duration::from_millis(700)).await;
        assert!(stack.gateway.terminate(Duration::from_secs(20)).await.success());
        stack.gateway.start();
        stack.ready().await;
        sleep(Duration::from_millis(700)).await;
        assert!(second.terminate(Duration::from_secs(20)).await.success());
        second.start();
        ready(&address).await;
    }
    over.store(true, Ordering::Relaxed);
    let sent = timeout(MINUTE, callers.join_all()).await.expect("every call is answered");

    let (mut turns, mut elsewhere) = (0, 0);
    for (unit, calls) in sent {
        let uid = crate::support::uid(&gateways[0], &format!("unit-{unit}")).await;
        let mut ends = BTreeMap::<String, usize>::new();
        for event in stack.redis.events(&uid).await {
            if event["type"] == "turn-complete" || (event["type"] == "turn-failed" && event["final"] == true) {
                *ends.entry(event["turn_id"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        assert_eq!(ends.len(), calls.len(), "unit-{unit}: as many turns as calls, however often one was repeated");
        for Called { turn, again } in &calls {
            assert_eq!(ends.get(turn), Some(&1), "unit-{unit}: {turn} ended once");
            elsewhere += again;
        }
        turns += calls.len();
    }
    println!("{turns} turns, {elsewhere} calls went to the other gateway");
    assert!(turns >= 10 * UNITS, "hardly a load: {turns} turns");
}

struct Called {
    turn: String,
    /// How often the call was repeated.
    again: usize,
}

/// One unit's caller: a turn after the other, each by whichever gateway answers.
async fn call(gateways: [Api; 2], unit: usize, over: Arc<AtomicBool>) -> (usize, Vec<Called>) {
    let path = format!("/v1/units/unit-{unit}/invoke");
    let mut calls = Vec::new();
    while !over.load(Ordering::Relaxed) && calls.len() < MOST_TURNS {
        let prompt = format!("turn {}", calls.len());
        let key = format!("{unit}-{}", calls.len());
        let begun = Instant::now();
        let mut again = 0;
        let answer = loop {
            assert!(begun.elapsed() < MINUTE, "unit-{unit}: {prompt} is answered by nobody");
            let headers = [("idempotency-key", key.as_str())];
            let body = json!({ "prompt": prompt }).to_string().into();
            let gateway = &gateways[(unit + calls.len() + again) % 2];
            match gateway.send(Method::POST, &path, &headers, body).await {
                // It was told that the turn goes on, or that the gateway has no ledger yet; asking again is harmless.
                Ok(answer) if answer.status != 503 && answer.status != 504 => break answer.expect(200).json(),
                _ => again += 1,
            }
            sleep(BALANCE).await;
        };
        assert_eq!(answer["reply"], prompt.as_str(), "unit-{unit}");
        calls.push(Called { turn: answer["turn_id"].as_str().unwrap().to_owned(), again });
    }
    (unit, calls)
}

/// Writes a line, waits for a file, writes another.
const STEPS: &str = "echo begun; while [ ! -e go ]; do sleep 0.05; done; echo ended";

#[tokio::test]
async fn a_draining_gateway_tells_of_turns_that_go_on_and_their_workers_go_elsewhere() {
    let (mut stack, second, address) =
        two_gateways(Options::new(Backend::Process).settings(&exec_profile(STEPS, ""))).await;
    let (first, other) = (stack.api("ann"), stack.api("ann").at(&address));
    let waiting = tokio::spawn({
        let first = first.clone();
        async move { first.invoke("demo", "go").await }
    });
    let mut events = {
        eventually("the unit exists", MINUTE, || async {
            (other.get("/v1/units/demo").await.status == 200).then_some(())
        })
        .await;
        other.events("demo", Some("0")).await
    };
    events.until("message-delta", MINUTE).await;
    let uid = crate::support::uid(&other, "demo").await;
    assert!(stack.gateway.terminate(Duration::from_secs(20)).await.success());
    // The caller is not left with nothing: the turn goes on, and its URL says so at the other gateway.
    let told = waiting.await.unwrap().expect(504).json();
    assert_eq!(told["type"], "urn:rekindle:error:still-running");
    let turn_url = told["turn_url"].as_str().unwrap().to_owned();
    let turn: Value = other.get(&turn_url).await.expect(200).json();
    assert_eq!(turn["status"], "running");
    std::fs::write(stack.workspace(&uid).join("go"), "").unwrap();
    let rest = events.until_any(&["turn-complete", "turn-failed"], MINUTE).await;
    assert_eq!(rest.last().unwrap().kind(), "turn-complete", "{rest:#?}");
    assert_eq!(find(&rest, "done").data["reply"], "begun\nended\n");
    let turn: Value = other.get(&turn_url).await.expect(200).json();
    assert_eq!((turn["status"].as_str(), turn["attempt"].as_u64()), (Some("completed"), Some(1)));
    drop(second);
}
