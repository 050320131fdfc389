//! A `runtime.v1` server over a Unix socket.

use std::path::Path as FilePath;
use std::time::Duration;

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use contract::{ErrorCode, Problem};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

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
    at_once: usize,
    most_at_once: usize,
}

#[derive(Clone)]
struct Shared {
    answers: watch::Sender<Answers>,
    seen: watch::Sender<Seen>,
}

pub struct Runtime {
    shared: Shared,
    server: JoinHandle<()>,
}

impl Runtime {
    pub fn start(socket: &FilePath) -> Self {
        let shared = Shared { answers: watch::Sender::new(Answers::Known), seen: watch::Sender::new(Seen::default()) };
        let routes = Router::new()
            .route("/health", get(|| async { StatusCode::SERVICE_UNAVAILABLE }))
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

    pub fn calls(&self) -> Vec<String> {
        self.shared.seen.borrow().calls.clone()
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
    match *shared.answers.borrow() {
        Answers::Unknown => problem(ErrorCode::NotFound),
        Answers::Absent | Answers::Survivor => problem(ErrorCode::Unavailable),
        Answers::Known | Answers::Held => StatusCode::NO_CONTENT.into_response(),
    }
}
