//! All processes of a workload: who they are, and the certainty that none is left.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use contract::WorkloadId;
use rustix::process::{Pid, PidfdFlags, Signal, WaitId, WaitIdOptions};
use serde::{Deserialize, Serialize};
use tokio::io::unix::AsyncFd;
use tokio::time::Instant;

/// How long killed processes may take to be gone. Longer is uninterruptible sleep, which nothing ends.
const CLEAR_LIMIT: Duration = Duration::from_secs(20);

/// More than `/proc/<pid>/stat` has: a name of 16 bytes and 51 numbers.
const STAT_BYTES: usize = 2048;
/// Of a list of processes: those of a hundred thousand.
const PROCS_BYTES: usize = 1 << 20;

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
    parent: i32,
    session: i32,
    starttime: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = untrusted::read_kernel(format!("/proc/{pid}/stat"), STAT_BYTES).ok()?;
    // The name in brackets may hold anything, brackets too.
    let fields: Vec<&str> = text[text.rfind(')')? + 1..].split_ascii_whitespace().collect();
    Some(Stat {
        state: *fields.first()?.as_bytes().first()?,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        starttime: fields.get(19)?.parse().ok()?,
    })
}

impl Stat {
    fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }
}

impl ProcessId {
    /// The process of this number now, unless it is dead.
    pub fn of(pid: i32) -> Option<Self> {
        let stat = stat(pid)?;
        stat.is_alive().then_some(Self { pid, starttime: stat.starttime })
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

fn all_processes() -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).filter(|pid| *pid != own).collect()
}

/// Everything by which a process can be known to belong to a workload. All of it was made by the platform or is kept by the
/// kernel; what a process says of itself, in its environment or on its command line, is nobody's word.
#[derive(Debug)]
pub(super) struct Group {
    pub workload: WorkloadId,
    pub shim: Option<ProcessId>,
    /// What the shim has started: the program, or bwrap around it.
    pub inner: Option<ProcessId>,
    /// The first process of the sandbox's PID namespace. While it is not dead, others may be in there; when it is, none is
    /// (pid_namespaces(7)).
    pub inside: Option<ProcessId>,
    /// Its folder in every hierarchy.
    pub cgroups: Vec<PathBuf>,
}

impl Group {
    /// Processes of it that are alive: the three that are known, in its cgroup, in its shim's session, and everything below
    /// one of these. The shim adopts whoever loses its parent.
    pub fn survivors(&self) -> Vec<ProcessId> {
        let known = [self.shim, self.inner, self.inside];
        let mut found: BTreeMap<i32, ProcessId> =
            known.into_iter().flatten().filter(|p| p.is_alive()).map(|p| (p.pid, p)).collect();
        for cgroup in &self.cgroups {
            let text = untrusted::read_kernel(cgroup.join("cgroup.procs"), PROCS_BYTES).unwrap_or_default();
            found.extend(text.lines().filter_map(|l| ProcessId::of(l.parse().ok()?)).map(|p| (p.pid, p)));
        }
        // A session keeps its number for as long as anybody is in it. If its leader is another process by now, ours is over.
        let session = self.shim.filter(|s| stat(s.pid).is_none_or(|now| now.starttime == s.starttime)).map(|s| s.pid);
        let mut children = BTreeMap::<i32, Vec<ProcessId>>::new();
        for pid in all_processes() {
            let Some(stat) = stat(pid) else { continue };
            let id = ProcessId { pid, starttime: stat.starttime };
            if Some(stat.session) == session && stat.is_alive() {
                found.insert(pid, id);
            }
            children.entry(stat.parent).or_default().push(id);
        }
        let mut parents: Vec<i32> = found.keys().copied().collect();
        while let Some(parent) = parents.pop() {
            for child in children.remove(&parent).unwrap_or_default() {
                parents.push(child.pid);
                if child.is_alive() {
                    found.insert(child.pid, child);
                }
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
