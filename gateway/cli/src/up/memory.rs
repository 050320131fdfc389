//! How much memory there is for the private Redis.

use std::fs::read_to_string;

const MIB: u64 = 1 << 20;
/// With less Redis is full of what it needs itself.
const LEAST_MB: u64 = 64;

/// A quarter, in MiB, of the memory that this machine, or the control group that this process is in, has.
pub fn quarter_mb() -> u64 {
    let machine = read_to_string("/proc/meminfo").ok().and_then(|text| total(&text));
    let group =
        read_to_string("/proc/self/cgroup").ok().and_then(|text| group_limit(&text, |path| read_to_string(path).ok()));
    let bytes = [machine, group].into_iter().flatten().min().unwrap_or(0);
    (bytes / 4 / MIB).max(LEAST_MB)
}

/// `MemTotal` of `/proc/meminfo` (proc(5)), in bytes.
fn total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// The lowest limit of the groups that `/proc/self/cgroup` names (cgroups(7)) and those above them, in version 2 and 1.
fn group_limit(groups: &str, read: impl Fn(&str) -> Option<String>) -> Option<u64> {
    let mut lowest: Option<u64> = None;
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let (root, file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max"),
            "memory" => ("/sys/fs/cgroup/memory", "memory.limit_in_bytes"),
            _ => continue,
        };
        for group in std::path::Path::new(path).ancestors() {
            let group = group.display().to_string();
            // `max` is no number: no limit.
            let limit = read(&format!("{root}{}/{file}", group.trim_end_matches('/')));
            let limit = limit.and_then(|text| text.trim().parse().ok());
            lowest = lowest.into_iter().chain(limit).min();
        }
    }
    lowest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_and_its_groups_are_asked() {
        assert_eq!(total("MemTotal:       16384 kB\nMemFree: 1 kB\n"), Some(16 * MIB));
        assert_eq!(total("nothing"), None);
        let files = |path: &str| match path {
            "/sys/fs/cgroup/a/b/memory.max" => Some("max\n".to_owned()),
            "/sys/fs/cgroup/a/memory.max" => Some("1048576\n".to_owned()),
            "/sys/fs/cgroup/memory/memory.limit_in_bytes" => Some("4096\n".to_owned()),
            _ => None,
        };
        assert_eq!(group_limit("0::/a/b\n", files), Some(MIB));
        assert_eq!(group_limit("5:cpu:/a\n4:memory:/\n", files), Some(4096));
        assert_eq!(group_limit("0::/c\n", files), None);
        assert!(quarter_mb() >= LEAST_MB);
    }
}
