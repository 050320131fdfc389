//! The processes of a deployment's workloads, for tests that end or stop them from outside.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::Value;

use crate::options::Backend;
use crate::paths;
use crate::stack::Stack;

/// What of a workload is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The worker, first process of its sandbox.
    Worker,
    /// The sandbox's parent, which only process sandboxes have.
    Shim,
}

/// A process of a workload. It is named so that it cannot be mistaken for a later one of the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sandbox {
    /// By its generation's folder.
    Process(PathBuf, Part),
    /// By its container.
    Container(String),
}

impl Sandbox {
    /// The processes of this kind that a deployment has now.
    ///
    /// # Panics
    /// When the Docker engine cannot be asked.
    pub fn all(stack: &Stack, part: Part) -> Vec<Self> {
        match (stack.backend, part) {
            (Backend::Process, _) => {
                stack.generations().into_iter().map(|id| Self::Process(stack.generation(&id), part)).collect()
            }
            (Backend::Docker, Part::Worker) => containers(&stack.deployment).into_iter().map(Self::Container).collect(),
            (Backend::Docker, Part::Shim) => Vec::new(),
        }
    }

    /// Sends it a signal; `false` when it is gone already.
    pub fn signal(&self, signal: Signal) -> bool {
        match self {
            Self::Process(dir, part) => signal_process(dir, *part, signal).is_ok(),
            Self::Container(id) => {
                let signal = signal.as_raw().to_string();
                docker().args(["kill", "--signal", &signal, id]).output().is_ok_and(|o| o.status.success())
            }
        }
    }
}

/// Process id of a part of the process sandbox whose generation's folder this is; `None` when it does not run.
pub fn pid(dir: &Path, part: Part) -> Option<u32> {
    let file = if part == Part::Shim { "shim.pid" } else { "inner.json" };
    let (written, started) = identity(&dir.join(file)).ok()?;
    let pid = if part == Part::Shim { written } else { inside(written) };
    (stat(written).ok()?.1 == started).then(|| u32::try_from(pid).ok())?
}

/// Names of the deployment's containers that run.
///
/// # Panics
/// When the Docker engine cannot be asked.
pub fn containers(deployment: &str) -> Vec<String> {
    let filter = format!("label=rekindle.deployment={deployment}");
    let output = docker().args(["ps", "--quiet", "--no-trunc", "--filter", &filter]).output().expect("run docker");
    assert!(output.status.success(), "docker ps: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
}

fn docker() -> std::process::Command {
    paths::command(paths::tool("docker", "docker.io"))
}

fn signal_process(dir: &Path, part: Part, signal: Signal) -> anyhow::Result<()> {
    let file = if part == Part::Shim { "shim.pid" } else { "inner.json" };
    let (written, started) = identity(&dir.join(file))?;
    let pid = if part == Part::Shim { written } else { inside(written) };
    let handle = pidfd_open(Pid::from_raw(pid).context("a pid")?, PidfdFlags::empty())?;
    // Looked at after the handle is there: what it names cannot change any more.
    anyhow::ensure!(stat(written)?.1 == started, "{written} is another process by now");
    anyhow::ensure!(pid == written || stat(pid)?.0 == written, "{pid} is no child of {written}");
    Ok(pidfd_send_signal(&handle, signal)?)
}

/// Process id and start time as the shim wrote them down.
fn identity(file: &Path) -> anyhow::Result<(i32, u64)> {
    let written: Value = serde_json::from_slice(&std::fs::read(file)?)?;
    let pid = i32::try_from(written["pid"].as_i64().context("a pid")?)?;
    Ok((pid, written["starttime"].as_u64().context("a start time")?))
}

/// The first process inside of `bwrap`; without one the program itself is what the shim started.
fn inside(pid: i32) -> i32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_ascii_whitespace().next().and_then(|first| first.parse().ok()).unwrap_or(pid)
}

/// Parent and start time, fields 4 and 22 of `/proc/<pid>/stat`.
fn stat(pid: i32) -> anyhow::Result<(i32, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = text.rsplit_once(')').context("a name in brackets")?;
    let fields: Vec<_> = rest.split_ascii_whitespace().collect();
    let field = |index: usize| fields.get(index).copied().context("more fields");
    Ok((field(1)?.parse()?, field(19)?.parse()?))
}
