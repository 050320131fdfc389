//! From a start job to a workload and back, against a `runtime.v1` service that is scripted.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post as on_post};
use axum::{Json, Router};
use contract::{Backend, ErrorCode, Problem, WorkloadSpec, WorkloadState, WorkloadStatus};
use gateway::dispatcher::Dispatcher;
use gateway::tokens::DispatchTokens;
use http::{Request, StatusCode};
use ledger::UnitState;
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::world::{KEY, RUNTIME_TOKEN, SOON, World, post, world};

/// What the scripted runtime does with the next start.
pub enum Reply {
    Run,
    Stale(u64),
    /// As the runtime answers for a workload that has ended.
    Over,
    Refuse(&'static str),
    Fail(&'static str),
}

#[derive(Clone, Default)]
pub struct Runtime(pub Arc<Mutex<Log>>);

#[derive(Default)]
pub struct Log {
    script: VecDeque<Reply>,
    specs: Vec<WorkloadSpec>,
    pub trashed: Vec<String>,
}

impl Runtime {
    pub fn serve(&self, world: &World) -> tokio_util::task::AbortOnDropHandle<()> {
        let listener = UnixListener::bind(world.folder().join("runtime.sock")).unwrap();
        let trash = |State(runtime): State<Self>, Path(id): Path<String>| async move {
            runtime.0.lock().unwrap().trashed.push(id);
            StatusCode::NO_CONTENT
        };
        let router = Router::new()
            .route("/workloads", on_post(start))
            .route("/states/{id}", delete(trash))
            .route("/workspaces/{id}", delete(trash))
            .with_state(self.clone());
        let serving = async move { axum::serve(listener, router).await.unwrap() };
        tokio_util::task::AbortOnDropHandle::new(tokio::spawn(serving))
    }

    fn specs(&self) -> Vec<WorkloadSpec> {
        self.0.lock().unwrap().specs.clone()
    }
}

async fn start(State(runtime): State<Runtime>, Json(spec): Json<WorkloadSpec>) -> Response {
    let reply = {
        let mut log = runtime.0.lock().unwrap();
        log.specs.push(spec.clone());
        log.script.pop_front().unwrap_or(Reply::Run)
    };
    let status = |state, detail: Option<&str>| WorkloadStatus {
        workload_id: spec.workload_id.clone(),
        profile: spec.profile.clone(),
        state,
        ports: Default::default(),
        started_at: None,
        stopped_at: None,
        exit_code: None,
        stop_reason: detail.map(|_| contract::StopReason::StartFailed),
        detail: detail.map(Into::into),
        backend: Backend::Process,
        node: None,
    };
    match reply {
        Reply::Run => (StatusCode::CREATED, Json(status(WorkloadState::Running, None))).into_response(),
        Reply::Fail(why) => (StatusCode::CREATED, Json(status(WorkloadState::Stopped, Some(why)))).into_response(),
        Reply::Refuse(why) => {
            (StatusCode::BAD_REQUEST, Json(Problem::new(ErrorCode::InvalidDocument, why))).into_response()
        }
        reply @ (Reply::Stale(_) | Reply::Over) => {
            let highest = if let Reply::Stale(highest) = reply { highest } else { spec.unit.generation.0 };
            let mut problem = serde_json::to_value(Problem::new(ErrorCode::StaleGeneration, "over")).unwrap();
            problem["highest"] = highest.into();
            (StatusCode::CONFLICT, Json(problem)).into_response()
        }
    }
}

fn dispatch(world: &mut World) -> (DropGuard, Arc<DispatchTokens>) {
    let path = world.folder().join("key.pem");
    std::fs::write(&path, KEY).unwrap();
    let tokens = Arc::new(DispatchTokens::from_pem_files(&path, &[]).unwrap());
    let dispatcher = Dispatcher {
        app: world.app.clone(),
        ledger: world.ledger.clone(),
        tokens: tokens.clone(),
        callback_url: "http://127.0.0.1:1/internal/runtime-events".into(),
    };
    let (_, none) = tokio::sync::mpsc::channel(1);
    let jobs = std::mem::replace(&mut world.jobs, none);
    let cancel = CancellationToken::new();
    tokio::spawn(dispatcher.run(jobs, cancel.clone()));
    (cancel.drop_guard(), tokens)
}

async fn submit(world: &World) -> Value {
    let mut request = post("/v1/units/demo/invoke", "ann", &json!({"prompt": "x"}));
    request.headers_mut().insert("prefer", "respond-async".parse().unwrap());
    world.call(request).await.json()
}

/// Looks at the unit until this holds.
async fn until(world: &World, uid: &str, holds: impl Fn(&ledger::UnitRecord) -> bool) -> ledger::UnitRecord {
    let uid = contract::UnitId::parse(uid).unwrap();
    let mut look = tokio::time::interval(Duration::from_millis(20));
    let looking = async {
        loop {
            look.tick().await;
            let unit = world.ledger.unit(&uid).await.unwrap().unwrap();
            if holds(&unit) {
                return unit;
            }
        }
    };
    timeout(SOON, looking).await.expect("it does not come to that")
}

#[tokio::test]
async fn a_start_is_the_same_for_whoever_makes_it() {
    let mut world = world().await;
    let runtime = Runtime::default();
    let _serving = runtime.serve(&world);
    let (_running, tokens) = dispatch(&mut world);
    let accepted = submit(&world).await;
    let started = async {
        while runtime.specs().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, started).await.unwrap();
    let spec = runtime.specs().remove(0);
    let uid = accepted["uid"].as_str().unwrap();
    assert_eq!(spec.unit.uid.as_str(), uid);
    assert_eq!(spec.workload_id.generation, spec.unit.generation);
    assert_eq!(spec.mounts.len(), 1);
    assert_eq!(spec.mounts[0].workspace.as_str(), uid);
    assert_eq!(spec.env["REKINDLE_START"], "cold");
    assert_eq!(spec.env["REKINDLE_RUNNER"], "echo");
    assert_eq!(spec.env["REKINDLE_RUNNER_CONFIG"], r#"{"command":[]}"#);
    assert!(spec.env["TRACEPARENT"].starts_with("00-"));
    let claims = tokens.verify(&spec.token).unwrap();
    assert_eq!((claims.sub.as_str(), &claims.unit, claims.generation), ("ann", &spec.unit.uid, spec.unit.generation));
}

#[tokio::test]
async fn a_stale_generation_is_replaced_by_a_higher_one() {
    let mut world = world().await;
    let runtime = Runtime::default();
    let highest = 9_000_000_000_000;
    runtime.0.lock().unwrap().script.push_back(Reply::Stale(highest));
    let _serving = runtime.serve(&world);
    let _running = dispatch(&mut world);
    let uid = submit(&world).await["uid"].as_str().unwrap().to_owned();
    let higher = |unit: &ledger::UnitRecord| unit.state.generation().is_some_and(|g| g.0 > highest);
    until(&world, &uid, higher).await;
    let second = async {
        while runtime.specs().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, second).await.unwrap();
    assert!(runtime.specs()[1].unit.generation.0 > highest);
}

#[tokio::test]
async fn a_generation_that_is_over_before_its_worker_came_is_a_start_that_failed() {
    let mut world = world().await;
    let runtime = Runtime::default();
    runtime.0.lock().unwrap().script.push_back(Reply::Over);
    let _serving = runtime.serve(&world);
    let _running = dispatch(&mut world);
    let uid = submit(&world).await["uid"].as_str().unwrap().to_owned();
    let unit = until(&world, &uid, |u| matches!(u.state, UnitState::Draining { .. })).await;
    // It is counted and its end confirmed before another is started: no higher one was asked for in its place.
    assert_eq!(unit.failed_starts, 1);
    assert!(unit.start_detail.unwrap().contains("ended before its worker was ready"));
    assert_eq!(runtime.specs().len(), 1);
    assert_eq!(unit.state.generation(), Some(runtime.specs()[0].unit.generation));
}

#[tokio::test]
async fn what_the_runtime_refuses_settles_the_turn_with_its_words() {
    let mut world = world().await;
    let runtime = Runtime::default();
    runtime.0.lock().unwrap().script.push_back(Reply::Refuse("there is no such image"));
    let _serving = runtime.serve(&world);
    let _running = dispatch(&mut world);
    let answer = world.call(post("/v1/units/demo/invoke", "ann", &json!({"prompt": "x"}))).await;
    let problem = answer.problem(502, "turn-failed");
    assert_eq!((&problem["source"], &problem["reason"]), (&json!("platform"), &json!("start_failed")));
    assert!(problem["detail"].as_str().unwrap().contains("there is no such image"), "{problem}");
}

#[tokio::test]
async fn a_start_that_failed_drains_and_says_why() {
    let mut world = world().await;
    let runtime = Runtime::default();
    runtime.0.lock().unwrap().script.push_back(Reply::Fail("exec format error"));
    let _serving = runtime.serve(&world);
    let _running = dispatch(&mut world);
    let uid = submit(&world).await["uid"].as_str().unwrap().to_owned();
    let unit = until(&world, &uid, |u| matches!(u.state, UnitState::Draining { .. })).await;
    assert_eq!((unit.failed_starts, unit.start_detail.as_deref()), (1, Some("exec format error")));
}

#[tokio::test]
async fn a_runtime_that_comes_late_still_gets_the_start() {
    let mut world = world().await;
    let _running = dispatch(&mut world);
    submit(&world).await;
    // The first attempts meet no socket at all, or one that breaks off.
    let path = world.folder().join("runtime.sock");
    let broken = UnixListener::bind(&path).unwrap();
    drop(timeout(SOON, broken.accept()).await.expect("nobody tries").unwrap());
    drop(broken);
    std::fs::remove_file(path).unwrap();
    let runtime = Runtime::default();
    let _serving = runtime.serve(&world);
    let started = async {
        while runtime.specs().is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, started).await.unwrap();
}

fn event(world: &World, token: &str, generation: u64, uid: &str) -> Request<axum::body::Body> {
    let _ = world;
    let body = json!({
        "workloadId": format!("{uid}-{generation}"), "state": "stopped", "at": "2026-01-01T00:00:00Z",
        "exitCode": 137, "stopReason": "oom",
    });
    Request::post("/internal/runtime-events")
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(body.to_string().into())
        .unwrap()
}

#[tokio::test]
async fn the_runtimes_word_drains_a_live_unit_and_only_its_own_word() {
    let mut world = world().await;
    let accepted = submit(&world).await;
    let worker = world.worker().await;
    let uid = accepted["uid"].as_str().unwrap();
    let generation = worker.generation.0;
    world.call(event(&world, "a guess", generation, uid)).await.problem(401, "unauthenticated");
    let older = world.call(event(&world, RUNTIME_TOKEN, generation - 1, uid)).await;
    assert_eq!(older.status, 204);
    assert!(matches!(world.ledger.unit(&worker.uid).await.unwrap().unwrap().state, UnitState::Live { .. }));
    for _ in 0..2 {
        assert_eq!(world.call(event(&world, RUNTIME_TOKEN, generation, uid)).await.status, 204);
    }
    let unit = world.get("/v1/units/demo", "ann").await.json();
    assert_eq!((&unit["state"], &unit["reason"]), (&json!("draining"), &json!("oom")));
}

#[tokio::test]
async fn a_unit_is_stopped_and_erased_with_what_lies_on_disk() {
    let mut world = world().await;
    let runtime = Runtime::default();
    let _serving = runtime.serve(&world);
    let accepted = submit(&world).await;
    let worker = world.worker().await;
    let turn = worker.take().await;
    worker.settle(&turn.turn_id, 2, true, "ok").await;
    let uid = accepted["uid"].as_str().unwrap();

    let stop = || crate::world::request("POST", "/v1/units/demo/stop", "ann").body(axum::body::Body::empty()).unwrap();
    let stopping = world.call(stop()).await;
    assert_eq!((stopping.status.as_u16(), &stopping.json()["state"]), (202, &json!("draining")));
    let erase = |wait: &str| {
        let request = crate::world::request("DELETE", "/v1/units/demo", "ann").header("prefer", wait);
        request.body(axum::body::Body::empty()).unwrap()
    };
    world.call(erase("wait=0")).await.problem(409, "conflict");
    assert!(runtime.0.lock().unwrap().trashed.is_empty(), "nothing is trashed while a worker may live");

    let exit = ledger::Exit { reason: contract::StopReason::Stopped, exit_code: Some(0), detail: None };
    assert!(world.ledger.exited(&worker.uid, worker.generation, exit).await.unwrap());
    assert_eq!(world.call(erase("wait=5")).await.status, 204);
    assert_eq!(runtime.0.lock().unwrap().trashed, [uid, uid], "its state and its own workspace");
    world.get("/v1/units/demo", "ann").await.problem(404, "not-found");
    world.get(&format!("/v1/turns/{}", turn.turn_id), "ann").await.problem(404, "not-found");
}
