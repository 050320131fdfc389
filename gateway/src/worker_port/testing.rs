//! What tests of the worker port share: keys, claims, a private Redis, a port, and a client of plain bytes.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use contract::{
    DISPATCH_AUDIENCE, DispatchClaims, Generation, Launcher, Options, Owner, Principal, Trigger, TurnId, UnitId,
    UnitName, WorkspaceAt,
};
use data_encoding::BASE64;
use ledger::{Config, Ledger, Policy, Shape, StartJob, Submission, Submitted};
use redis_protocol::resp2::types::BytesFrame;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Links, Listener, WorkerPort};
use crate::broker::Broker;
use crate::egress::Egress;
use crate::metrics::Deliveries;
use crate::tokens::DispatchTokens;

/// Longest wait of a test for anything.
pub(crate) const SOON: Duration = Duration::from_secs(20);

pub(crate) fn owner() -> Owner {
    Owner::parse("ann").unwrap()
}

pub(crate) fn uid(name: &str) -> UnitId {
    UnitId::of(&owner(), &UnitName::parse(name).unwrap())
}

pub(crate) fn turn_id(n: u128) -> TurnId {
    TurnId::new(1_790_000_000_000, n)
}

pub(crate) fn in_an_hour() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    now.as_secs() + 3600
}

pub(crate) fn claims(uid: &UnitId, generation: Generation, exp: u64) -> DispatchClaims {
    DispatchClaims {
        sub: owner(),
        launcher: Launcher::user("ann"),
        unit: uid.clone(),
        generation,
        workspaces: vec![],
        scope: "worker".into(),
        aud: DISPATCH_AUDIENCE.into(),
        exp,
    }
}

/// A new key in the form in which `openssl genpkey` writes it (PKCS#8 version 1: the seed alone).
pub(crate) fn key_pem() -> String {
    let mut der = data_encoding::HEXLOWER.decode(b"302e020100300506032b657004220420").unwrap();
    der.extend(rand::random::<[u8; 32]>());
    let text = BASE64.encode(&der);
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

pub(crate) fn tokens() -> DispatchTokens {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    std::fs::write(&path, key_pem()).unwrap();
    DispatchTokens::from_pem_files(&path, &[]).unwrap()
}

/// A private `redis-server` on a socket in a folder of its own.
pub(crate) struct Redis {
    folder: PathBuf,
    child: Child,
}

impl Redis {
    pub(crate) async fn start(folder: &Path) -> Self {
        let child = Command::new("redis-server")
            // It answers after the write and not after the disk: that outlives its kill, and no test here waits for a busy disk.
            .args(["--port", "0", "--save", "", "--appendonly", "yes"])
            .args(["--appendfsync", "no", "--unixsocket", "redis.sock", "--dir"])
            .arg(folder)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed: apt-get install redis-server");
        let redis = Self { folder: folder.into(), child };
        let answers = async {
            while UnixStream::connect(redis.socket()).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, answers).await.expect("redis-server answers");
        redis
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("redis.sock")
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A gateway's worker port over a private Redis.
pub(crate) struct World {
    pub(crate) redis: Option<Redis>,
    pub(crate) ledger: Ledger,
    pub(crate) links: Links,
    pub(crate) tokens: Arc<DispatchTokens>,
    pub(crate) cancel: CancellationToken,
    pub(crate) serving: JoinHandle<()>,
    turns: std::cell::Cell<u128>,
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::with(settings::Limits::default()).await
    }

    pub(crate) async fn with(limits: settings::Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = Redis::start(folder.path()).await;
        let url = format!("redis+unix://{}", redis.socket().display());
        let ledger = Ledger::connect(Config::new(url, "01JZ3Y7QK8W9V6X5T4S3R2Q1P0")).await.unwrap();
        let links = Links::new(&limits);
        let tokens = Arc::new(tokens());
        let port = WorkerPort {
            ledger: ledger.clone(),
            tokens: tokens.clone(),
            links: links.clone(),
            broker: Arc::new(Broker::new(&settings::Settings::default()).unwrap()),
            egress: Arc::new(Egress::new(&settings::Settings::default()).unwrap()),
            limits,
            drain: Duration::from_millis(100),
            deliveries: Deliveries::default(),
        };
        let address = format!("unix://{}", folder.path().join("worker.sock").display());
        let listener = Listener::bind(&address).await.unwrap();
        let cancel = CancellationToken::new();
        let serving = tokio::spawn(port.serve(listener, cancel.clone()));
        Self { redis: Some(redis), ledger, links, tokens, cancel, serving, turns: std::cell::Cell::new(1), folder }
    }

    pub(crate) fn redis_url(&self) -> String {
        format!("redis+unix://{}", self.folder.path().join("redis.sock").display())
    }

    /// Starts Redis anew over what it kept.
    pub(crate) async fn restart_redis(&mut self) {
        self.redis = Some(Redis::start(self.folder.path()).await);
    }

    pub(crate) async fn submit(&self, prompt: &str) -> Submitted {
        let n = self.turns.replace(self.turns.get() + 1);
        let uid = uid("demo");
        let submission = Submission {
            owner: owner(),
            name: UnitName::parse("demo").unwrap(),
            turn: turn_id(n),
            prompt: prompt.into(),
            prompt_path: None,
            thread: "main".into(),
            session: None,
            trigger: Trigger::Message,
            launcher: Launcher::user("ann"),
            options: Options::default(),
            shape: Shape {
                profile: "default".into(),
                runner: "echo".into(),
                workspaces: vec![WorkspaceAt { id: uid.own_workspace(), mode: contract::Mode::Rw }],
                tools: vec![],
                principal: Principal { name: "Ann".into(), email: "ann@example.com".into() },
            },
            policy: Policy {
                idle_timeout_ms: 60_000,
                start_timeout_ms: 60_000,
                max_lifetime_ms: 3_600_000,
                max_attempts: 3,
                max_starts: 3,
            },
            timeout_sec: 60,
            traceparent: None,
            idempotency: None,
        };
        self.ledger.submit(&submission).await.unwrap()
    }

    /// Submits the first turn and gives the start that it asks for, and the turn.
    pub(crate) async fn submit_cold(&self, prompt: &str) -> (StartJob, TurnId) {
        match self.submit(prompt).await {
            Submitted::Accepted { start: Some(start), turn, .. } => (start, turn),
            other => panic!("no start: {other:?}"),
        }
    }

    /// Submits a further turn and does with a hand-over what the API side does.
    pub(crate) async fn submit_warm(&self, prompt: &str) -> (TurnId, bool) {
        match self.submit(prompt).await {
            Submitted::Accepted { deliver, turn, .. } => {
                let handed_over = deliver.is_some();
                if let Some(delivery) = deliver {
                    self.links.deliver(delivery);
                }
                (turn, handed_over)
            }
            other => panic!("not accepted: {other:?}"),
        }
    }

    pub(crate) async fn raw(&self, preamble: &str) -> Client {
        let socket = self.folder.path().join("worker.sock");
        let mut client = Client::new(UnixStream::connect(socket).await.unwrap());
        client.send_raw(preamble.as_bytes()).await;
        client
    }

    pub(crate) async fn connect_as(&self, kind: &str, claims: &DispatchClaims) -> Client {
        let token = self.tokens.mint(claims).unwrap();
        self.raw(&format!("REKINDLE/1 {kind} {token}\n")).await
    }

    /// A `redis` connection of a generation.
    pub(crate) async fn connect(&self, generation: Generation) -> Client {
        let claims = claims(&uid("demo"), generation, in_an_hour());
        self.connect_as("redis", &claims).await
    }

    /// Our worker's reading connection, and its nonce.
    pub(crate) async fn claim(&self, generation: Generation) -> (Client, String) {
        let mut client = self.connect(generation).await;
        let nonce = match client.call(&["CLIENT", "CLAIM", "12"]).await {
            BytesFrame::BulkString(nonce) => String::from_utf8(nonce.to_vec()).unwrap(),
            other => panic!("no nonce: {other:?}"),
        };
        (client, nonce)
    }
}

pub(crate) use super::tests::client::Client;
