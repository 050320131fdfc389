//! A gateway's routes over a private Redis, and what a test plays itself: callers, a worker, a runtime.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use contract::{Generation, TurnId, TurnMessage, UnitId};
use gateway::app::App;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::BodyExt;
use jsonwebtoken::{EncodingKey, Header, encode};
use ledger::{Config, Emit, Emitted, Ledger, Ready, Settle, Settled, StartJob, Taken};
use serde_json::{Value, json};
use settings::{Profile, Settings};
use tempfile::TempDir;
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt;

/// Nothing here takes this long.
pub const SOON: Duration = Duration::from_secs(20);
const SECRET: &str = "a secret of the tests that is long enough";
pub const RUNTIME_TOKEN: &str = "the runtime's token";

/// Ed25519 in PKCS#8, made for this test alone.
pub const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
    MC4CAQAwBQYDK2VwBCIEIJ1hsZ3v/VpguoRK9JLsLMREScVpezJpGXA7rAMcrn9g\n\
    -----END PRIVATE KEY-----\n";

/// A gateway's routes, and the ledger behind them.
pub struct World {
    pub app: App,
    pub ledger: Ledger,
    pub jobs: mpsc::Receiver<StartJob>,
    router: Router,
    folder: TempDir,
    _redis: Child,
    _fanout: DropGuard,
}

/// An answer that was read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// Asserts that it is a problem document of this code.
    pub fn problem(&self, status: u16, code: &str) -> Value {
        let document = self.json();
        assert_eq!(self.status.as_u16(), status, "{document}");
        assert_eq!(self.headers["content-type"], "application/problem+json");
        assert_eq!(document["type"], format!("urn:rekindle:error:{code}"), "{document}");
        assert_eq!(document["status"], status);
        assert!(document["detail"].as_str().is_some_and(|d| !d.is_empty()), "{document}");
        document
    }
}

pub fn settings(folder: &Path) -> Settings {
    let mut settings = Settings::default();
    for (name, text) in [("jwt", SECRET), ("runtime_token", RUNTIME_TOKEN)] {
        std::fs::write(folder.join(name), text).unwrap();
    }
    settings.auth.jwt_secret_file = folder.join("jwt");
    settings.runtime.token_file = folder.join("runtime_token");
    settings.runtime.url = format!("unix://{}", folder.join("runtime.sock").display());
    settings.limits.body_bytes = 64 << 10;
    settings.limits.prompt_bytes = 1 << 10;
    let echo = Profile { runner: "echo".into(), ..Profile::default() };
    settings.profiles = BTreeMap::from([("default".into(), echo)]);
    settings
}

pub async fn world() -> World {
    world_with(|_| {}).await
}

pub async fn world_with(change: impl FnOnce(&mut Settings)) -> World {
    let folder = TempDir::new().unwrap();
    let mut settings = settings(folder.path());
    change(&mut settings);
    let socket = folder.path().join("redis.sock");
    let redis = redis_server(folder.path(), &socket);
    let mut config = Config::new(format!("redis+unix://{}", socket.display()), ulid::Ulid::new().to_string());
    config.queued_turns_per_unit = settings.limits.queued_turns_per_unit;
    config.queued_turns_per_owner = settings.limits.queued_turns_per_owner;
    config.live_per_owner = settings.limits.live_per_owner;
    config.units_per_owner = settings.limits.units_per_owner;
    config.workspaces_per_owner = settings.limits.workspaces_per_owner;
    let ledger = connect(config).await;
    let fanout = ledger.fanout();
    let stop = CancellationToken::new();
    tokio::spawn(fanout.clone().run(stop.clone()));
    let (app, jobs) = App::new(settings).unwrap();
    app.connected(ledger.clone(), fanout);
    let router = gateway::http::router(app.clone());
    World { app, ledger, jobs, router, folder, _redis: redis, _fanout: stop.drop_guard() }
}

pub fn redis_server(folder: &Path, socket: &Path) -> Child {
    Command::new("redis-server")
        .args(["--port", "0", "--save", "", "--appendonly", "no", "--dir"])
        .arg(folder)
        .arg("--unixsocket")
        .arg(socket)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .expect("these tests need redis-server; on Debian and Ubuntu: apt-get install redis-server")
}

async fn connect(config: Config) -> Ledger {
    let connecting = async {
        loop {
            if let Ok(ledger) = Ledger::connect(config.clone()).await {
                return ledger;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(SOON, connecting).await.expect("redis-server did not come up")
}

/// A caller's token, valid for this many seconds, that allows what people do and this besides.
pub fn token(sub: &str, seconds: i64, scope: &str) -> String {
    token_of(sub, seconds, &format!("units:invoke units:read {scope}"))
}

/// A caller's token that allows this and nothing else.
pub fn token_of(sub: &str, seconds: i64, scope: &str) -> String {
    let claims = json!({ "sub": sub, "exp": jiff::Timestamp::now().as_second() + seconds, "scope": scope });
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

/// A request of this caller.
pub fn request(method: &str, path: &str, sub: &str) -> http::request::Builder {
    let bearer = format!("Bearer {}", token(sub, 60, ""));
    Request::builder().method(method).uri(path).header("authorization", bearer)
}

/// A POST of this caller with a JSON body.
pub fn post(path: &str, sub: &str, body: &Value) -> Request<Body> {
    let request = request("POST", path, sub).header("content-type", "application/json");
    request.body(Body::from(body.to_string())).unwrap()
}

impl World {
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The answer as its headers come.
    pub async fn open(&self, request: Request<Body>) -> Response<Body> {
        timeout(SOON, self.router.clone().oneshot(request)).await.expect("no answer").unwrap()
    }

    /// The whole answer.
    pub async fn call(&self, request: Request<Body>) -> Answer {
        read(self.open(request).await).await
    }

    pub async fn get(&self, path: &str, sub: &str) -> Answer {
        self.call(request("GET", path, sub).body(Body::empty()).unwrap()).await
    }

    /// Plays the worker of the next start.
    pub async fn worker(&mut self) -> Worker {
        let job = timeout(SOON, self.jobs.recv()).await.expect("no start").unwrap();
        let ready = self.ledger.ready(&job.uid, job.generation, Some("nonce"), 7).await.unwrap();
        assert_eq!(ready, Ready::Live);
        Worker { ledger: self.ledger.clone(), uid: job.uid, generation: job.generation }
    }
}

pub async fn read(response: Response<Body>) -> Answer {
    let (parts, body) = response.into_parts();
    let body = timeout(SOON, body.collect()).await.expect("the answer does not end").unwrap();
    let text = String::from_utf8(body.to_bytes().to_vec()).unwrap();
    Answer { status: parts.status, headers: parts.headers, text }
}

/// A worker as the worker port stands for one.
pub struct Worker {
    ledger: Ledger,
    pub uid: UnitId,
    pub generation: Generation,
}

impl Worker {
    /// Takes the next turn and says so.
    pub async fn take(&self) -> TurnMessage {
        let Taken::Turn(turn) = self.ledger.take(&self.uid, self.generation, 1).await.unwrap() else {
            panic!("nothing to take");
        };
        let start = serde_json::to_value(turn.start).unwrap();
        let accepted = json!({ "prompt": turn.prompt, "attempt": turn.attempt, "start": start });
        self.emit(&turn.turn_id, 1, "turn-accepted", accepted).await;
        turn
    }

    pub async fn emit(&self, turn: &TurnId, seq: u64, kind: &str, mut event: Value) {
        event["type"] = kind.into();
        event["turn_id"] = turn.as_str().into();
        event["generation"] = self.generation.0.into();
        event["seq"] = seq.into();
        let emit = Emit { turn: Some(turn), seq: Some(seq), kind, json: &event.to_string(), splice_turn: false };
        let written = self.ledger.emit(&self.uid, self.generation, emit).await.unwrap();
        assert!(matches!(written, Emitted::Written { .. }), "{written:?}");
    }

    pub async fn settle(&self, turn: &TurnId, seq: u64, ok: bool, reply: &str) {
        let done = json!({
            "type": "done", "turn_id": turn, "generation": self.generation, "seq": seq, "ok": ok, "reply": reply,
            "sessionId": "s-1", "usage": {"input_tokens": 3, "output_tokens": 2},
        });
        let settle = Settle { ok, reason: None, done_json: &done.to_string(), seq: Some(seq), cache: None };
        let settled = self.ledger.settle(&self.uid, self.generation, turn, settle).await.unwrap();
        assert!(matches!(settled, Settled::Written { .. }), "{settled:?}");
    }
}
