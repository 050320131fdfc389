//! A whole gateway: what it does while Redis and the runtime are not there, and how it ends.

use std::net::SocketAddr;
use std::time::Duration;

use gateway::serve::Gateway;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::world::{KEY, SOON, redis_server, settings, token};

struct Running {
    address: SocketAddr,
    folder: TempDir,
    stop: CancellationToken,
    ended: JoinHandle<anyhow::Result<()>>,
}

async fn gateway(drain_sec: u64) -> Running {
    let folder = TempDir::new().unwrap();
    let mut settings = settings(folder.path());
    std::fs::write(folder.path().join("key.pem"), KEY).unwrap();
    settings.gateway.dispatch_key_file = folder.path().join("key.pem");
    settings.gateway.listen = "127.0.0.1:0".into();
    settings.gateway.worker_port = format!("unix://{}", folder.path().join("worker.sock").display());
    settings.gateway.drain_sec = drain_sec;
    settings.redis.url = format!("redis+unix://{}", folder.path().join("redis.sock").display());
    let gateway = Gateway::bind(settings).await.unwrap();
    let address = gateway.address();
    let stop = CancellationToken::new();
    let ended = tokio::spawn(gateway.run(stop.clone()));
    Running { address, folder, stop, ended }
}

impl Running {
    async fn send(&self, method: &str, path: &str, more: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let bearer = token("ann", 600, "");
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {bearer}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n{more}\r\n{body}",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream
    }

    /// Status and body of a short answer.
    async fn get(&self, path: &str) -> (u16, Value) {
        let text = rest(self.send("GET", path, "", "").await).await;
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head[9..12].parse().unwrap(), serde_json::from_str(body).unwrap_or_default())
    }
}

async fn rest(mut stream: TcpStream) -> String {
    let mut text = String::new();
    timeout(SOON, stream.read_to_string(&mut text)).await.expect("the answer does not end").unwrap();
    text
}

async fn until(stream: &mut TcpStream, wanted: &str) -> String {
    let mut text = String::new();
    let reading = async {
        while !text.contains(wanted) {
            let mut buffer = [0; 4096];
            let n = stream.read(&mut buffer).await.unwrap();
            assert_ne!(n, 0, "{wanted} did not come: {text}");
            text.push_str(std::str::from_utf8(&buffer[..n]).unwrap());
        }
    };
    timeout(SOON, reading).await.expect("nothing more comes");
    text
}

#[tokio::test]
async fn redis_may_come_late_and_the_runtime_later() {
    let gateway = gateway(1).await;
    assert_eq!(gateway.get("/healthz").await.0, 200);
    let (status, ready) = gateway.get("/readyz").await;
    assert_eq!((status, &ready["ledger"]["ok"], &ready["runtime"]["ok"]), (503, &json!(false), &json!(false)));
    assert_eq!(gateway.get("/v1/units").await.0, 503);

    let _redis = redis_server(gateway.folder.path(), &gateway.folder.path().join("redis.sock"));
    let there = async {
        while gateway.get("/v1/units").await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, there).await.expect("Redis is not found");
    let (status, ready) = gateway.get("/readyz").await;
    assert_eq!((status, &ready["ledger"]["ok"], &ready["runtime"]["ok"]), (503, &json!(true), &json!(false)));
    assert_eq!(ready["detail"], "the runtime does not answer");

    gateway.stop.cancel();
    timeout(SOON, gateway.ended).await.expect("it does not end").unwrap().unwrap();
}

#[tokio::test]
async fn a_gateway_that_never_met_redis_ends_when_told() {
    let gateway = gateway(1).await;
    assert_eq!(gateway.get("/healthz").await.0, 200);
    gateway.stop.cancel();
    timeout(SOON, gateway.ended).await.expect("it does not end").unwrap().unwrap();
}

#[tokio::test]
async fn a_drain_ends_endless_streams_at_once_and_gives_turns_their_time() {
    let gateway = gateway(2).await;
    let _redis = redis_server(gateway.folder.path(), &gateway.folder.path().join("redis.sock"));
    let there = async {
        while gateway.get("/v1/units").await.0 != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(SOON, there).await.expect("Redis is not found");
    let invoke = "/v1/units/demo/invoke";
    let body = r#"{"prompt":"x"}"#;
    let mut turn = gateway.send("POST", invoke, "accept: text/event-stream\r\n", body).await;
    assert!(until(&mut turn, "\r\n\r\n").await.starts_with("HTTP/1.1 200"));
    let waiting = gateway.send("POST", invoke, "", body).await;
    let both = async {
        while gateway.get("/v1/units/demo/turns").await.1["turns"].as_array().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(SOON, both).await.expect("the second call does not come through");
    let mut endless = gateway.send("GET", "/v1/units/demo/events", "", "").await;
    until(&mut endless, ": rekindle").await;

    let began = Instant::now();
    gateway.stop.cancel();
    let text = rest(endless).await;
    assert!(text.contains("shuts down"), "{text}");
    assert!(began.elapsed() < Duration::from_millis(1500), "{:?}", began.elapsed());
    let text = rest(waiting).await;
    assert!(text.starts_with("HTTP/1.1 504") && text.contains("turn_url"), "{text}");
    let text = rest(turn).await;
    assert!(text.contains("shuts down"), "{text}");
    assert!(began.elapsed() >= Duration::from_millis(1900), "{:?}", began.elapsed());
    timeout(SOON, gateway.ended).await.expect("it does not end").unwrap().unwrap();
}

#[tokio::test]
async fn redis_may_go_and_come_back() {
    let gateway = gateway(1).await;
    let socket = gateway.folder.path().join("redis.sock");
    let mut redis = redis_server(gateway.folder.path(), &socket);
    let answers = async |wanted: u16| {
        let there = async {
            while gateway.get("/v1/units").await.0 != wanted {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(SOON, there).await.expect("it does not come to that");
    };
    answers(200).await;
    redis.kill().await.unwrap();
    let began = Instant::now();
    let refused = rest(gateway.send("POST", "/v1/units/demo/invoke", "", r#"{"prompt":"x"}"#).await).await;
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("retry-after: 1") && refused.contains("urn:rekindle:error:unavailable"));
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let _again = redis_server(gateway.folder.path(), &socket);
    answers(200).await;
    // Streams work again too.
    let mut turn =
        gateway.send("POST", "/v1/units/demo/invoke", "accept: text/event-stream\r\n", r#"{"prompt":"x"}"#).await;
    until(&mut turn, ": rekindle").await;
    gateway.stop.cancel();
    timeout(SOON, gateway.ended).await.expect("it does not end").unwrap().unwrap();
}
