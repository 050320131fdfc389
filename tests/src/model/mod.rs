//! A model endpoint that follows a script: it speaks the Messages API, streaming or not, with thinking and tool use, keeps
//! every request for assertions, and can be slow, overloaded, or break off in the middle of an answer.
//!
//! Source of the wire format: the public documentation of Anthropic's Messages API and of its streaming events.

mod reply;
mod request;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request as HttpRequest, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

pub use reply::{Block, Gate, Reply};
pub use request::{Request, ToolResult};

type Script = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// The endpoint. It ends when this is dropped.
pub struct Model {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    script: Mutex<Script>,
    requests: Mutex<Vec<Request>>,
}

impl Drop for Model {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Model {
    /// Starts it on a free loopback port. The script answers every request for a message; a panic in it is the caller's
    /// broken connection.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(script: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared { script: Mutex::new(Arc::new(script)), requests: Mutex::default() });
        let routes = Router::new()
            .route("/v1/messages", post(messages))
            .route("/v1/messages/count_tokens", post(count_tokens))
            .route("/v1/models", get(models))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("its address");
        let server = tokio::spawn(async move {
            axum::serve(listener, routes).await.expect("serve the model endpoint");
        });
        Self { address, shared, server }
    }

    /// What `ANTHROPIC_BASE_URL` is to be.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on, this script answers.
    pub fn follow(&self, script: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *lock(&self.shared.script) = Arc::new(script);
    }

    /// Every request for a message so far, oldest first.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// Waits until that many requests were made in all, and returns them.
    ///
    /// # Panics
    /// When there are fewer after `limit`.
    pub async fn wait_for(&self, count: usize, limit: Duration) -> Vec<Request> {
        let what = format!("{count} requests to the model");
        crate::eventually(&what, limit, || async {
            let requests = self.requests();
            (requests.len() >= count).then_some(requests)
        })
        .await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A script that panicked must not hide what the test was to assert.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn messages(State(shared): State<Arc<Shared>>, request: HttpRequest) -> Response {
    let (head, body) = request.into_parts();
    let Ok(bytes) = axum::body::to_bytes(body, 64 << 20).await else {
        return StatusCode::PAYLOAD_TOO_LARGE.into_response();
    };
    let body: Value = match serde_json::from_slice(&bytes) {
        Ok(body) => body,
        Err(e) => {
            return Reply::error(400, &format!("not JSON: {e}")).into_response("", false).await;
        }
    };
    let request = Request { headers: head.headers, body };
    let reply = if let Some(fault) = request.fault() {
        Reply::error(400, fault)
    } else {
        let script = Arc::clone(&lock(&shared.script));
        script(&request)
    };
    let model = request.body["model"].as_str().unwrap_or_default().to_owned();
    let stream = request.body["stream"] == true;
    lock(&shared.requests).push(request);
    reply.into_response(&model, stream).await
}

async fn count_tokens() -> Response {
    axum::Json(json!({ "input_tokens": 100 })).into_response()
}

async fn models() -> Response {
    let model = json!({ "type": "model", "id": "claude-scripted", "display_name": "Scripted", "created_at": "2026-01-01T00:00:00Z" });
    axum::Json(
        json!({ "data": [model], "has_more": false, "first_id": "claude-scripted", "last_id": "claude-scripted" }),
    )
    .into_response()
}
