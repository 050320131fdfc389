//! Whether memory ran out during a turn: the kill counter of the cgroup that this process is in, where it is visible.

use std::path::PathBuf;

/// Of any file that is read here.
const MOST_BYTES: usize = 64 << 10;

/// The counter's file, if there is one.
#[derive(Debug, Clone)]
pub struct OomCounter(Option<PathBuf>);

impl OomCounter {
    /// Finds the counter of this process' cgroup: `memory.events` of version 2, `memory.oom_control` of version 1.
    pub fn find() -> Self {
        let lines = untrusted::read_kernel("/proc/self/cgroup", MOST_BYTES).unwrap_or_default();
        let own_namespace = rustix::process::getpid().is_init();
        Self(candidates(&lines, own_namespace).into_iter().find(|path| read(path).is_some()))
    }

    /// How often the kernel has killed here for want of memory; 0 when nobody says.
    pub fn kills(&self) -> u64 {
        self.0.as_ref().and_then(read).unwrap_or(0)
    }
}

/// Of all in the sandbox a runner's processes are to be killed first: a turn whose runner is killed is told, while a worker
/// that is killed takes the whole generation with it.
pub fn offer(pid: i32) {
    // Half of what there is: it outweighs the worker's size, which is small, and leaves a runner some of its own say. One that
    // is gone already, or whose program nobody may read, keeps what it has.
    let _ = std::fs::write(format!("/proc/{pid}/oom_score_adj"), "500");
}

/// How often the kernel killed for want of memory, by a cgroup's folder; 0 when nobody says.
pub fn kills_in(cgroup: &std::path::Path) -> u64 {
    ["memory.events", "memory.oom_control"].iter().find_map(|file| read(&cgroup.join(file))).unwrap_or(0)
}

fn read(path: &PathBuf) -> Option<u64> {
    let text = untrusted::read_kernel(path, MOST_BYTES).ok()?;
    text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}

/// From `/proc/self/cgroup` lines `id:controllers:path` (cgroups(7)). Inside a container the path may be the host's while
/// only the container's own part is mounted: then the mount point itself is ours. Outside of one that would be everybody's.
fn candidates(lines: &str, own_namespace: bool) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for line in lines.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let path = path.trim_start_matches('/');
        let (roots, file): (&[&str], _) = if controllers.is_empty() {
            (&["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], "memory.events")
        } else if controllers.split(',').any(|name| name == "memory") {
            (&["/sys/fs/cgroup/memory"], "memory.oom_control")
        } else {
            continue;
        };
        for root in roots {
            if !path.is_empty() {
                found.push([root, path, file].iter().collect());
            }
            if own_namespace {
                found.push([root, file].iter().collect());
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_both_versions_and_never_the_hosts_root() {
        let hybrid = "9:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n0::/docker/x\n";
        let names = |own| candidates(hybrid, own).iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(
            names(false),
            [
                "/sys/fs/cgroup/memory/docker/x/memory.oom_control",
                "/sys/fs/cgroup/docker/x/memory.events",
                "/sys/fs/cgroup/unified/docker/x/memory.events",
            ]
        );
        assert!(names(true).contains(&"/sys/fs/cgroup/memory/memory.oom_control".to_owned()));
        assert!(candidates("0::/\n", false).is_empty());
    }

    #[test]
    fn reads_the_counter_of_a_folder() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(kills_in(dir.path()), 0);
        std::fs::write(dir.path().join("memory.oom_control"), "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n").unwrap();
        assert_eq!(kills_in(dir.path()), 2);
        std::fs::write(dir.path().join("memory.events"), "oom 9\noom_kill 3\noom_group_kill 1\n").unwrap();
        assert_eq!(kills_in(dir.path()), 3);
    }
}
