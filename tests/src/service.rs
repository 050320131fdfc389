//! A child process that a test starts, kills, stops and starts again, by its pid.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

use crate::paths;

/// How much of a log is shown when a test fails.
const TAIL_BYTES: u64 = 16 << 10;

/// A program, how it is started, and the process when it runs.
#[derive(Debug)]
pub struct Service {
    /// Its short name.
    pub name: String,
    program: PathBuf,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    log: PathBuf,
    child: Option<Child>,
}

impl Service {
    /// Describes it; nothing is started. Standard output and error are appended to `log`.
    pub fn new(name: &str, program: PathBuf, arguments: Vec<String>, log: PathBuf) -> Self {
        Self { name: name.into(), program, arguments, environment: Vec::new(), log, child: None }
    }

    /// One more environment variable, from the next start on.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// As [`Self::env`], of one that is there already.
    pub fn set_env(&mut self, name: &str, value: &str) {
        self.environment.push((name.into(), value.into()));
    }

    /// Starts it. What it does from here on is for the caller to wait for.
    ///
    /// # Panics
    /// When it runs already or its program cannot be started.
    pub fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("open a log");
        let child = paths::command(&self.program)
            .args(&self.arguments)
            .env("RUST_LOG", "debug,hyper=info,h2=info")
            .env("RUST_BACKTRACE", "1")
            .envs(self.environment.iter().map(|(k, v)| (k, v)))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|e| panic!("start {}: {e}", self.program.display()));
        self.child = Some(child);
    }

    /// Its process id.
    ///
    /// # Panics
    /// When it does not run.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().unwrap_or_else(|| panic!("{} does not run", self.name)).id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// When it does not run.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a pid");
        kill_process(pid, signal).unwrap_or_else(|e| panic!("signal {}: {e}", self.name));
    }

    /// Ends it at once, as a crash would, and waits until it is gone.
    ///
    /// # Panics
    /// When it does not run.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap_or_else(|| panic!("{} does not run", self.name));
        child.kill().unwrap_or_else(|e| panic!("kill {}: {e}", self.name));
        child.wait().unwrap_or_else(|e| panic!("wait for {}: {e}", self.name));
    }

    /// Ends it as a service manager would: TERM, and after three seconds KILL. For who cannot wait otherwise.
    pub fn end(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if let Some(pid) = i32::try_from(child.id()).ok().and_then(Pid::from_raw)
            && let Ok(process) = pidfd_open(pid, PidfdFlags::empty())
        {
            // One that has ended already takes no signal.
            let _ = kill_process(pid, Signal::TERM);
            let three_seconds = Timespec { tv_sec: 3, tv_nsec: 0 };
            let _ = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&three_seconds));
        }
        let _ = child.kill();
        let _ = child.wait();
    }

    /// Asks it to end and waits until it did.
    ///
    /// # Panics
    /// When it does not run, or does not end within `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        let what = format!("{} ends on TERM\n{}", self.name, self.tail());
        let status = crate::eventually(&what, limit, || {
            let ended = self.ended();
            async move { ended }
        })
        .await;
        self.child = None;
        status
    }

    /// How it ended, once it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|c| c.try_wait().ok().flatten())
    }

    /// Whether it was started and neither killed nor ended since.
    pub fn runs(&mut self) -> bool {
        self.child.is_some() && self.ended().is_none()
    }

    /// All that it wrote, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default()
    }

    /// The end of what it wrote.
    pub fn tail(&self) -> String {
        tail(&self.log)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if let Some(child) = self.child.as_mut() {
            // It may have ended by itself; then there is nothing left to end.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn tail(path: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|e| format!("({}: {e})", path.display()))
}
