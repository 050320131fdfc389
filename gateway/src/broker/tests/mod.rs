//! Against a real HTTP server on loopback and a real ledger, with real connections.

mod budgets;
mod metering;
mod requests;

use axum::Router;
use axum::body::Body as AxumBody;
use axum::extract::{Request as AxumRequest, State};
use axum::response::Response as AxumResponse;
use axum::routing::any;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::client::conn::http1::SendRequest;
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::*;
use crate::worker_port::testing::{self, World};

/// What the model API saw of one request.
#[derive(Debug)]
pub(super) struct Seen {
    uri: String,
    headers: HeaderMap,
    body: mpsc::Receiver<Bytes>,
    /// Ends when the answer's body is dropped: the client went.
    answer: mpsc::Sender<Result<Bytes, std::io::Error>>,
}

/// A model API whose every request is handed to the test, which writes the answer's body.
struct Api {
    url: String,
    requests: mpsc::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Drop for Api {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(State(seen): State<mpsc::Sender<Seen>>, request: AxumRequest) -> AxumResponse {
    let (head, body) = request.into_parts();
    let (parts, body_parts) = mpsc::channel(64);
    let (answer, mut chunks) = mpsc::channel(64);
    // A test says by the query what kind of answer it wants: the broker passes that on.
    let wants = |what: &str| head.uri.query().is_some_and(|q| q.contains(what));
    if wants("reads") {
        let all = body.collect().await.expect("a whole body");
        return AxumResponse::new(AxumBody::from(all.to_bytes()));
    }
    tokio::spawn(async move {
        let mut body = body;
        while let Some(Ok(frame)) = body.frame().await {
            if let Ok(data) = frame.into_data()
                && parts.send(data).await.is_err()
            {
                return;
            }
        }
    });
    let mut response = AxumResponse::builder()
        .header("content-type", if wants("json") { "application/json" } else { "text/event-stream" })
        .header("request-id", "req_1")
        .header("set-cookie", "account=1")
        .header("anthropic-ratelimit-requests-remaining", "7");
    if wants("redirect") {
        response = response.status(307).header("location", "http://127.0.0.1:9/elsewhere");
    }
    if wants("fails") {
        response = response.status(529);
    }
    let request = Seen { uri: head.uri.to_string(), headers: head.headers, body: body_parts, answer };
    seen.send(request).await.unwrap();
    let stream = futures_util::stream::poll_fn(move |cx| chunks.poll_recv(cx));
    response.body(AxumBody::from_stream(stream)).unwrap()
}

async fn api() -> Api {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (seen, requests) = mpsc::channel(16);
    let app = Router::new().fallback(any(answer)).with_state(seen);
    let task = tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    Api { url, requests, task }
}

/// A worker with a turn, its connection to the broker, and the ledger that counts.
struct Sandbox {
    send: SendRequest<BoxBody<Bytes, std::io::Error>>,
    connection: JoinHandle<()>,
    serving: JoinHandle<()>,
    stop: CancellationToken,
    broker: Arc<Broker>,
    world: World,
    turn: contract::TurnId,
    figures: ModelUse,
}

async fn sandbox(settings: Settings) -> Sandbox {
    let broker = Arc::new(Broker::new(&settings).unwrap());
    let world = World::new().await;
    let (job, turn) = world.submit_cold("hi").await;
    world.ledger.ready(&job.uid, job.generation, Some("nonce"), 1).await.unwrap();
    world.ledger.take(&job.uid, job.generation, 1).await.unwrap();
    let figures = ModelUse::default();
    broker.connected(world.ledger.clone(), &settings, figures.clone());
    let (near, far) = UnixStream::pair().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn({
        let (stop, broker) = (stop.clone(), broker.clone());
        async move {
            let claims = testing::claims(&job.uid, job.generation, testing::in_an_hour());
            broker.serve_http(&claims, far, stop).await;
        }
    });
    let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    let connection = tokio::spawn(async move { drop(connection.await) });
    Sandbox { send, connection, serving, stop, broker, world, turn, figures }
}

/// Settings with one provider and its key.
fn with(name: &str, key: &str, provider: settings::Provider) -> (Settings, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{key}\n")).unwrap();
    let mut settings = Settings::default();
    let query = ["json", "redirect", "fails", "reads"].map(String::from).to_vec();
    let provider = settings::Provider { api_key_file: Some(file), query, ..provider };
    settings.broker.0.insert(name.into(), provider);
    (settings, folder)
}

fn with_key(url: &str, key: &str) -> (Settings, tempfile::TempDir) {
    with("anthropic", key, settings::Provider::at(url))
}

fn full(body: impl Into<Bytes>) -> BoxBody<Bytes, std::io::Error> {
    Full::new(body.into()).map_err(|n| match n {}).boxed()
}

fn messages(body: BoxBody<Bytes, std::io::Error>) -> Request<BoxBody<Bytes, std::io::Error>> {
    Request::post("/broker/anthropic/v1/messages?beta=true")
        .header("host", "127.0.0.1:4000")
        .header("x-api-key", "rekindle")
        .header("authorization", "Bearer rekindle")
        .header("anthropic-version", "2023-06-01")
        .header("anthropic-beta", "one,two")
        .header("user-agent", "claude-cli/9")
        .body(body)
        .unwrap()
}

async fn problem(response: Response<Incoming>) -> (StatusCode, HeaderMap, String) {
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["type"], "error");
    let message = body["error"]["message"].as_str().unwrap().to_owned();
    (head.status, head.headers, message)
}

#[tokio::test]
async fn both_directions_stream_and_headers_pass_with_the_real_key() {
    let mut api = api().await;
    let (settings, _folder) = with_key(&format!("{}/base/", api.url), "sk-real");
    let mut sandbox = sandbox(settings).await;

    let (chunks, mut from) = mpsc::channel::<Bytes>(4);
    let body = StreamBody::new(futures_util::stream::poll_fn(move |cx| {
        from.poll_recv(cx).map(|chunk| chunk.map(|data| Ok(hyper::body::Frame::data(data))))
    }));
    let sending = tokio::spawn({
        let request = messages(body.boxed());
        let response = sandbox.send.send_request(request);
        async move { response.await.unwrap() }
    });
    chunks.send("{\"a\":".into()).await.unwrap();
    let mut seen = api.requests.recv().await.unwrap();
    assert_eq!(seen.body.recv().await.unwrap(), "{\"a\":", "before the request is complete");
    chunks.send("1}".into()).await.unwrap();
    drop(chunks);
    assert_eq!(seen.body.recv().await.unwrap(), "1}");

    assert_eq!(seen.uri, "/base/v1/messages?beta=true");
    assert_eq!(seen.headers["x-api-key"], "sk-real");
    assert!(!seen.headers.contains_key("authorization"));
    assert_eq!(seen.headers["anthropic-version"], "2023-06-01");
    assert_eq!(seen.headers["anthropic-beta"], "one,two");
    assert_eq!(seen.headers["user-agent"], "claude-cli/9");
    assert_eq!(seen.headers["host"], api.url.trim_start_matches("http://"));

    let response = sending.await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["request-id"], "req_1");
    assert!(!response.headers().contains_key("set-cookie"));
    assert_eq!(response.headers()["anthropic-ratelimit-requests-remaining"], "7");
    let mut body = response.into_body();
    for part in ["event: a\n\n", "event: b\n\n"] {
        seen.answer.send(Ok(part.into())).await.unwrap();
        let got = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert_eq!(got, part, "each part comes when it is written");
    }
    drop(seen.answer);
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_subscription_token_goes_into_authorization() {
    let mut api = api().await;
    let (settings, _folder) = with_key(&api.url, "sk-ant-oat01-x");
    let mut sandbox = sandbox(settings).await;
    let response = sandbox.send.send_request(messages(full("{}")));
    let (seen, response) = tokio::join!(api.requests.recv(), response);
    let seen = seen.unwrap();
    assert_eq!(seen.headers["authorization"], "Bearer sk-ant-oat01-x");
    assert!(!seen.headers.contains_key("x-api-key"));
    assert_eq!(response.unwrap().status(), 200);
}

#[tokio::test]
async fn a_redirect_is_neither_followed_nor_handed_on() {
    let mut api = api().await;
    let (settings, _folder) = with_key(&api.url, "sk-real");
    let mut sandbox = sandbox(settings).await;
    let mut request = messages(full("{}"));
    *request.uri_mut() = "/broker/anthropic/v1/messages?redirect=1".parse().unwrap();
    let response = sandbox.send.send_request(request);
    let (seen, response) = tokio::join!(api.requests.recv(), response);
    drop(seen);
    let (status, headers, message) = problem(response.unwrap()).await;
    assert_eq!((status.as_u16(), headers.get("location")), (502, None));
    assert!(message.contains("base_url") && !message.contains("elsewhere/"), "{message}");
    assert_eq!(headers["x-should-retry"], "false");
}

#[tokio::test]
async fn when_the_worker_goes_the_api_is_told() {
    let mut api = api().await;
    let (settings, _folder) = with_key(&api.url, "sk-real");
    let mut sandbox = sandbox(settings).await;
    let response = sandbox.send.send_request(messages(full("{}")));
    let (seen, response) = tokio::join!(api.requests.recv(), response);
    let seen = seen.unwrap();
    let mut body = response.unwrap().into_body();
    seen.answer.send(Ok("event: a\n\n".into())).await.unwrap();
    body.frame().await.unwrap().unwrap();
    sandbox.connection.abort();
    drop(body);
    seen.answer.closed().await;
    sandbox.serving.await.unwrap();
}

#[tokio::test]
async fn without_a_key_one_is_told_how_and_a_key_that_comes_later_works() {
    let mut api = api().await;
    let (settings, folder) = with_key(&api.url, "");
    let mut sandbox_one = sandbox(settings).await;
    let response = sandbox_one.send.send_request(messages(full("{}"))).await.unwrap();
    let (status, headers, message) = problem(response).await;
    assert_eq!(status, 503);
    assert_eq!(headers["x-should-retry"], "false");
    assert!(message.contains("`key`"), "{message}");
    assert!(!message.contains(folder.path().to_str().unwrap()), "no paths of the host: {message}");
    std::fs::write(folder.path().join("key"), "sk-late").unwrap();
    let response = sandbox_one.send.send_request(messages(full("{}")));
    let (seen, response) = tokio::join!(api.requests.recv(), response);
    assert_eq!(seen.unwrap().headers["x-api-key"], "sk-late");
    assert_eq!(response.unwrap().status(), 200);

    let mut unconfigured = sandbox(Settings::default()).await;
    let response = unconfigured.send.send_request(messages(full("{}"))).await.unwrap();
    let (status, _, message) = problem(response).await;
    assert_eq!(status, 503);
    assert!(message.contains("[broker.anthropic]"), "{message}");
}

#[tokio::test]
async fn what_is_not_served_never_reaches_the_api() {
    let mut api = api().await;
    let (settings, _folder) = with_key(&api.url, "sk-real");
    let mut sandbox = sandbox(settings).await;
    for (method, path, expected) in [
        ("POST", "/broker/anthropic/v1/files", 404),
        ("POST", "/broker/anthropic/v1/messages/../files", 404),
        ("POST", "/broker/anthropic/v1/messages%2f..%2ffiles", 404),
        ("POST", "/broker/anthropic//v1/messages", 404),
        ("POST", "http://127.0.0.1:9/broker/anthropic/v1/messages", 404),
        ("POST", "http://127.0.0.1:9/v1/messages", 404),
        ("TRACE", "/broker/anthropic/v1/messages", 404),
        ("POST", "/broker/anthropic/v1/messages?key=x", 400),
        ("GET", "/broker/other/v1/models", 503),
    ] {
        let request = Request::builder().method(method).uri(path).header("host", "x").body(full("")).unwrap();
        let (status, _, message) = problem(sandbox.send.send_request(request).await.unwrap()).await;
        assert_eq!(status, expected, "{method} {path}");
        assert!(message.starts_with("rekindle: "), "{message}");
    }
    let mut compressed = messages(full("x"));
    compressed.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
    assert_eq!(problem(sandbox.send.send_request(compressed).await.unwrap()).await.0, 400);
    assert!(api.requests.try_recv().is_err());
}

#[tokio::test]
async fn an_api_that_is_gone_is_a_bad_gateway() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (settings, _folder) = with_key(&format!("http://{gone}"), "sk-real");
    let mut sandbox = sandbox(settings).await;
    let response = sandbox.send.send_request(messages(full("{}"))).await.unwrap();
    let (status, _, message) = problem(response).await;
    assert_eq!(status, 502);
    assert!(message.contains("does not answer") && !message.contains("sk-real"), "{message}");
}

#[tokio::test]
async fn a_stop_lets_the_running_answer_end_and_takes_no_other() {
    let mut api = api().await;
    let (settings, _folder) = with_key(&api.url, "sk-real");
    let mut sandbox = sandbox(settings).await;
    let response = sandbox.send.send_request(messages(full("{}")));
    let (seen, response) = tokio::join!(api.requests.recv(), response);
    let seen = seen.unwrap();
    sandbox.stop.cancel();
    seen.answer.send(Ok("last".into())).await.unwrap();
    drop(seen.answer);
    let body = response.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "last");
    sandbox.serving.await.unwrap();
    assert!(sandbox.send.ready().await.is_err());
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let refused = |settings: &Settings| Broker::new(settings).unwrap_err();
    for wrong in ["", "api.anthropic.com", "ftp://x", "https://user:pass@host", "https://h/?x=1"] {
        let (settings, _folder) = with_key(wrong, "k");
        assert!(matches!(refused(&settings), BrokerError::BaseUrl { .. }), "{wrong}");
    }
    let at = || settings::Provider { api: Some(settings::Api::OpenAi), ..settings::Provider::at("https://host") };
    let one = |text: &str| vec![text.to_owned()];
    for (setting, provider) in [
        ("api", settings::Provider::at("https://host")),
        ("auth", settings::Provider { auth: Some("a header".into()), ..at() }),
        ("paths", settings::Provider { paths: one("/v1/x"), ..at() }),
        ("pass_headers", settings::Provider { pass_headers: one("X-Api-Key"), ..at() }),
        ("allow", settings::Provider { allow: one("web search"), ..at() }),
        ("headers", settings::Provider { headers: [("x".to_owned(), "\n".to_owned())].into(), ..at() }),
    ] {
        let (settings, _folder) = with("mine", "k", provider);
        let error = refused(&settings).to_string();
        assert!(error.starts_with(&format!("broker.mine.{setting} ")), "{error}");
    }
    for name in ["", "Mine", "a/b", "..", &"a".repeat(33)] {
        assert!(matches!(refused(&with(name, "k", at()).0), BrokerError::Name(_)), "{name}");
    }
    let mut settings = Settings::default();
    settings.budgets.turn.cost = Some(1.0);
    assert!(matches!(refused(&settings), BrokerError::NoPrices));
    settings.prices.insert("*".into(), settings::Price { input: -1.0, ..settings::Price::default() });
    assert!(matches!(refused(&settings), BrokerError::Price(_)));
}
