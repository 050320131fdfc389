//! All processes of a workload: who they are, and the certainty that none is left.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use contract::WorkloadId;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// How long killed processes may take to be gone. Longer is uninterruptible sleep, which nothing ends.
const CLEAR_LIMIT: Duration = Duration::from_secs(20);

/// A process that cannot be mistaken for a later one of the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct ProcessId {
    pub pid: i32,
    /// Field 22 of `/proc/<pid>/stat`, in clock ticks since boot.
    pub starttime: u64,
}

/// What `/proc/<pid>/stat` says.
struct Stat {
    state: u8,
    session: i32,
    starttime: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = std::fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may hold anything, brackets too.
    let end = text.iter().rposition(|b| *b == b')')?;
    let rest = std::str::from_utf8(&text[end + 1..]).ok()?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        session: fields.get(3)?.parse().ok()?,
        starttime: fields.get(19)?.parse().ok()?,
    })
}

impl ProcessId {
    /// The process of this number now, unless it is dead.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = stat(pid)?;
        (!matches!(stat.state, b'Z' | b'X')).then_some(Self { pid, starttime: stat.starttime })
    }

    /// A child of ours that was not waited for, dead or alive.
    pub fn of_child(pid: i32) -> Option<Self> {
        stat(pid).map(|s| Self { pid, starttime: s.starttime })
    }

    pub fn is_alive(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// A handle to it, if it is alive.
    pub fn open(self) -> Option<AsyncFd<OwnedFd>> {
        let pidfd = rustix::process::pidfd_open(Pid::from_raw(self.pid)?, PidfdFlags::NONBLOCK).ok()?;
        if !self.is_alive() {
            // A child of ours that has ended is to be waited for even so.
            reap(&pidfd);
            return None;
        }
        watchable(pidfd).ok()
    }

    /// Signals it; one that is dead is no error.
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        let Some(pid) = Pid::from_raw(self.pid) else { return Ok(()) };
        let Ok(pidfd) = rustix::process::pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        // Looked at after the handle is there: what it names cannot change any more.
        if !self.is_alive() {
            return Ok(());
        }
        match rustix::process::pidfd_send_signal(&pidfd, signal) {
            Err(e) if e != rustix::io::Errno::SRCH => Err(e.into()),
            _ => Ok(()),
        }
    }
}

/// A handle to a child that was not waited for, dead or alive.
pub(super) fn open_child(pid: i32) -> io::Result<AsyncFd<OwnedFd>> {
    let pid = Pid::from_raw(pid).ok_or(io::ErrorKind::InvalidInput)?;
    watchable(rustix::process::pidfd_open(pid, PidfdFlags::NONBLOCK)?)
}

/// Gives a descriptor to the event loop.
pub(super) fn watchable(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and the same for as long as it lives, and the `AsyncFd` owns it.
    unsafe { AsyncFd::register_with_interest(fd, tokio::io::Interest::READABLE) }.map_err(io::Error::from)
}

/// Waits for the end of a process, and for its status if it is a child of ours.
pub(super) async fn ended(pidfd: AsyncFd<OwnedFd>) {
    // A pidfd becomes readable when its process has ended (pidfd_open(2)); the event loop's own end is an end as well.
    let _ = pidfd.readable().await;
    reap(pidfd.get_ref());
}

fn reap(pidfd: &OwnedFd) {
    // It is not our child after a restart.
    let _ = rustix::process::waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
}

/// Processes with this argument on their command line.
pub(super) fn by_argument(argument: &OsStr) -> Vec<ProcessId> {
    let has = |pid: i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split(|b| *b == 0).any(|a| a == argument.as_bytes())
    };
    all_processes().into_iter().filter(|pid| has(*pid)).filter_map(ProcessId::of).collect()
}

fn all_processes() -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).filter(|pid| *pid != own).collect()
}

/// Everything by which a process can be known to belong to a workload.
#[derive(Debug)]
pub(super) struct Group {
    pub workload: WorkloadId,
    pub shim: Option<ProcessId>,
    pub inner: Option<ProcessId>,
    /// Its folder in every hierarchy.
    pub cgroups: Vec<PathBuf>,
}

impl Group {
    /// Processes of it that are alive: in its cgroup, in its shim's session, with its names in their environment.
    pub fn survivors(&self) -> Vec<ProcessId> {
        let mut found = BTreeMap::new();
        let known = [self.shim, self.inner].into_iter().flatten().filter(|p| p.is_alive());
        found.extend(known.map(|p| (p.pid, p)));
        for cgroup in &self.cgroups {
            let text = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
            found.extend(text.lines().filter_map(|l| ProcessId::of(l.parse().ok()?)).map(|p| (p.pid, p)));
        }
        // A session keeps its number for as long as anybody is in it. If its leader is another process by now, ours is over.
        let session = self.shim.filter(|s| stat(s.pid).is_none_or(|now| now.starttime == s.starttime)).map(|s| s.pid);
        let unit = format!("REKINDLE_UNIT={}", self.workload.uid);
        let generation = format!("REKINDLE_GENERATION={}", self.workload.generation);
        for pid in all_processes() {
            let in_session = || session.is_some() && stat(pid).map(|s| s.session) == session;
            let named = || {
                let environ = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
                let has = |wanted: &str| environ.split(|b| *b == 0).any(|v| v == wanted.as_bytes());
                has(&unit) && has(&generation)
            };
            if (in_session() || named())
                && let Some(id) = ProcessId::of(pid)
            {
                found.insert(pid, id);
            }
        }
        found.into_values().collect()
    }

    /// Kills all of it, until none is left.
    ///
    /// # Errors
    /// When some process does not end.
    pub async fn clear(&self) -> io::Result<()> {
        let until = Instant::now() + CLEAR_LIMIT;
        loop {
            for cgroup in &self.cgroups {
                // All at once and without a race against fork (cgroups(7), since Linux 5.14); where it is absent, one by one.
                let _ = std::fs::write(cgroup.join("cgroup.kill"), "1");
            }
            let left = self.survivors();
            if left.is_empty() {
                return Ok(());
            }
            if Instant::now() > until {
                let pids: Vec<_> = left.iter().map(|p| p.pid).collect();
                return Err(io::Error::other(format!("processes {pids:?} of {} do not end", self.workload)));
            }
            for process in left {
                process.signal(Signal::KILL)?;
                if let Some(pidfd) = process.open() {
                    let _ = tokio::time::timeout_at(until, ended(pidfd)).await;
                }
            }
        }
    }
}
