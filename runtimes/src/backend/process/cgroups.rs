//! The limits of process sandboxes: one cgroup for each workload, in the unified hierarchy (version 2) or in those of single
//! controllers (version 1), wherever this process may make some.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::WorkloadId;
use tokio::time::Instant;

use super::Launch;

/// Where the hierarchies are mounted; on a machine with both versions the unified one is a folder among the others.
const ROOT: &str = "/sys/fs/cgroup";
/// How long a folder whose processes are gone may still be busy.
const REMOVE_LIMIT: Duration = Duration::from_secs(5);

/// A hierarchy, by what is to be limited in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Unified,
    Memory,
    Pids,
    Cpu,
}

/// The deployment's folders, one in each hierarchy that can be written to.
#[derive(Debug, Default)]
pub(super) struct Cgroups {
    parents: Vec<(Kind, PathBuf)>,
}

impl Cgroups {
    /// Makes the deployment's folders where that may be done.
    pub fn open(deployment: &str) -> Self {
        let root = Path::new(ROOT);
        let name = format!("rekindle-{deployment}");
        let mut parents = Vec::new();
        let unified = [root.to_owned(), root.join("unified")];
        if let Some(top) = unified.iter().find(|top| top.join("cgroup.subtree_control").exists()) {
            let parent = top.join(&name);
            if std::fs::create_dir_all(&parent).is_ok() {
                for at in [top, &parent] {
                    for controller in ["+memory", "+cpu", "+pids"] {
                        // One that is not there is asked for in the hierarchy of its own, below.
                        let _ = std::fs::write(at.join("cgroup.subtree_control"), controller);
                    }
                }
                parents.push((Kind::Unified, parent));
            }
        }
        for (kind, controller) in [(Kind::Memory, "memory"), (Kind::Pids, "pids"), (Kind::Cpu, "cpu")] {
            let top = root.join(controller);
            let parent = top.join(&name);
            if top.join("tasks").exists() && std::fs::create_dir_all(&parent).is_ok() {
                parents.push((kind, parent));
            }
        }
        Self { parents }
    }

    /// Whether the number of processes and the memory of a workload can be limited.
    pub fn limits(&self) -> (bool, bool) {
        let has = |kind, controller: &str| {
            self.parents.iter().any(|(k, parent)| {
                *k == kind || (*k == Kind::Unified && enables(&parent.join("cgroup.subtree_control"), controller))
            })
        };
        (has(Kind::Pids, "pids"), has(Kind::Memory, "memory"))
    }

    /// A workload's folders, whether they are there or not.
    pub fn of(&self, id: &WorkloadId) -> Vec<PathBuf> {
        self.parents.iter().map(|(_, parent)| parent.join(id.to_string())).collect()
    }

    /// Makes a workload's folders, with its limits where the controllers are.
    pub fn make(&self, id: &WorkloadId, launch: &Launch) -> io::Result<Vec<PathBuf>> {
        let mut made = Vec::new();
        for (kind, parent) in &self.parents {
            let dir = parent.join(id.to_string());
            std::fs::create_dir_all(&dir)?;
            for (file, value) in limits(*kind, launch) {
                let path = dir.join(file);
                if path.exists() {
                    let named = |e: io::Error| io::Error::new(e.kind(), format!("cannot set {}: {e}", path.display()));
                    std::fs::write(&path, value).map_err(named)?;
                }
            }
            made.push(dir);
        }
        Ok(made)
    }

    /// The kernel's count of those killed for want of memory in a workload, and where its worker looks for that.
    pub fn oom_counter(&self, id: &WorkloadId) -> Option<(PathBuf, &'static str)> {
        self.parents.iter().find_map(|(kind, parent)| {
            let (file, inside) = match kind {
                Kind::Unified => ("memory.events", "/sys/fs/cgroup/memory.events"),
                Kind::Memory => ("memory.oom_control", "/sys/fs/cgroup/memory/memory.oom_control"),
                Kind::Pids | Kind::Cpu => return None,
            };
            let path = parent.join(id.to_string()).join(file);
            path.exists().then_some((path, inside))
        })
    }

    /// Removes a workload's folders, in which no process is left.
    ///
    /// # Errors
    /// When one of them stays busy.
    pub async fn remove(&self, id: &WorkloadId) -> io::Result<()> {
        let until = Instant::now() + REMOVE_LIMIT;
        for dir in self.of(id) {
            loop {
                match std::fs::remove_dir(&dir) {
                    // The kernel lets go of the last process a moment after it is gone.
                    Err(e) if e.kind() == io::ErrorKind::ResourceBusy && Instant::now() < until => {
                        tokio::time::sleep(Duration::from_millis(2)).await;
                    }
                    Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
                    _ => break,
                }
            }
        }
        Ok(())
    }

    /// Removes the deployment's folders, unless a workload has its own in one.
    pub fn close(&self) {
        for (_, parent) in &self.parents {
            let _ = std::fs::remove_dir(parent);
        }
    }
}

fn enables(file: &Path, controller: &str) -> bool {
    untrusted::read_kernel(file, 4096).is_ok_and(|text| text.split_ascii_whitespace().any(|word| word == controller))
}

/// Files and what to write into them, in this order. One that is not there has no controller, or none with swap.
fn limits(kind: Kind, launch: &Launch) -> Vec<(&'static str, String)> {
    let pids = ("pids.max", launch.profile.pids.to_string());
    let memory = launch.memory_bytes().map(|bytes| bytes.to_string());
    let quota = launch.cpu().map(|cpu| (cpu * 100_000.0) as u64);
    match kind {
        Kind::Unified => {
            let mut all = vec![pids];
            all.extend(memory.into_iter().flat_map(|m| [("memory.max", m), ("memory.swap.max", "0".into())]));
            all.extend(quota.map(|q| ("cpu.max", format!("{q} 100000"))));
            all
        }
        Kind::Pids => vec![pids],
        // Memory with swap may not be less than memory alone, so that one comes first.
        Kind::Memory => memory
            .into_iter()
            .flat_map(|m| [("memory.limit_in_bytes", m.clone()), ("memory.memsw.limit_in_bytes", m)])
            .collect(),
        Kind::Cpu => quota
            .into_iter()
            .flat_map(|q| [("cpu.cfs_period_us", "100000".into()), ("cpu.cfs_quota_us", q.to_string())])
            .collect(),
    }
}
