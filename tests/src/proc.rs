//! What the kernel says of a process: memory, descriptors, threads.
//!
//! Source: proc_pid_status(5), proc_pid_smaps(5), proc_pid_fd(5).

use std::path::PathBuf;

use anyhow::Context as _;

/// Memory of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Memory {
    /// Bytes in memory, those shared with others included.
    pub resident: u64,
    /// Bytes in memory, of those shared with others its part.
    pub proportional: u64,
}

/// What it holds in memory.
///
/// # Errors
/// When it is gone, or may not be looked at: of other users' processes and undumpable ones that takes `CAP_SYS_PTRACE`.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let text = read(pid, "smaps_rollup")?;
    Ok(Memory { resident: kilobytes(&text, "Rss:")? << 10, proportional: kilobytes(&text, "Pss:")? << 10 })
}

/// Descriptors that it has open.
///
/// # Errors
/// As [`memory`].
pub fn descriptors(pid: u32) -> anyhow::Result<u64> {
    count(pid, "fd")
}

/// Its threads.
///
/// # Errors
/// When it is gone.
pub fn threads(pid: u32) -> anyhow::Result<u64> {
    count(pid, "task")
}

/// Whether all of its threads are traced by somebody.
///
/// # Errors
/// When it is gone.
pub fn traced(pid: u32) -> anyhow::Result<bool> {
    for thread in std::fs::read_dir(at(pid, "task"))? {
        let Ok(status) = std::fs::read_to_string(thread?.path().join("status")) else { continue };
        if status.lines().any(|line| line.split_ascii_whitespace().eq(["TracerPid:", "0"])) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Lines of its mount table that contain this text.
///
/// # Errors
/// When it is gone.
pub fn mounts(pid: u32, with: &str) -> anyhow::Result<u64> {
    Ok(read(pid, "mountinfo")?.lines().filter(|line| line.contains(with)).count() as u64)
}

fn at(pid: u32, file: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{pid}/{file}"))
}

fn read(pid: u32, file: &str) -> anyhow::Result<String> {
    let path = at(pid, file);
    std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
}

fn count(pid: u32, folder: &str) -> anyhow::Result<u64> {
    let path = at(pid, folder);
    Ok(std::fs::read_dir(&path).with_context(|| format!("list {}", path.display()))?.count() as u64)
}

fn kilobytes(text: &str, name: &str) -> anyhow::Result<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
