//! The files of a generation's folder that the shim reads and writes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::oom;
use crate::processes::Stat;

pub(super) const SHIM: &str = "shim.pid";
pub(super) const INNER: &str = "inner.json";
pub(super) const INSIDE: &str = "inside.json";
pub(super) const EXIT: &str = "exit.json";
pub(super) const LOG: &str = "log";

/// Of `launch.json`.
const LAUNCH_BYTES: usize = 16 << 20;

/// What to start.
#[derive(Debug, Deserialize)]
pub(super) struct Launch {
    pub argv: Vec<String>,
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    pub uid: u32,
    pub gid: u32,
    #[serde(default)]
    pub cgroups: Vec<PathBuf>,
    pub cwd: Option<PathBuf>,
    /// A file that is handed over open; its number replaces [`Launch::FILTER`] in `argv`.
    pub filter: Option<PathBuf>,
    #[serde(default)]
    pub rlimits: Rlimits,
}

/// Limits of every single process (setrlimit(2)).
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub(super) struct Rlimits {
    pub nofile: Option<u64>,
    pub data: Option<u64>,
}

impl Launch {
    /// In `argv`, in the place of the filter's descriptor.
    pub const FILTER: &str = "{filter}";
    /// The same of the one that `bwrap` says on which process is the first inside (bwrap(1), `--info-fd`).
    pub const INFO: &str = "{info}";

    pub fn read(dir: &Path) -> anyhow::Result<Self> {
        let path = dir.join("launch.json");
        let text = untrusted::read_file(&path, LAUNCH_BYTES).with_context(|| format!("read {}", path.display()))?;
        let launch: Self = serde_json::from_slice(&text).with_context(|| format!("parse {}", path.display()))?;
        if launch.argv.is_empty() {
            bail!("{}: argv is empty", path.display());
        }
        Ok(launch)
    }

    /// How often memory ran out in its cgroups.
    pub fn oom_kills(&self) -> u64 {
        self.cgroups.iter().map(|cgroup| oom::kills_in(cgroup)).sum()
    }
}

/// A process, for ever: ids are used again, but not with the same start.
#[derive(Debug, Serialize)]
pub(super) struct Identity {
    pid: i32,
    starttime: u64,
}

impl Identity {
    pub fn of(pid: i32) -> anyhow::Result<Self> {
        let stat = Stat::of(pid).with_context(|| format!("read /proc/{pid}/stat"))?;
        Ok(Self { pid, starttime: stat.starttime })
    }
}

/// How it ended.
#[derive(Debug, Default, Serialize)]
pub(super) struct Exit {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub oom: bool,
    pub error: Option<String>,
}

/// Temporary file, rename: whoever reads it reads all of it, or nothing after a loss of power.
pub(super) fn write(dir: &Path, name: &str, what: &impl Serialize) -> anyhow::Result<()> {
    put(dir, name, what, false)
}

/// As [`write`], and all of it after a loss of power, too.
pub(super) fn write_durably(dir: &Path, name: &str, what: &impl Serialize) -> anyhow::Result<()> {
    put(dir, name, what, true)
}

fn put(dir: &Path, name: &str, what: &impl Serialize, durable: bool) -> anyhow::Result<()> {
    let temporary = dir.join(format!(".{name}.new"));
    let mut file = File::create(&temporary).with_context(|| format!("write {}", temporary.display()))?;
    file.write_all(&serde_json::to_vec(what)?)?;
    if durable {
        file.sync_all()?;
    }
    fs::rename(&temporary, dir.join(name)).with_context(|| format!("write {name} in {}", dir.display()))
}
