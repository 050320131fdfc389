//! Drives one program from its start to its end: prompt in, lines out, signals when it shall end.
//!
//! The end is the exit of the program itself. What it leaves in the background may hold its output open for ever; so then
//! only what is in the pipe already is read.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::process::{Child, ChildStderr, ChildStdin, Command};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::lines::{Piece, Splitter};
use crate::fence;
use crate::processes::Awaited;
use crate::stop::{Stop, Stops};

/// A pipe holds at most this much (pipe(7), `pipe-max-size`); what is read after the end is bounded by it.
const PIPE_MAX_BYTES: usize = 1 << 20;
/// How long a program that has said its last word may take to exit by itself.
const LEAVE: Duration = Duration::from_secs(3);
/// How long what it said may take to be told, when the turn was stopped and the gateway does not take it.
const DRAIN: Duration = Duration::from_secs(2);
/// How much of its stderr is kept: the end, where the reason mostly is.
const STDERR_BYTES: usize = 4 * 1024;

/// What to start.
pub(super) struct Program<'a> {
    pub argv: &'a [String],
    pub env: &'a [(String, String)],
    pub cwd: &'a Path,
    pub stdin: &'a [u8],
    /// Longest line of its output, in bytes.
    pub max_line: usize,
}

/// How it ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub status: ExitStatus,
    pub stderr: String,
}

impl Ended {
    /// How it ended, in words, with the last of what it said on stderr.
    pub fn describe(&self) -> String {
        use std::os::unix::process::ExitStatusExt as _;
        let mut text = match (self.status.code(), self.status.signal()) {
            (Some(code @ 129..=192), _) => format!("exit status {code} (as if by signal {})", code - 128),
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("ended by signal {signal}"),
            (None, None) => "ended".into(),
        };
        if self.status.code() == Some(137) || self.status.signal() == Some(9) {
            text.push_str(": it was killed, perhaps for want of memory");
        }
        if !self.stderr.is_empty() {
            text.push_str(": ");
            text.push_str(&self.stderr);
        }
        text
    }
}

/// Runs a program to its end. `take` is given its output; when it answers `false`, nothing more is expected and the program is
/// given a moment to exit. A stop ends the whole process group: INT, TERM, KILL.
pub(super) async fn drive(
    program: Program<'_>,
    awaited: &Awaited,
    stops: &Stops,
    mut take: impl AsyncFnMut(Piece<'_>) -> bool,
) -> io::Result<Ended> {
    let mut child = spawn(&program)?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
    let _awaited = awaited.add(pid);
    crate::oom::offer(pid);
    let stdin = child.stdin.take();
    let stdout = pipe::Receiver::from_owned_fd(child.stdout.take().ok_or(io::ErrorKind::BrokenPipe)?.into_owned_fd()?)?;
    let stderr = child.stderr.take();

    let (enough, exited) = (CancellationToken::new(), CancellationToken::new());
    let mut tail = Vec::new();
    let status = {
        let mut take = async |piece: Piece<'_>| {
            if !enough.is_cancelled() && !take(piece).await {
                enough.cancel();
            }
        };
        let talk = async {
            tokio::join!(
                pump(&stdout, program.max_line, &exited, &mut take),
                keep_tail(stderr, &mut tail, &exited),
                feed(stdin, program.stdin, &exited),
            )
        };
        tokio::pin!(talk);
        let wait = async {
            let status = wait(&mut child, pid, stops.clone(), &enough).await;
            exited.cancel();
            status
        };
        tokio::pin!(wait);
        let (mut status, mut talked) = (None, false);
        while status.is_none() {
            tokio::select! {
                ended = &mut wait => status = Some(ended),
                _ = &mut talk, if !talked => talked = true,
            }
        }
        if !talked {
            tokio::select! {
                _ = talk => {}
                () = give_up(stops.clone()) => {}
            }
        }
        status.unwrap_or_else(|| Err(io::ErrorKind::Other.into()))?
    };
    Ok(Ended { status, stderr: String::from_utf8_lossy(&tail).trim().to_owned() })
}

fn spawn(program: &Program<'_>) -> io::Result<Child> {
    let (name, args) = program.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut command = Command::new(name);
    command.args(args).env_clear().envs(program.env.iter().map(|(name, value)| (name, value))).current_dir(program.cwd);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0).kill_on_drop(true);
    // SAFETY: between fork and exec only prctl is called, which is a plain system call and allocates nothing.
    unsafe {
        command.pre_exec(|| {
            // Where the worker is not PID 1, the agent must not outlive it.
            rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
            fence::close()
        });
    }
    command.spawn()
}

/// Waits for the exit, and brings it about when asked to.
async fn wait(child: &mut Child, pid: i32, mut stops: Stops, enough: &CancellationToken) -> io::Result<ExitStatus> {
    let signals = tokio::select! {
        status = child.wait() => return status,
        why = stops.wait() => why.signals(),
        () = enough.cancelled() => match timeout(LEAVE, child.wait()).await {
            Ok(status) => return status,
            Err(_) => Stop::Shutdown.signals(),
        },
    };
    for &(signal, grace) in signals {
        signal_group(pid, signal);
        if let Ok(status) = timeout(grace, child.wait()).await {
            return status;
        }
    }
    signal_group(pid, Signal::KILL);
    child.wait().await
}

fn signal_group(pid: i32, signal: Signal) {
    if let Some(group) = Pid::from_raw(pid) {
        // The group may be gone.
        let _ = kill_process_group(group, signal);
    }
}

async fn give_up(mut stops: Stops) {
    if !stops.wait().await.ends_worker() {
        tokio::select! {
            () = tokio::time::sleep(DRAIN) => {}
            () = stops.wait_worker_end() => {}
        }
    }
}

async fn feed(stdin: Option<ChildStdin>, bytes: &[u8], exited: &CancellationToken) {
    if let Some(mut stdin) = stdin {
        tokio::select! {
            // A program need not read what it is told.
            _ = stdin.write_all(bytes) => {}
            () = exited.cancelled() => {}
        }
    }
}

async fn keep_tail(stderr: Option<ChildStderr>, tail: &mut Vec<u8>, exited: &CancellationToken) {
    let Some(mut stderr) = stderr else { return };
    let mut buffer = vec![0; 8 * 1024];
    loop {
        // What is there already is read before the exit counts.
        let read = tokio::select! {
            biased;
            read = stderr.read(&mut buffer) => read,
            () = exited.cancelled() => return,
        };
        match read {
            Ok(n) if n > 0 => {
                tail.extend_from_slice(&buffer[..n]);
                tail.drain(..tail.len().saturating_sub(STDERR_BYTES));
            }
            _ => return,
        }
    }
}

async fn pump(
    stdout: &pipe::Receiver,
    max_line: usize,
    exited: &CancellationToken,
    take: &mut impl AsyncFnMut(Piece<'_>),
) {
    let mut splitter = Splitter::new(max_line);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        tokio::select! {
            () = exited.cancelled() => break,
            ready = stdout.readable() => if ready.is_err() { break },
        }
        match stdout.try_read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                splitter.push(&buffer[..n], take).await;
                take(Piece::Pause).await;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => break,
        }
    }
    // Not `try_read`: it believes the reactor, which may not have been told yet of the last bytes.
    let mut left = PIPE_MAX_BYTES;
    while let Ok(n @ 1..) = rustix::io::read(stdout.as_fd(), &mut buffer) {
        splitter.push(&buffer[..n], take).await;
        take(Piece::Pause).await;
        left = left.saturating_sub(n);
        if left == 0 {
            break;
        }
    }
    splitter.finish(take).await;
}
