//! The real worker program on real folders, against a gateway of a few lines.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

pub const SOON: Duration = Duration::from_secs(30);
const UNIT: &str = "uaaaaaaaaaaaaaaaaaaaaaaaaa";

/// What the gateway sends to the worker's reading connection.
pub enum Answer {
    Entry(Value),
    Fenced,
}

/// A unit's folders, which outlive its workers.
pub struct Unit {
    pub dir: TempDir,
    /// The workers' program.
    pub program: PathBuf,
    /// Names of the `rw` workspaces, which are folders; `workspace` is the primary one.
    pub workspaces: Vec<&'static str>,
}

impl Unit {
    pub fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["workspace", "home"] {
            std::fs::create_dir(dir.path().join(sub)).unwrap();
        }
        Self { dir, program: env!("CARGO_BIN_EXE_rekindle-worker").into(), workspaces: vec!["workspace"] }
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    pub fn git(&self, args: &[&str]) -> String {
        self.git_in("workspace", args)
    }

    pub fn git_in(&self, workspace: &str, args: &[&str]) -> String {
        let output = Command::new("git")
            .arg("-C")
            .arg(self.path(workspace))
            .args(["-c", "safe.directory=*"])
            .args(args)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Starts a worker of a generation.
    pub fn worker(&self, generation: u64, runner: &str, command: &[&str]) -> Worker {
        Worker::start(self, generation, runner, command, &[])
    }
}

/// A running worker, and the gateway that it talks to.
pub struct Worker {
    pub process: std::process::Child,
    pub pid: Pid,
    answers: mpsc::Sender<Answer>,
    events: mpsc::Receiver<Value>,
    gateway: JoinHandle<()>,
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.gateway.abort();
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Worker {
    pub fn start(unit: &Unit, generation: u64, runner: &str, command: &[&str], around: &[&str]) -> Self {
        let sock = unit.path(&format!("sock-{generation}"));
        std::fs::create_dir(&sock).unwrap();
        let listener = UnixListener::bind(sock.join("redis.sock")).unwrap();
        let (answers, to_send) = mpsc::channel(16);
        let (seen, events) = mpsc::channel(10_000);
        let gateway = tokio::spawn(serve(listener, Arc::new(Mutex::new(to_send)), seen));
        let mut argv: Vec<&str> = around.to_vec();
        argv.push(unit.program.to_str().unwrap());
        let mount = |name: &&'static str| {
            let id = if *name == "workspace" { "notes" } else { name };
            json!({"id": id, "mode": "rw", "path": unit.path(name)})
        };
        let workspaces: Value = unit.workspaces.iter().map(mount).collect();
        let env = BTreeMap::from([
            ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("HOME", unit.path("home").display().to_string()),
            ("REKINDLE_UNIT", UNIT.into()),
            ("REKINDLE_GENERATION", generation.to_string()),
            ("REKINDLE_IN", "in".into()),
            ("REKINDLE_OUT", "out".into()),
            ("REDIS_URL", format!("redis+unix://{}/redis.sock", sock.display())),
            ("REKINDLE_GATEWAY_URL", format!("unix://{}/gateway.sock", sock.display())),
            ("REKINDLE_WORKSPACES", workspaces.to_string()),
            ("REKINDLE_STATE", unit.path("state").display().to_string()),
            ("REKINDLE_RUNNER", runner.into()),
            ("REKINDLE_RUNNER_CONFIG", json!({ "command": command }).to_string()),
        ]);
        let mut program = Command::new(argv[0]);
        program.args(&argv[1..]).env_clear().envs(env).stdin(Stdio::null());
        let process = program.spawn().unwrap();
        let pid = Pid::from_child(&process);
        Self { process, pid, answers, events, gateway }
    }

    pub async fn answer(&self, answer: Answer) {
        self.answers.send(answer).await.unwrap();
    }

    pub async fn entry(&self, entry: Value) {
        self.answer(Answer::Entry(entry)).await;
    }

    pub async fn event(&mut self) -> Value {
        timeout(SOON, self.events.recv()).await.expect("no event in time").expect("the gateway ended")
    }

    /// All events up to and with `done`.
    pub async fn until_done(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            events.push(self.event().await);
            if events.last().unwrap()["type"] == "done" {
                return events;
            }
        }
    }

    /// Delivers a turn and waits for its end.
    pub async fn turn(&mut self, turn: Value) -> Vec<Value> {
        self.entry(turn).await;
        self.until_done().await
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid, signal).unwrap();
    }

    /// Waits for its exit: the status, and what it said before.
    pub async fn ended(&mut self) -> (Option<i32>, Vec<Value>) {
        let process = &mut self.process;
        let status = until(|| process.try_wait().unwrap()).await;
        let mut said = Vec::new();
        while let Ok(event) = self.events.try_recv() {
            said.push(event);
        }
        (status.code(), said)
    }
}

/// A turn's delivery.
pub fn turn(n: u64, prompt: &str) -> Value {
    json!({
        "type": "message", "turn_id": turn_id(n), "prompt": prompt, "attempt": 1, "trigger": "message", "thread": "main",
        "principal": {"name": "Ann", "email": "ann@example.com"}, "start": "cold", "timeout_sec": 60,
    })
}

pub fn turn_id(n: u64) -> String {
    format!("01JZ3Y7QK8W9V6X5T4S3R2Q{n:03}")
}

pub fn types(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["type"].as_str().unwrap()).collect()
}

/// Waits until something is there.
pub async fn until<T>(mut there: impl FnMut() -> Option<T>) -> T {
    let polling = async {
        loop {
            if let Some(found) = there() {
                return found;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, polling).await.expect("it did not come about in time")
}

pub async fn file(path: &Path) -> String {
    until(|| std::fs::read_to_string(path).ok().filter(|text| !text.is_empty())).await
}

async fn serve(listener: UnixListener, answers: Arc<Mutex<mpsc::Receiver<Answer>>>, seen: mpsc::Sender<Value>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(BufReader::new(stream), Arc::clone(&answers), seen.clone()));
    }
}

async fn converse(
    mut stream: BufReader<UnixStream>,
    answers: Arc<Mutex<mpsc::Receiver<Answer>>>,
    seen: mpsc::Sender<Value>,
) {
    while let Some(words) = command(&mut stream).await {
        let answer = match words[0].as_str() {
            "CLIENT" => "$5\r\nn0nce\r\n".to_owned(),
            "AUTH" => (if words[2] == "n0nce" { "+OK\r\n" } else { "-WRONGPASS\r\n" }).to_owned(),
            "XADD" => {
                seen.send(serde_json::from_str(&words[4]).unwrap()).await.unwrap();
                "$3\r\n1-0\r\n".to_owned()
            }
            "XREADGROUP" => match answers.lock().await.recv().await {
                Some(Answer::Entry(entry)) => {
                    let json = entry.to_string();
                    let len = json.len();
                    format!("*1\r\n*2\r\n$2\r\nin\r\n*1\r\n*2\r\n$3\r\n1-0\r\n*2\r\n$4\r\nturn\r\n${len}\r\n{json}\r\n")
                }
                Some(Answer::Fenced) => "-FENCED generation 9 is current\r\n".to_owned(),
                None => return,
            },
            other => panic!("unexpected command {other}"),
        };
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

async fn command(stream: &mut BufReader<UnixStream>) -> Option<Vec<String>> {
    let count = head(stream).await?;
    let mut words = Vec::new();
    for _ in 0..count {
        let mut word = vec![0; head(stream).await? + 2];
        stream.read_exact(&mut word).await.ok()?;
        word.truncate(word.len() - 2);
        words.push(String::from_utf8(word).unwrap());
    }
    Some(words)
}

async fn head(stream: &mut BufReader<UnixStream>) -> Option<usize> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok()?;
    line.get(1..)?.trim_end().parse().ok()
}
