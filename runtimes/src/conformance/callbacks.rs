//! Every transition reaches the callback URL.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::routing::post;
use contract::{RuntimeEvent, WorkloadState};
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};

use super::bench::{Bench, LIMIT, Substrate, eventually};

/// A gateway's ear: keeps what it is told, or says 503.
struct Ear {
    url: String,
    heard: watch::Receiver<Vec<RuntimeEvent>>,
    deaf: Arc<Mutex<bool>>,
    refused: watch::Receiver<usize>,
    server: tokio::task::JoinHandle<()>,
}

#[derive(Clone)]
struct Shared {
    heard: Arc<watch::Sender<Vec<RuntimeEvent>>>,
    deaf: Arc<Mutex<bool>>,
    refused: Arc<watch::Sender<usize>>,
}

async fn hear(State(shared): State<Shared>, request: Request) -> StatusCode {
    if request.headers().get("authorization").is_none_or(|v| v != "Bearer callback-token") {
        return StatusCode::UNAUTHORIZED;
    }
    if *shared.deaf.lock().await {
        shared.refused.send_modify(|n| *n += 1);
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let body = axum::body::to_bytes(request.into_body(), 1 << 20).await.unwrap();
    let event: RuntimeEvent = contract::parse(&body).unwrap();
    shared.heard.send_modify(|all| all.push(event));
    StatusCode::NO_CONTENT
}

impl Ear {
    async fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/internal/runtime-events", listener.local_addr().unwrap());
        let (heard_by, heard) = watch::channel(Vec::new());
        let (refused_by, refused) = watch::channel(0);
        let deaf = Arc::new(Mutex::new(false));
        let shared = Shared { heard: Arc::new(heard_by), deaf: Arc::clone(&deaf), refused: Arc::new(refused_by) };
        let app = axum::Router::new().route("/internal/runtime-events", post(hear)).with_state(shared);
        let server = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
        Self { url, heard, deaf, refused, server }
    }

    async fn hears(&mut self, states: &[WorkloadState]) {
        let all = |events: &Vec<RuntimeEvent>| events.iter().map(|e| e.state).collect::<Vec<_>>();
        let _ = tokio::time::timeout(LIMIT, self.heard.wait_for(|events| all(events).len() >= states.len())).await;
        assert_eq!(all(&self.heard.borrow()), states);
    }
}

pub async fn every_transition_is_told_in_order(substrate: Substrate) {
    use WorkloadState::{Destroyed, Running, Starting, Stopped, Stopping};
    let mut ear = Ear::open().await;
    let mut bench = Bench::new(substrate).await;
    let mut spec = bench.spec("sleep");
    spec.callback_url = Some(ear.url.clone());
    let id = bench.start_ready(spec).await;
    bench.runtime.stop(&id, None).await.unwrap();
    bench.runtime.destroy(&id).await.unwrap();
    ear.hears(&[Starting, Running, Stopping, Stopped, Destroyed]).await;
    assert_eq!(ear.heard.borrow()[3].exit_code, Some(42));
    let spool = bench.config.store.join("callbacks");
    eventually("an empty spool", || (std::fs::read_dir(&spool).unwrap().count() == 0).then_some(())).await;
    bench.clean().await;
    ear.server.abort();
}

pub async fn what_was_not_delivered_is_delivered_after_a_restart(substrate: Substrate) {
    use WorkloadState::{Destroyed, Running, Starting, Stopped, Stopping};
    let mut ear = Ear::open().await;
    *ear.deaf.lock().await = true;
    let mut bench = Bench::new(substrate).await;
    let mut spec = bench.spec("sleep");
    spec.callback_url = Some(ear.url.clone());
    let id = bench.start_ready(spec).await;
    ear.refused.wait_for(|n| *n > 0).await.unwrap();
    bench.runtime.stop(&id, None).await.unwrap();
    bench.runtime.destroy(&id).await.unwrap();
    bench.restart().await;
    *ear.deaf.lock().await = false;
    ear.hears(&[Starting, Running, Stopping, Stopped, Destroyed]).await;
    bench.clean().await;
    ear.server.abort();
}
