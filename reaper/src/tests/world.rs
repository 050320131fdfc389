//! Redis, a runtime, units in the states that tests need, and reapers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use contract::{Generation, Launcher, Mode, Options, Owner, Principal, Trigger, TurnId, UnitId, UnitName, WorkspaceAt};
use ledger::{
    Config, Entry, Ledger, Policy, Ready, Settle, Settled, Shape, StreamId, Submission, Submitted, Taken, UnitState,
};
use runtimes::RuntimeClient;
use serde_json::Value;
use settings::Settings;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::SOON;
use super::runtime::Runtime;
use crate::status::{Board, TaskStatus};
use crate::{Reaper, connect};

pub const MOST_AT_ONCE: usize = 3;
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Bounds that do not matter but for the idle timeout.
pub fn bounds(idle_timeout_ms: u64) -> Policy {
    Policy { idle_timeout_ms, start_timeout_ms: 600_000, max_lifetime_ms: 600_000, max_attempts: 3, max_starts: 3 }
}

pub struct Redis {
    folder: PathBuf,
    child: Child,
}

impl Redis {
    async fn start(folder: &Path) -> Self {
        let mut redis = Self { folder: folder.into(), child: Self::spawn(folder) };
        redis.answers().await;
        redis
    }

    fn spawn(folder: &Path) -> Child {
        Command::new("redis-server")
            // It answers after the write and not after the disk: that outlives its kill, and no test here waits for a busy disk.
            .args(["--port", "0", "--save", "", "--appendonly", "yes", "--appendfsync", "no"])
            .args(["--unixsocket", "redis.sock", "--dir"])
            .arg(folder)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is needed: apt-get install -y redis-server")
    }

    async fn answers(&mut self) {
        let answers = async {
            loop {
                if let Ok(mut stream) = UnixStream::connect(self.folder.join("redis.sock")).await {
                    let mut answer = [0; 5];
                    let asked = stream.write_all(b"PING\r\n").await;
                    if asked.is_ok() && stream.read_exact(&mut answer).await.is_ok() && &answer == b"+PONG" {
                        return;
                    }
                }
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(SOON, answers).await.expect("redis-server answers");
    }

    /// Everything in it is lost.
    pub async fn flush(&self) {
        assert_eq!(self.command("FLUSHALL").await, "+OK");
    }

    /// A command past the ledger, and the first line of its answer.
    pub async fn command(&self, line: &str) -> String {
        let mut stream = UnixStream::connect(self.folder.join("redis.sock")).await.unwrap();
        stream.write_all(format!("{line}\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::io::BufReader::new(stream).read_line(&mut answer).await.unwrap();
        answer.trim_end().to_owned()
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub async fn restart(&mut self) {
        self.child = Self::spawn(&self.folder);
        self.answers().await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub struct World {
    pub redis: Redis,
    pub runtime: Runtime,
    pub ledger: Ledger,
    /// Of the turns that are submitted from now on.
    pub timeout_sec: u64,
    pub settings: Settings,
    folder: tempfile::TempDir,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut settings::Reaper)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let redis = Redis::start(folder.path()).await;
        let runtime = Runtime::start(&folder.path().join("runtime.sock"));
        let mut settings = Settings::default();
        settings.redis.url = format!("redis+unix://{}/redis.sock", folder.path().display());
        settings.runtime.url = format!("unix://{}/runtime.sock", folder.path().display());
        settings.runtime.token_file = folder.path().join("token");
        settings.runtime.stop_grace_sec = 0;
        settings.reaper.period_ms = 20;
        settings.reaper.most_at_once = MOST_AT_ONCE;
        change(&mut settings.reaper);
        std::fs::write(&settings.runtime.token_file, "secret").unwrap();
        let mut config = Config::new(settings.redis.url.clone(), "01JZ3Y7QK8W9V6X5T4S3R2Q1P0");
        config.turn_margin = Duration::from_millis(50);
        let ledger = Ledger::connect(config).await.unwrap();
        Self { redis, runtime, ledger, timeout_sec: 60, settings, folder }
    }

    /// A unit whose first turn waits for its start.
    pub async fn starting_unit(&self, name: &str, policy: Policy) -> (UnitId, Generation) {
        let (uid, start) = self.submit(name, policy).await;
        (uid, start)
    }

    /// A unit whose worker has a turn.
    pub async fn busy_unit(&self, name: &str, policy: Policy) -> (UnitId, Generation) {
        let (uid, generation, _) = self.taken(name, policy).await;
        (uid, generation)
    }

    /// A unit whose worker has nothing to do.
    pub async fn idle_unit(&self, name: &str, policy: Policy) -> (UnitId, Generation) {
        let (uid, generation, turn) = self.taken(name, policy).await;
        let done = format!(r#"{{"type":"done","turn_id":"{turn}","generation":{generation},"ok":true,"reply":"x"}}"#);
        let settle = Settle { ok: true, reason: None, done_json: &done, seq: Some(1), cache: None };
        let settled = self.ledger.settle(&uid, generation, &turn, settle).await.unwrap();
        assert!(matches!(settled, Settled::Written { .. }), "{settled:?}");
        (uid, generation)
    }

    async fn submit(&self, name: &str, policy: Policy) -> (UnitId, Generation) {
        let name = UnitName::parse(name).unwrap();
        let owner = Owner::parse("ann").unwrap();
        let uid = UnitId::of(&owner, &name);
        let principal = Principal { name: "Ann".into(), email: "ann@example.test".into() };
        let submission = Submission {
            turn: TurnId::new(1_790_000_000_000, rand::random()),
            prompt: "hi".into(),
            prompt_path: None,
            thread: "main".into(),
            session: None,
            trigger: Trigger::Message,
            launcher: Launcher::user("ann"),
            options: Options::default(),
            shape: Shape {
                profile: "default".into(),
                runner: "echo".into(),
                workspaces: vec![WorkspaceAt { id: uid.own_workspace(), mode: Mode::Rw }],
                tools: Vec::new(),
                principal,
            },
            policy,
            timeout_sec: self.timeout_sec,
            traceparent: None,
            idempotency: None,
            owner,
            name,
        };
        match self.ledger.submit(&submission).await.unwrap() {
            Submitted::Accepted { start: Some(job), .. } => (uid, job.generation),
            other => panic!("{other:?}"),
        }
    }

    async fn taken(&self, name: &str, policy: Policy) -> (UnitId, Generation, TurnId) {
        let (uid, generation) = self.submit(name, policy).await;
        self.runtime.has_workload(&format!("{uid}-{generation}"), "running", None);
        let ready = self.ledger.ready(&uid, generation, Some("nonce"), 1).await.unwrap();
        assert!(!matches!(ready, Ready::Over), "{ready:?}");
        match self.ledger.take(&uid, generation, 1, None).await.unwrap() {
            Taken::Turn(turn) => (uid, generation, turn.turn_id),
            other => panic!("{other:?}"),
        }
    }

    pub async fn state(&self, uid: &UnitId) -> UnitState {
        self.ledger.unit(uid).await.unwrap().expect("the unit exists").state
    }

    pub async fn until(&self, uid: &UnitId, is: impl Fn(UnitState) -> bool) {
        let reached = async {
            while !is(self.state(uid).await) {
                sleep(LOOK_EVERY).await;
            }
        };
        if timeout(SOON, reached).await.is_err() {
            panic!("{uid} is still {:?}; calls: {:?}", self.state(uid).await, self.runtime.calls());
        }
    }

    pub async fn until_cold(&self, uid: &UnitId) {
        self.until(uid, |state| state == UnitState::Cold).await;
    }

    /// The first event of a type.
    pub async fn first_event(&self, uid: &UnitId, kind: &str) -> Value {
        let fanout = self.ledger.fanout();
        let stop = CancellationToken::new();
        let running = tokio::spawn(fanout.clone().run(stop.clone()));
        let mut events = fanout.subscribe(uid, StreamId::ZERO, &ledger::Share::new(1 << 20)).await.unwrap();
        let found = timeout(SOON, async {
            loop {
                match next(&mut events).await {
                    Some(Entry::Event { json, .. }) => {
                        let event: Value = serde_json::from_str(&json).unwrap();
                        if event["type"] == kind {
                            return event;
                        }
                    }
                    other => panic!("{other:?}"),
                }
            }
        });
        let event = found.await.unwrap();
        stop.cancel();
        running.await.unwrap();
        event
    }

    /// One more reaper.
    pub fn reaper(&self) -> Running {
        let (stop, board) = (CancellationToken::new(), Board::new());
        let (settings, board_of, token) = (self.settings.clone(), board.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let runtime: RuntimeClient = connect::runtime(&settings).await.unwrap();
            let ledger = Ledger::open(&settings).await.unwrap();
            Reaper::new(&settings, ledger, runtime, board_of).run(token).await;
        });
        assert!(self.folder.path().exists());
        Running { stop, board, task }
    }
}

async fn next(events: &mut ledger::Subscription) -> Option<Entry> {
    tokio_stream::StreamExt::next(events).await
}

pub struct Running {
    stop: CancellationToken,
    board: Board,
    task: JoinHandle<()>,
}

impl Running {
    /// As SIGKILL does: nothing that it was at is ended or given back.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
        self.stop.cancel();
    }

    pub fn ask_to_stop(&self) {
        self.stop.cancel();
    }

    pub async fn stop(self) -> BTreeMap<&'static str, TaskStatus> {
        self.stop.cancel();
        timeout(SOON, self.task).await.unwrap().unwrap();
        self.board.tasks()
    }

    pub fn activations(&self, task: &str) -> u64 {
        self.board.tasks().get(task).map_or(0, |status| status.activations)
    }

    pub async fn board_says(&self, task: &str, says: impl Fn(&TaskStatus) -> bool) {
        let said = async {
            while !self.board.tasks().get(task).is_some_and(&says) {
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(SOON, said).await.unwrap();
    }
}

/// Status and body of an HTTP answer.
pub async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}
