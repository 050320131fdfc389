//! All that a deployment holds on the machine, counted after a round.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use tests::sandbox::{Part, pid};
use tests::stack::Stack;
use tests::{eventually, proc};

use crate::support::MINUTE;

/// Something that must not grow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Quantity {
    /// Resident bytes of a process.
    Memory(String),
    /// Threads of a process.
    Threads(String),
    /// Bytes that Redis has taken for its data.
    RedisMemory,
    /// A number of things.
    Count(String),
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory(process) => write!(f, "{process}'s memory"),
            Self::Threads(process) => write!(f, "{process}'s threads"),
            Self::RedisMemory => write!(f, "memory of Redis' data"),
            Self::Count(what) => write!(f, "{what}"),
        }
    }
}

/// The counts of all rounds so far.
#[derive(Debug, Default)]
pub(super) struct Census {
    pub series: BTreeMap<Quantity, Vec<f64>>,
}

impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (quantity, counts) in &self.series {
            writeln!(f, "{quantity}: {counts:?}")?;
        }
        Ok(())
    }
}

impl Drop for Census {
    /// What was seen until something went wrong.
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{self}");
        }
    }
}

impl Census {
    pub(super) fn rounds(&self) -> usize {
        self.series.values().map(Vec::len).max().unwrap_or_default()
    }

    /// Counts, once nothing is being removed any more. `resident` is the one workload that stays.
    pub(super) async fn take(&mut self, stack: &Stack, resident: &str) {
        eventually("what was erased is gone", MINUTE, || async {
            let empty = std::fs::read_dir(stack.store().join("trash")).map_or(0, Iterator::count) == 0;
            (empty && stack.generations() == [resident]).then_some(())
        })
        .await;
        let home = stack.home().display().to_string();
        let dir = stack.generation(resident);
        let part = |part| pid(&dir, part).unwrap_or_else(|| panic!("the {part:?} of {resident} is gone"));
        for (name, pid) in [
            ("gateway", stack.gateway.pid()),
            ("runtime", stack.runtime.pid()),
            ("reaper", stack.reaper.pid()),
            ("Redis", stack.redis.pid()),
            ("worker", part(Part::Worker)),
            ("shim", part(Part::Shim)),
        ] {
            let memory = proc::memory(pid).expect("a process' memory").resident;
            self.note(Quantity::Memory(name.into()), memory);
            self.count(&format!("{name}'s descriptors"), proc::descriptors(pid).expect("its descriptors"));
            self.note(Quantity::Threads(name.into()), proc::threads(pid).expect("its threads"));
            self.count(&format!("{name}'s mounts"), proc::mounts(pid, &home).expect("its mounts"));
        }
        self.count("mounts", proc::mounts(std::process::id(), &home).expect("mounts"));
        self.count("processes", processes(&home));
        self.count(
            "control groups",
            folders(Path::new("/sys/fs/cgroup"), &|path| path.to_string_lossy().contains(&stack.deployment)),
        );
        self.count("files", everything(stack.home(), &stack.home().join("redis")));
        self.note(Quantity::RedisMemory, stack.redis.info("used_memory").await.expect("Redis' memory"));
        let keys = stack.redis.command(&["DBSIZE"]).await.expect("reach Redis");
        let keys = keys.trim_start_matches(':').trim().parse().expect("a number of keys");
        self.count("keys in Redis", keys);
        self.count("connections to Redis", stack.redis.info("connected_clients").await.expect("its clients"));
    }

    fn count(&mut self, what: &str, number: u64) {
        self.note(Quantity::Count(what.into()), number);
    }

    fn note(&mut self, quantity: Quantity, number: u64) {
        self.series.entry(quantity).or_default().push(number as f64);
    }
}

/// Processes that name the deployment's folder in their command line.
fn processes(home: &str) -> u64 {
    let names = |pid: &str| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(home)
    };
    let all = std::fs::read_dir("/proc")
        .expect("list processes")
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    all.filter(|name| name.bytes().all(|b| b.is_ascii_digit()) && names(name)).count() as u64
}

/// Files and folders below one, but not below `without`: an append-only file is rewritten when Redis sees fit.
fn everything(dir: &Path, without: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let below = |path: &Path| {
        if path.is_dir() && !path.is_symlink() && path != without { everything(path, without) } else { 0 }
    };
    entries.filter_map(|entry| Some(entry.ok()?.path())).map(|path| 1 + below(&path)).sum()
}

/// Folders below one whose path is meant; the kernel's files in them are not counted.
fn folders(dir: &Path, meant: &impl Fn(&Path) -> bool) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else { return 0 };
    let dirs = entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir() && !path.is_symlink());
    dirs.map(|path| u64::from(meant(&path)) + folders(&path, meant)).sum()
}
