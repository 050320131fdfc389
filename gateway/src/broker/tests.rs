//! Against a real HTTP server on loopback, with real connections.

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
use crate::worker_port::testing;

/// What the model API saw of one request.
#[derive(Debug)]
struct Seen {
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
    let redirect = head.headers.contains_key("x-test-redirect");
    let request = Seen { uri: head.uri.to_string(), headers: head.headers, body: body_parts, answer };
    seen.send(request).await.unwrap();
    let stream = futures_util::stream::poll_fn(move |cx| chunks.poll_recv(cx));
    let mut response = AxumResponse::builder()
        .header("content-type", "text/event-stream")
        .header("request-id", "req_1")
        .header("anthropic-ratelimit-requests-remaining", "7");
    if redirect {
        response = response.status(307).header("location", "http://127.0.0.1:9/elsewhere");
    }
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

struct Sandbox {
    send: SendRequest<BoxBody<Bytes, std::io::Error>>,
    connection: JoinHandle<()>,
    serving: JoinHandle<()>,
    stop: CancellationToken,
}

async fn sandbox(broker: Broker) -> Sandbox {
    let (near, far) = UnixStream::pair().unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn({
        let stop = stop.clone();
        async move {
            let claims = testing::claims(&testing::uid("b"), contract::Generation(1), testing::in_an_hour());
            broker.serve_http(&claims, far, stop).await;
        }
    });
    let (send, connection) = hyper::client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    let connection = tokio::spawn(async move { drop(connection.await) });
    Sandbox { send, connection, serving, stop }
}

fn with_key(url: &str, key: &str) -> (Broker, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{key}\n")).unwrap();
    let settings = settings::Broker {
        anthropic: Some(settings::Provider { base_url: url.into(), api_key_file: Some(file), api_key_env: None }),
    };
    (Broker::new(&settings).unwrap(), folder)
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
    let (broker, _folder) = with_key(&format!("{}/base/", api.url), "sk-real");
    let mut sandbox = sandbox(broker).await;

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
    let (broker, _folder) = with_key(&api.url, "sk-ant-oat01-x");
    let mut sandbox = sandbox(broker).await;
    let response = sandbox.send.send_request(messages(full("{}")));
    let (seen, response) = tokio::join!(api.requests.recv(), response);
    let seen = seen.unwrap();
    assert_eq!(seen.headers["authorization"], "Bearer sk-ant-oat01-x");
    assert!(!seen.headers.contains_key("x-api-key"));
    assert_eq!(response.unwrap().status(), 200);
}

#[tokio::test]
async fn a_redirect_is_passed_on_not_followed() {
    let mut api = api().await;
    let (broker, _folder) = with_key(&api.url, "sk-real");
    let mut sandbox = sandbox(broker).await;
    let mut request = messages(full("{}"));
    request.headers_mut().insert("x-test-redirect", "1".parse().unwrap());
    let response = sandbox.send.send_request(request);
    let (seen, response) = tokio::join!(api.requests.recv(), response);
    drop(seen);
    let response = response.unwrap();
    assert_eq!(response.status(), 307);
    assert_eq!(response.headers()["location"], "http://127.0.0.1:9/elsewhere");
}

#[tokio::test]
async fn when_the_worker_goes_the_api_is_told() {
    let mut api = api().await;
    let (broker, _folder) = with_key(&api.url, "sk-real");
    let mut sandbox = sandbox(broker).await;
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
    let (broker, folder) = with_key(&api.url, "");
    let mut sandbox_one = sandbox(broker).await;
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

    let mut unconfigured = sandbox(Broker::new(&settings::Broker::default()).unwrap()).await;
    let response = unconfigured.send.send_request(messages(full("{}"))).await.unwrap();
    let (status, _, message) = problem(response).await;
    assert_eq!(status, 503);
    assert!(message.contains("[broker.anthropic]"), "{message}");
}

#[tokio::test]
async fn what_is_not_served_never_reaches_the_api() {
    let mut api = api().await;
    let (broker, _folder) = with_key(&api.url, "sk-real");
    let mut sandbox = sandbox(broker).await;
    for (method, path) in [
        ("POST", "/broker/anthropic/v1/files"),
        ("GET", "/broker/openai/v1/models"),
        ("POST", "/broker/anthropic/v1/messages/../files"),
    ] {
        let request = Request::builder().method(method).uri(path).header("host", "x").body(full("")).unwrap();
        let (status, _, message) = problem(sandbox.send.send_request(request).await.unwrap()).await;
        assert_eq!(status, 404);
        assert!(message.contains("not served"));
    }
    assert!(api.requests.try_recv().is_err());
}

#[tokio::test]
async fn an_api_that_is_gone_is_a_bad_gateway() {
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (broker, _folder) = with_key(&format!("http://{gone}"), "sk-real");
    let mut sandbox = sandbox(broker).await;
    let response = sandbox.send.send_request(messages(full("{}"))).await.unwrap();
    let (status, _, message) = problem(response).await;
    assert_eq!(status, 502);
    assert!(message.contains("does not answer") && !message.contains("sk-real"), "{message}");
}

#[tokio::test]
async fn a_stop_lets_the_running_answer_end_and_takes_no_other() {
    let mut api = api().await;
    let (broker, _folder) = with_key(&api.url, "sk-real");
    let mut sandbox = sandbox(broker).await;
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
fn base_urls_that_cannot_be_are_refused() {
    for wrong in ["", "api.anthropic.com", "ftp://x", "https://user:pass@host", "https://h/?x=1"] {
        let settings = settings::Broker {
            anthropic: Some(settings::Provider { base_url: wrong.into(), api_key_file: None, api_key_env: None }),
        };
        assert!(matches!(Broker::new(&settings), Err(BrokerError::BaseUrl { .. })), "{wrong}");
    }
}
