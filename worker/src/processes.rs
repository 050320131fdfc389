//! What `/proc` says of processes, and the reaping of those that nobody waits for.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, WaitOptions, getpid, waitpid};
use tokio::signal::unix::{SignalKind, signal};

/// More than `/proc/<pid>/stat` has: a name of 16 bytes and 51 numbers.
const STAT_BYTES: usize = 2048;
/// Of a list of children: some tens of thousands. Whoever has more is asked again when these are gone.
const CHILDREN_BYTES: usize = 256 << 10;

/// One process, as `/proc/<pid>/stat` tells (proc_pid_stat(5)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Its id.
    pub pid: i32,
    /// Its parent.
    pub ppid: i32,
    /// `R S D T t Z X I`, of its first thread.
    pub state: char,
    /// How many threads it has; the first one counts until the whole process was reaped.
    pub threads: u32,
    /// Clock ticks from boot to its start; with the id it names a process for ever.
    pub starttime: u64,
}

impl Stat {
    /// Of one process; `None` when there is none.
    pub fn of(pid: i32) -> Option<Self> {
        Self::parse(pid, &untrusted::read_kernel(format!("/proc/{pid}/stat"), STAT_BYTES).ok()?)
    }

    fn parse(pid: i32, line: &str) -> Option<Self> {
        // The name may hold anything, `)` too; what follows its last one does not.
        let mut fields = line[line.rfind(')')? + 1..].split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let ppid = fields.next()?.parse().ok()?;
        let threads = fields.nth(15)?.parse().ok()?;
        let starttime = fields.nth(1)?.parse().ok()?;
        Some(Self { pid, ppid, state, threads, starttime })
    }

    /// Whether it cannot run any more: it only waits to be reaped. One whose first thread alone has ended looks dead and is not.
    pub fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads < 2
    }

    /// Whether it does not run until it is continued.
    pub fn is_stopped(&self) -> bool {
        matches!(self.state, 'T' | 't')
    }
}

/// All processes that `/proc` shows.
pub fn all() -> Vec<Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| Stat::of(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// Everything below a process, the dead included. With `PR_SET_CHILD_SUBREAPER` on it nothing can leave this tree.
pub fn descendants(root: i32) -> Vec<Stat> {
    let all = all();
    let mut found = Vec::new();
    let mut parents = vec![root];
    while let Some(parent) = parents.pop() {
        for stat in all.iter().filter(|stat| stat.ppid == parent && stat.pid != root) {
            parents.push(stat.pid);
            found.push(*stat);
        }
    }
    found
}

/// The children of one process: the kernel's own list where it keeps one, else by looking at all.
pub fn children(parent: i32) -> Vec<i32> {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{parent}/task")) else { return Vec::new() };
    let mut found = Vec::new();
    for task in tasks.flatten() {
        match untrusted::read_kernel(task.path().join("children"), CHILDREN_BYTES) {
            Ok(list) => found.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok())),
            Err(_) => return all().iter().filter(|stat| stat.ppid == parent).map(|stat| stat.pid).collect(),
        }
    }
    found
}

/// Waits for a dead child of this process, so that its entry goes away.
pub fn reap(pid: i32) {
    if let Some(pid) = Pid::from_raw(pid) {
        // It was reaped by somebody else, or is none of ours: both are fine.
        let _ = waitpid(Some(pid), WaitOptions::NOHANG);
    }
}

/// The children that somebody here waits for. All others are reaped by [`reap_orphans`].
#[derive(Debug, Clone, Default)]
pub struct Awaited(Arc<Mutex<BTreeSet<i32>>>);

/// While it lives, one child is left for its owner to wait for.
#[derive(Debug)]
pub struct AwaitedGuard(Awaited, i32);

impl Awaited {
    /// Says that a child is waited for.
    pub fn add(&self, pid: i32) -> AwaitedGuard {
        self.lock().insert(pid);
        AwaitedGuard(self.clone(), pid)
    }

    fn has(&self, pid: i32) -> bool {
        self.lock().contains(&pid)
    }

    // Held for one operation on a set, never across an await.
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeSet<i32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AwaitedGuard {
    fn drop(&mut self) {
        self.0.lock().remove(&self.1);
    }
}

/// Makes orphans of this process' tree its children, so that none of them escapes it.
pub fn adopt_orphans() -> std::io::Result<()> {
    rustix::process::set_child_subreaper(Some(getpid())).map_err(Into::into)
}

/// Reaps what nobody waits for, as the first process of a sandbox must. Runs until dropped.
pub async fn reap_orphans(awaited: Awaited) -> std::io::Result<()> {
    let mut exits = signal(SignalKind::child())?;
    let me = getpid().as_raw_nonzero().get();
    loop {
        for pid in children(me) {
            if !awaited.has(pid) && Stat::of(pid).is_some_and(|stat| stat.is_dead()) {
                reap(pid);
            }
        }
        if exits.recv().await.is_none() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_parentheses_and_spaces_are_read() {
        let line = "7 (a) S 1 (b) Z 3 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1000 10\n";
        assert_eq!(Stat::parse(7, line), Some(Stat { pid: 7, ppid: 3, state: 'Z', threads: 1, starttime: 4711 }));
        assert_eq!(Stat::parse(7, "7 (a) S"), None);
    }

    #[test]
    fn a_child_is_among_the_children() {
        let mut child =
            std::process::Command::new("/bin/cat").env_clear().stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let me = getpid().as_raw_nonzero().get();
        assert!(children(me).contains(&pid));
        let seen = descendants(me).into_iter().find(|stat| stat.pid == pid).unwrap();
        assert_eq!((seen.ppid, seen.is_dead()), (me, false));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert_eq!(Stat::of(pid), None);
    }
}
