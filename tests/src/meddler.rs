//! A proxy in front of a gateway that does to one call what a faulty deployment might: lose it, make it twice, answer otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http_body_util::Full;
use serde_json::json;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use ulid::Ulid;

use crate::http::{self, Answer, Target};

/// The call that is meddled with, counted from 0: the first of its unit is through by then.
const CALL: usize = 4;
const MOST_BYTES: usize = 4 << 20;
/// Of one connection and not of a message (RFC 9110 §7.6.1), and the length, which is set anew.
const OF_THE_CONNECTION: [header::HeaderName; 3] =
    [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH];

/// What happens to that call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meddling {
    /// Nothing.
    Nothing,
    /// It goes nowhere, and its caller is told of a turn that does not exist.
    Invent,
    /// It goes nowhere, and its caller gets the answer to the call before.
    Repeat,
    /// It is made twice, without its idempotency key; its caller gets the second answer.
    Double,
    /// Its caller gets another reply than the turn has.
    Alter,
    /// It is left alone, and units' streams tell every event twice.
    Stutter,
}

/// The proxy. It ends when this is dropped.
#[derive(Debug)]
pub struct Meddler {
    address: String,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    gateway: Target,
    meddling: Meddling,
    calls: AtomicUsize,
    /// The last answer to a call that went through.
    before: watch::Sender<Option<Answer>>,
    told: watch::Sender<Option<Answer>>,
}

impl Drop for Meddler {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Meddler {
    /// Starts it in front of the gateway at `host:port`.
    ///
    /// # Panics
    /// When no port can be had.
    pub async fn start(gateway: &str, meddling: Meddling) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("its address").to_string();
        let shared = Arc::new(Shared {
            gateway: Target::Tcp(gateway.into()),
            meddling,
            calls: AtomicUsize::default(),
            before: watch::Sender::default(),
            told: watch::Sender::default(),
        });
        let routes = Router::new().fallback(pass).with_state(shared.clone());
        let server = tokio::spawn(async move { axum::serve(listener, routes).await.expect("serve the proxy") });
        Self { address, shared, server }
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The turn that the caller of the call in question was told of.
    ///
    /// # Panics
    /// When there was no such call, or it was not told of one.
    pub fn told(&self) -> String {
        let told = self.shared.told.borrow().as_ref().expect("a call that was meddled with").json();
        told["turn_id"].as_str().unwrap_or_else(|| panic!("no turn in {told}")).to_owned()
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let is_call = request.uri().path().ends_with("/invoke");
    let (head, body) = request.into_parts();
    let body = to_bytes(body, MOST_BYTES).await.expect("the caller's body");
    let meddle = is_call && shared.calls.fetch_add(1, Ordering::Relaxed) == CALL;
    let meddling = if meddle { shared.meddling } else { Meddling::Nothing };
    let to = |keyed: bool| {
        let mut request = hyper::Request::new(Full::new(body.clone()));
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.uri.clone();
        *request.headers_mut() = without_hop_by_hop(&head.headers);
        if !keyed {
            request.headers_mut().remove("idempotency-key");
        }
        http::send(&shared.gateway, request)
    };
    let answer = match meddling {
        Meddling::Nothing | Meddling::Stutter => to(true).await,
        Meddling::Alter => to(true).await.map(altered),
        Meddling::Invent => Ok(invented()),
        Meddling::Repeat => Ok(answer_before(&shared).await),
        Meddling::Double => match to(false).await {
            Ok(_) => to(false).await,
            Err(error) => Err(error),
        },
    };
    let stutters = shared.meddling == Meddling::Stutter && head.uri.path().ends_with("/events");
    let answer =
        answer.map(|answer| if stutters { Answer { body: answer.body.repeat(2).into(), ..answer } } else { answer });
    let Ok(answer) = answer else { return StatusCode::BAD_GATEWAY.into_response() };
    if is_call {
        let keep = if meddle { &shared.told } else { &shared.before };
        keep.send_replace(Some(answer.clone()));
    }
    forward(answer)
}

async fn answer_before(shared: &Shared) -> Answer {
    let mut before = shared.before.subscribe();
    let answer = before.wait_for(Option::is_some).await.expect("the sender is shared");
    answer.clone().expect("an answer")
}

fn altered(answer: Answer) -> Answer {
    let mut body = answer.json();
    body["reply"] = json!("something else");
    Answer { body: Bytes::from(body.to_string()), ..answer }
}

fn invented() -> Answer {
    let body = json!({ "turn_id": Ulid::new().to_string(), "status": "queued" });
    Answer { status: StatusCode::ACCEPTED, headers: HeaderMap::new(), body: Bytes::from(body.to_string()) }
}

fn forward(answer: Answer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = answer.status;
    *response.headers_mut() = without_hop_by_hop(&answer.headers);
    response
}

fn without_hop_by_hop(headers: &HeaderMap) -> HeaderMap {
    let mut headers = headers.clone();
    for name in OF_THE_CONNECTION {
        headers.remove(name);
    }
    headers
}
