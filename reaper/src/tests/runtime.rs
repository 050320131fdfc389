//! A `runtime.v1` server over a Unix socket.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path as FilePath;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use contract::{ErrorCode, Problem};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::WatchStream;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// It ends what it is told to.
    Known,
    /// It never heard of any workload.
    Unknown,
    /// It stops, but something of the workload is left.
    Survivor,
    /// 503 to everything.
    Absent,
    /// A stop takes until it answers otherwise.
    Held,
}

#[derive(Debug, Default)]
struct Seen {
    calls: Vec<String>,
    listings: usize,
    at_once: usize,
    most_at_once: usize,
}

#[derive(Clone)]
struct Shared {
    answers: watch::Sender<Answers>,
    seen: watch::Sender<Seen>,
    store: watch::Sender<Store>,
}

/// What it says that it has.
#[derive(Debug, Clone, Default)]
pub struct Store {
    /// By id: the statuses that it lists.
    pub workloads: BTreeMap<String, Value>,
    /// Generations' folders without a workload.
    pub folders: Vec<String>,
    /// The trash: names and ages in seconds.
    pub trash: Vec<(String, u64)>,
    /// Whether it can list.
    pub blind: bool,
}

pub struct Runtime {
    shared: Shared,
    server: JoinHandle<()>,
}

impl Runtime {
    pub fn start(socket: &FilePath) -> Self {
        let shared = Shared {
            answers: watch::Sender::new(Answers::Known),
            seen: watch::Sender::new(Seen::default()),
            store: watch::Sender::new(Store::default()),
        };
        let routes = Router::new()
            .route("/health", get(|| async { StatusCode::SERVICE_UNAVAILABLE }))
            .route("/workloads", get(list))
            .route("/leftovers", get(leftovers))
            .route("/trash/{id}", delete(remove))
            .route("/states/{id}", delete(trash))
            .route("/workspaces/{id}", delete(trash))
            .route("/workloads/{id}/stop", post(stop))
            .route("/workloads/{id}", delete(destroy))
            .with_state(shared.clone());
        let listener = UnixListener::bind(socket).unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        Self { shared, server }
    }

    pub fn answer(&self, answers: Answers) {
        self.shared.answers.send_replace(answers);
    }

    /// Changes what it has; watchers are told of every workload again.
    pub fn has(&self, change: impl FnOnce(&mut Store)) {
        self.shared.store.send_modify(change);
    }

    /// It has this workload, in this state.
    pub fn has_workload(&self, id: &str, state: &str, reason: Option<&str>) {
        let mut status = json!({"workloadId": id, "profile": "default", "state": state, "backend": "process"});
        if let Some(reason) = reason {
            status["stopReason"] = reason.into();
            status["exitCode"] = 3.into();
        }
        self.has(|store| drop(store.workloads.insert(id.to_owned(), status)));
    }

    pub fn calls(&self) -> Vec<String> {
        self.shared.seen.borrow().calls.clone()
    }

    pub fn listings(&self) -> usize {
        self.shared.seen.borrow().listings
    }

    pub fn most_at_once(&self) -> usize {
        self.shared.seen.borrow().most_at_once
    }

    /// Waits until it was called so often.
    pub async fn called(&self, what: &str, times: usize) {
        let mut seen = self.shared.seen.subscribe();
        let enough = seen.wait_for(|s| s.calls.iter().filter(|c| c.starts_with(what)).count() >= times);
        tokio::time::timeout(Duration::from_secs(20), enough).await.unwrap().unwrap();
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn problem(code: ErrorCode) -> Response {
    let status = StatusCode::from_u16(code.status()).unwrap();
    (status, Json(Problem::new(code, "as the test says"))).into_response()
}

async fn stop(State(shared): State<Shared>, Path(id): Path<String>, Json(body): Json<Value>) -> Response {
    let reason = body["reason"].clone();
    shared.seen.send_modify(|s| {
        s.calls.push(format!("stop {id} {}", reason.as_str().unwrap_or("-")));
        s.at_once += 1;
        s.most_at_once = s.most_at_once.max(s.at_once);
    });
    let mut answers = shared.answers.subscribe();
    let now = *answers.wait_for(|a| *a != Answers::Held).await.unwrap();
    tokio::task::yield_now().await;
    shared.seen.send_modify(|s| s.at_once -= 1);
    match now {
        Answers::Unknown => problem(ErrorCode::NotFound),
        Answers::Absent => problem(ErrorCode::Unavailable),
        Answers::Known | Answers::Survivor | Answers::Held => Json(json!({
            "workloadId": id, "profile": "default", "state": "stopped", "exitCode": 0, "stopReason": reason,
            "backend": "process",
        }))
        .into_response(),
    }
}

async fn destroy(State(shared): State<Shared>, Path(id): Path<String>) -> Response {
    shared.seen.send_modify(|s| s.calls.push(format!("destroy {id}")));
    if matches!(*shared.answers.borrow(), Answers::Known | Answers::Unknown) {
        shared.store.send_modify(|store| {
            store.workloads.remove(&id);
            store.folders.retain(|folder| *folder != id);
        });
    }
    match *shared.answers.borrow() {
        Answers::Unknown => problem(ErrorCode::NotFound),
        Answers::Absent | Answers::Survivor => problem(ErrorCode::Unavailable),
        Answers::Known | Answers::Held => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn list(State(shared): State<Shared>, uri: Uri) -> Response {
    let store = shared.store.borrow().clone();
    if store.blind {
        return problem(ErrorCode::Unavailable);
    }
    if uri.query() != Some("watch") {
        shared.seen.send_modify(|s| s.listings += 1);
        return Json(store.workloads.into_values().collect::<Vec<_>>()).into_response();
    }
    let changes = WatchStream::new(shared.store.subscribe()).map(|store| {
        let lines: String = store.workloads.values().map(|status| format!("{status}\n")).collect();
        Ok::<_, Infallible>(Bytes::from(lines + "\n"))
    });
    Body::from_stream(changes).into_response()
}

async fn leftovers(State(shared): State<Shared>) -> Response {
    let store = shared.store.borrow().clone();
    let trash: Vec<_> = store.trash.iter().map(|(id, age)| json!({"id": id, "age_sec": age})).collect();
    Json(json!({"folders": store.folders, "trash": trash})).into_response()
}

async fn remove(State(shared): State<Shared>, Path(id): Path<String>) -> StatusCode {
    shared.seen.send_modify(|s| s.calls.push(format!("remove {id}")));
    shared.store.send_modify(|store| store.trash.retain(|(name, _)| *name != id));
    StatusCode::NO_CONTENT
}

async fn trash(State(shared): State<Shared>, uri: Uri) -> StatusCode {
    shared.seen.send_modify(|s| s.calls.push(format!("trash {}", uri.path())));
    StatusCode::NO_CONTENT
}
