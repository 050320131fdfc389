//! One child of the supervisor: its log, its restarts, its end.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use rustix::process::{Pid, Signal, getppid, kill_process, set_parent_process_death_signal};
use tokio::process::{Child, Command};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::environment::Environment;

const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After this long a child counts as having run well.
const RAN_WELL: Duration = Duration::from_secs(30);
/// A log that is longer when a child starts is set aside.
const LOG_BYTES: u64 = 16 << 20;

/// What to run.
#[derive(Debug, Clone)]
pub struct Spec {
    /// What to call it.
    pub name: &'static str,
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub args: Vec<String>,
    /// Its whole environment.
    pub environment: Environment,
    /// Where its output goes.
    pub log: PathBuf,
    /// How long it may take to end after TERM.
    pub stop_within: Duration,
}

/// What the supervisor hears of a child.
#[derive(Debug)]
pub struct Died {
    /// Which.
    pub name: &'static str,
    /// How.
    pub how: String,
    /// When it is started again.
    pub again_in: Duration,
    /// Its log.
    pub log: PathBuf,
}

/// A child that is kept running. It ends by [`Self::stop`]; the kernel kills it when this process dies.
#[derive(Debug)]
pub struct Kept {
    /// What to call it.
    pub name: &'static str,
    cancel: CancellationToken,
    task: JoinHandle<Option<String>>,
}

impl Kept {
    /// Starts it and keeps it running. Call it on the main thread: a child is tied to the thread that made it.
    pub fn start(spec: Spec, told: mpsc::Sender<Died>) -> Self {
        let cancel = CancellationToken::new();
        let name = spec.name;
        let task = tokio::spawn(keep(spec, cancel.clone(), told));
        Self { name, cancel, task }
    }

    /// TERM, and after its time KILL. What was not as it should be, if anything.
    pub async fn stop(self) -> Option<String> {
        self.cancel.cancel();
        match self.task.await {
            Ok(said) => said,
            Err(e) => Some(format!("{}: {e}", self.name)),
        }
    }
}

async fn keep(spec: Spec, cancel: CancellationToken, told: mpsc::Sender<Died>) -> Option<String> {
    let mut pause = FIRST_PAUSE;
    loop {
        let since = Instant::now();
        let how = match spawn(&spec) {
            Ok(mut child) => {
                tokio::select! {
                    status = child.wait() => how(status),
                    () = cancel.cancelled() => return end(&spec, &mut child).await,
                }
            }
            Err(e) => format!("cannot be started: {e:#}"),
        };
        if since.elapsed() > RAN_WELL {
            pause = FIRST_PAUSE;
        }
        let died = Died { name: spec.name, how, again_in: pause, log: spec.log.clone() };
        tokio::select! {
            () = cancel.cancelled() => return None,
            sent = told.send(died) => sent.ok()?,
        }
        tokio::select! {
            () = cancel.cancelled() => return None,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}

fn spawn(spec: &Spec) -> anyhow::Result<Child> {
    let log = open_log(&spec.log)?;
    let me = Pid::from_raw(std::process::id().cast_signed());
    let mut command = Command::new(&spec.program);
    command
        .args(&spec.args)
        .env_clear()
        .envs(&spec.environment)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // Ctrl-C reaches the terminal's foreground group; children end in order instead.
        .process_group(0)
        .kill_on_drop(true);
    // SAFETY: between fork and exec only async-signal-safe system calls are made (prctl, getppid), and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // The supervisor may have died before that took effect.
            if getppid() == me { Ok(()) } else { Err(std::io::ErrorKind::Interrupted.into()) }
        });
    }
    command.spawn().with_context(|| format!("run {}", spec.program.display()))
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    if path.metadata().is_ok_and(|m| m.len() > LOG_BYTES) {
        std::fs::rename(path, path.with_extension("log.1"))?;
    }
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o600).open(path);
    file.with_context(|| format!("open {}", path.display()))
}

fn how(status: std::io::Result<ExitStatus>) -> String {
    match status {
        Ok(status) => format!("died ({status})"),
        Err(e) => format!("cannot be waited for: {e}"),
    }
}

async fn end(spec: &Spec, child: &mut Child) -> Option<String> {
    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()))?;
    // Not reaped yet, so the pid is still its own.
    let _ = kill_process(pid, Signal::TERM);
    if tokio::time::timeout(spec.stop_within, child.wait()).await.is_ok() {
        return None;
    }
    let killed = child.kill().await;
    let after = spec.stop_within.as_secs();
    Some(match killed {
        Ok(()) => format!("{} did not end within {after} s and was killed", spec.name),
        Err(e) => format!("{} did not end within {after} s and cannot be killed: {e}", spec.name),
    })
}

/// The last lines of a log.
pub fn tail(path: &Path, lines: usize) -> String {
    let text = untrusted::read_tail(path, 16 << 10).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(folder: &Path, script: &str) -> Spec {
        Spec {
            name: "child",
            program: "/bin/sh".into(),
            args: vec!["-c".into(), script.into()],
            environment: Environment::from([("PATH".into(), "/usr/bin:/bin".into()), ("ONLY".into(), "this".into())]),
            log: folder.join("child.log"),
            stop_within: Duration::from_millis(300),
        }
    }

    #[tokio::test]
    async fn what_dies_is_told_and_started_again() {
        let folder = tempfile::tempdir().unwrap();
        let (told, mut hears) = mpsc::channel(4);
        let child = Kept::start(spec(folder.path(), "echo run $ONLY $HOME; exit 7"), told);
        let first = hears.recv().await.unwrap();
        let second = hears.recv().await.unwrap();
        assert!(first.how.contains("exit status: 7"), "{}", first.how);
        assert!(second.again_in > first.again_in);
        assert_eq!(child.stop().await, None);
        assert_eq!(tail(&first.log, 1), "run this");
        assert!(tail(&first.log, 9).lines().count() >= 2);
    }

    #[tokio::test]
    async fn what_ignores_term_is_killed_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let (told, _hears) = mpsc::channel(4);
        let child =
            Kept::start(spec(folder.path(), "trap '' TERM; echo $$; while :; do read x </dev/null; done"), told);
        let log = folder.path().join("child.log");
        tokio::time::timeout(Duration::from_secs(10), async {
            while tail(&log, 1).is_empty() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        let pid: i32 = tail(&log, 1).parse().unwrap();
        assert!(child.stop().await.unwrap().contains("was killed"));
        assert!(rustix::process::test_kill_process(Pid::from_raw(pid).unwrap()).is_err());
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let (told, mut hears) = mpsc::channel(4);
        let absent = Spec { program: "/nowhere/x".into(), ..spec(folder.path(), "") };
        let child = Kept::start(absent, told);
        assert!(hears.recv().await.unwrap().how.contains("/nowhere/x"));
        child.stop().await;
    }
}
