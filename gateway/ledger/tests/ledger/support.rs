//! A private `redis-server` per test, and short words for what tests do with a ledger.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contract::{
    Generation, Launcher, Mode, Options, Owner, Principal, StopReason, Trigger, TurnId, UnitId, UnitName, WorkspaceAt,
    WorkspaceId,
};
use ledger::{
    Config, DrainReason, Emit, Emitted, Entry, Exit, Ledger, Policy, Settle, Settled, Shape, Share, StreamId,
    Submission, Submitted, Subscription, Taken,
};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub struct Redis {
    dir: tempfile::TempDir,
    child: Child,
    durable: bool,
}

fn spawn(dir: &std::path::Path, durable: bool) -> Child {
    let yes = if durable { "yes" } else { "no" };
    Command::new("redis-server")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .current_dir(dir)
        .args(["--port", "0", "--unixsocket", "redis.sock", "--save", ""])
        .args(["--appendonly", yes, "--appendfsync", "always"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server must be installed: apt-get install redis-server")
}

/// Has it listen on a free port of loopback. Another program may take the one that was free: then another one is tried.
async fn listen(raw: &mut redis::aio::MultiplexedConnection) -> u16 {
    for _ in 0..20 {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut set = redis::cmd("CONFIG");
        if set.arg("SET").arg("bind").arg("127.0.0.1").arg("port").arg(port).exec_async(raw).await.is_ok() {
            return port;
        }
    }
    panic!("redis-server finds no port");
}

impl Redis {
    pub async fn start() -> Self {
        Self::with(false).await
    }

    /// With everything on disk before it is answered.
    pub async fn durable() -> Self {
        Self::with(true).await
    }

    async fn with(durable: bool) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let redis = Self { child: spawn(dir.path(), durable), dir, durable };
        redis.answers().await;
        redis
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("redis.sock")
    }

    pub fn config(&self, gateway: &str) -> Config {
        Config::new(format!("redis+unix://{}", self.socket().display()), gateway)
    }

    pub async fn ledger(&self, gateway: &str) -> Ledger {
        Ledger::connect(self.config(gateway)).await.unwrap()
    }

    /// Another server that follows this one, which listens on a port of loopback from now on.
    pub async fn replica(&self) -> Self {
        let port = listen(&mut self.raw().await).await;
        let dir = tempfile::tempdir().unwrap();
        let replica = Self { child: spawn(dir.path(), false), dir, durable: false };
        let up = async {
            while replica.try_raw().await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), up).await.expect("the replica does not come up");
        let mut raw = replica.raw().await;
        redis::cmd("REPLICAOF").arg("127.0.0.1").arg(port).exec_async(&mut raw).await.unwrap();
        replica
    }

    /// Stops it from doing anything, or lets it go on.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let line = format!("kill {signal} {}", self.child.id());
        let sent = Command::new("/bin/sh").args(["-c", &line]).env_clear().status().unwrap();
        assert!(sent.success());
    }

    async fn try_raw(&self) -> redis::RedisResult<redis::aio::MultiplexedConnection> {
        redis::Client::open(self.config("raw").url)?.get_multiplexed_async_connection().await
    }

    /// A connection past the ledger, to look and to break.
    pub async fn raw(&self) -> redis::aio::MultiplexedConnection {
        self.try_raw().await.unwrap()
    }

    async fn answers(&self) {
        tokio::time::timeout(Duration::from_secs(20), async {
            while Ledger::connect(self.config("probe")).await.is_err() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .expect("redis-server does not come up");
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        let _ = std::fs::remove_file(self.socket());
    }

    pub async fn restart(&mut self) {
        self.child = spawn(self.dir.path(), self.durable);
        self.answers().await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn owner(name: &str) -> Owner {
    Owner::parse(name).unwrap()
}

/// What a reader's events may take, where that is not what is tried.
pub fn share() -> Share {
    Share::new(8 << 20)
}

pub fn turn_id() -> TurnId {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let n = NEXT.fetch_add(1, Ordering::Relaxed);
    TurnId::new(1_700_000_000_000 + n, u128::from(n))
}

pub fn policy() -> Policy {
    Policy {
        idle_timeout_ms: 60_000,
        start_timeout_ms: 60_000,
        max_lifetime_ms: 3_600_000,
        max_attempts: 2,
        max_starts: 2,
    }
}

pub fn rw(id: &str) -> WorkspaceAt {
    WorkspaceAt { id: WorkspaceId::parse(id).unwrap(), mode: Mode::Rw }
}

/// A turn for ann's unit of this name, on a workspace of the same name.
pub fn submission(name: &str, prompt: &str) -> Submission {
    Submission {
        owner: owner("ann"),
        name: UnitName::parse(name).unwrap(),
        turn: turn_id(),
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
            workspaces: vec![rw(name)],
            tools: vec![],
            principal: Principal { name: "Ann".into(), email: "ann@example.org".into() },
        },
        policy: policy(),
        timeout_sec: 60,
        traceparent: None,
        idempotency: None,
    }
}

pub fn uid(name: &str) -> UnitId {
    UnitId::of(&owner("ann"), &UnitName::parse(name).unwrap())
}

pub async fn submit(ledger: &Ledger, submission: &Submission) -> Submitted {
    ledger.submit(submission).await.unwrap()
}

/// Submits to a cold unit and makes it live; the turn is not taken yet.
pub async fn make_live(ledger: &Ledger, submission: &Submission) -> (UnitId, Generation) {
    let Submitted::Accepted { uid, start: Some(job), .. } = submit(ledger, submission).await else {
        panic!("no start job")
    };
    ledger.ready(&uid, job.generation, Some("nonce"), 7).await.unwrap();
    (uid, job.generation)
}

/// Makes a unit live with one turn done: idle, linked by connection 1.
pub async fn make_idle(ledger: &Ledger, name: &str) -> (UnitId, Generation) {
    let first = submission(name, "first");
    let (uid, generation) = make_live(ledger, &first).await;
    take(ledger, &uid, generation).await;
    settle(ledger, &uid, generation, &first.turn).await;
    assert_eq!(ledger.take(&uid, generation, 1, None).await.unwrap(), Taken::Nothing);
    (uid, generation)
}

pub async fn take(ledger: &Ledger, uid: &UnitId, generation: Generation) -> contract::TurnMessage {
    match ledger.take(uid, generation, 1, None).await.unwrap() {
        Taken::Turn(turn) => turn,
        other => panic!("no turn but {other:?}"),
    }
}

pub fn delta(turn: &TurnId, seq: u64, text: &str) -> String {
    json!({"type": "message-delta", "turn_id": turn, "generation": 1, "seq": seq, "text": text}).to_string()
}

pub async fn emit(ledger: &Ledger, uid: &UnitId, generation: Generation, turn: &TurnId, seq: u64) -> Emitted {
    let json = delta(turn, seq, &format!("text {seq}"));
    let emit = Emit { turn: Some(turn), seq: Some(seq), kind: "message-delta", json: &json, splice_turn: false };
    ledger.emit(uid, generation, emit).await.unwrap()
}

pub fn well() -> Settle<'static> {
    Settle { ok: true, reason: None, done_json: r#"{"type":"done","ok":true,"reply":"yes"}"#, seq: None, cache: None }
}

pub fn badly() -> Settle<'static> {
    Settle { ok: false, reason: None, done_json: r#"{"type":"done","ok":false,"reply":""}"#, seq: None, cache: None }
}

pub async fn settle(ledger: &Ledger, uid: &UnitId, generation: Generation, turn: &TurnId) -> Settled {
    let settled = ledger.settle(uid, generation, turn, well()).await.unwrap();
    assert!(matches!(settled, Settled::Written { .. }), "{settled:?}");
    settled
}

pub fn exit(reason: StopReason) -> Exit {
    Exit { reason, exit_code: Some(137), detail: None }
}

/// The generation dies by itself and the runtime confirms it.
pub async fn crash(ledger: &Ledger, uid: &UnitId, generation: Generation) {
    assert!(ledger.begin_drain(uid, generation, DrainReason::Failed, Some(exit(StopReason::Failed))).await.unwrap());
    assert!(ledger.exited(uid, generation, exit(StopReason::Failed)).await.unwrap());
}

/// The unit's present generation, which must be starting, made live.
pub async fn next_live(ledger: &Ledger, uid: &UnitId) -> Generation {
    let state = ledger.unit(uid).await.unwrap().unwrap().state;
    assert_eq!(state.as_str(), "starting");
    let generation = state.generation().unwrap();
    ledger.ready(uid, generation, Some("nonce"), 7).await.unwrap();
    generation
}

/// Everything in the out-stream, in order.
pub async fn events(redis: &Redis, uid: &UnitId) -> Vec<Value> {
    let mut raw = redis.raw().await;
    let reply: redis::streams::StreamRangeReply =
        redis::cmd("XRANGE").arg(uid.out_stream()).arg("-").arg("+").query_async(&mut raw).await.unwrap();
    let json = |entry: &redis::streams::StreamId| serde_json::from_str(&entry.get::<String>("event").unwrap()).unwrap();
    reply.ids.iter().map(json).collect()
}

pub fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|e| e["type"].as_str().unwrap()).collect()
}

/// Runs the fan-out until the token is dropped.
pub fn run_fanout(ledger: &Ledger) -> tokio_util::sync::DropGuard {
    let until = CancellationToken::new();
    tokio::spawn(ledger.fanout().run(until.clone()));
    until.drop_guard()
}

pub async fn next(subscription: &mut Subscription) -> Option<Entry> {
    use futures_util::StreamExt;
    tokio::time::timeout(Duration::from_secs(10), subscription.next()).await.expect("no event came")
}

/// The next entry, which must be an event: its id and its number.
pub async fn next_seq(subscription: &mut Subscription) -> (StreamId, u64) {
    match next(subscription).await {
        Some(Entry::Event { id, json }) => {
            let event: Value = serde_json::from_str(&json).unwrap();
            (id, event["seq"].as_u64().unwrap())
        }
        other => panic!("no event but {other:?}"),
    }
}
