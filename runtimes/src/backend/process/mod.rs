//! Workloads as child processes: each under a shim, and under bubblewrap where that works.
//!
//! The shim (`rekindle-worker shim --dir <generation folder>`) is a session of its own that outlives the runtime. It reads
//! `launch.json`, writes `shim.pid`, starts the workload, writes `inner.json` and `inside.json`, forwards TERM to it, and at
//! the end writes `exit.json`. These files are how a new runtime finds it; a process id is believed only together with its start time.

mod bubblewrap;
mod cgroups;
mod group;
mod inspect;
mod mounts;
mod sandbox;
mod seccomp;
mod shim;
mod syscalls;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contract::WorkloadId;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use settings::{Isolation as Demanded, Network};
use tokio::io::unix::AsyncFd;
use tokio::sync::{Mutex, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use super::{BackendError, Condition, Exit, Isolation, Launch, Sighting};
use crate::config::RuntimeConfig;
use crate::environment;
use crate::files;
use crate::generation::GenerationDir;
use crate::store::Store;
use bubblewrap::Bubblewrap;
use cgroups::Cgroups;
use group::{Group, ProcessId};
#[cfg(test)]
pub(crate) use sandbox::ETC as SYSTEM_ETC;
use sandbox::{Programs, Sandbox};

/// How long a shim that has lost its workload may take to write down how it ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Variable by which the worker is told how many processes there may be, where no cgroup counts them.
const PROCESSES_LIMIT: &str = "REKINDLE_PROCESSES_LIMIT";

/// What the shim is told, as `launch.json`.
#[derive(Debug, Serialize)]
struct LaunchFile {
    argv: Vec<String>,
    env: BTreeMap<String, String>,
    uid: u32,
    gid: u32,
    cgroups: Vec<PathBuf>,
    cwd: PathBuf,
    /// The filter of system calls; its descriptor's number goes into `argv`.
    filter: Option<PathBuf>,
    rlimits: Rlimits,
}

/// Limits of every single process, besides those of the cgroup.
#[derive(Debug, Serialize)]
struct Rlimits {
    nofile: u64,
    /// Bytes of memory of its own, where no cgroup counts that of all together.
    data: Option<u64>,
}

/// What the shim tells at the end, as `exit.json`.
#[derive(Debug, Deserialize)]
struct ExitFile {
    code: Option<i32>,
    signal: Option<i32>,
    #[serde(default)]
    oom: bool,
    error: Option<String>,
}

/// Child processes on this host.
#[derive(Debug)]
pub(crate) struct ProcessBackend {
    shim: PathBuf,
    worker: PathBuf,
    ids: (u32, u32),
    bwrap: Option<Bubblewrap>,
    cgroups: Cgroups,
    watcher: Arc<Watcher>,
}

/// Waits for the ends of shims.
#[derive(Debug)]
struct Watcher {
    sightings: mpsc::Sender<Sighting>,
    watched: Mutex<BTreeMap<String, ProcessId>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl ProcessBackend {
    pub async fn open(
        config: &RuntimeConfig,
        store: &Store,
        sightings: mpsc::Sender<Sighting>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        let ids = config.worker_ids();
        keep_descriptors()?;
        if rustix::process::geteuid().is_root() {
            mounts::prepare()?;
        }
        let bwrap = match &config.bwrap {
            Some(program) => match Bubblewrap::find(program, &config.shim_binary, ids).await {
                Ok(found) => Some(found),
                Err(error) => {
                    warn!(%error, "bubblewrap does not work here");
                    None
                }
            },
            None => None,
        };
        match &bwrap {
            Some(found) => info!(bwrap = %found.program().display(), "workloads are sandboxed by bubblewrap"),
            None => warn!(
                "workloads are NOT isolated: they run as uid {} with this machine's network and files. \
                 Install bubblewrap, or use the docker backend",
                ids.0
            ),
        }
        let cgroups = if config.cgroups { Cgroups::open(&config.deployment) } else { Cgroups::default() };
        if cgroups.limits() != (true, true) {
            warn!(
                "no cgroup can be made here for memory or for processes: limits are those of single processes (setrlimit)"
            );
        }
        // There is nothing to connect to: all that can be known is in the folders.
        let _ = (store, sightings.try_send(Sighting::Reconnected));
        let watcher = Watcher { sightings, watched: Mutex::default(), tasks: TaskTracker::new(), stop };
        Ok(Self {
            shim: config.shim_binary.clone(),
            worker: config.worker_binary.clone(),
            ids,
            bwrap,
            cgroups,
            watcher: Arc::new(watcher),
        })
    }

    pub async fn launch(&self, launch: &Launch) -> Result<(), BackendError> {
        if self.bwrap.is_none() && launch.profile.isolation == Demanded::Required {
            let detail = "the profile demands isolation, and bubblewrap does not work here: install it, or use docker";
            return Err(BackendError(detail.into()));
        }
        if launch.profile.network != Network::None {
            let detail = "network = \"internal\" is for the docker backend; the worker needs no network";
            return Err(BackendError(detail.into()));
        }
        for path in [&self.worker, &self.shim] {
            if !path.is_file() {
                return Err(BackendError(format!("there is no worker binary at {}", path.display())));
            }
        }
        let dir = &launch.dir;
        let cgroups = self.cgroups.make(dir.id(), launch)?;
        let counter = self.cgroups.oom_counter(dir.id());
        let programs = Programs { worker: &self.worker, shim: &self.shim, bwrap: self.bwrap.as_ref() };
        let sandbox = Sandbox::plan(launch, &programs, self.ids, counter)?;
        let token = if launch.profile.token_in_env { dir.token()? } else { String::new() };
        let mut env = environment::build(&launch.spec, &launch.profile, &sandbox.places, &token);
        env.entry("PATH".into()).or_insert_with(|| sandbox::DEFAULT_PATH.into());
        let (counts_processes, counts_memory) = self.cgroups.limits();
        if self.bwrap.is_some() && !counts_processes {
            // Counted for each user in each user namespace: only inside of this one is it a count of this sandbox.
            env.insert(PROCESSES_LIMIT.into(), launch.profile.pids.to_string());
        }
        let filter = match &self.bwrap {
            Some(bwrap) => {
                files::write_atomically(dir.path(), "filter", bwrap.filter())?;
                Some(dir.path().join("filter"))
            }
            None => None,
        };
        let file = LaunchFile {
            argv: sandbox.argv,
            env,
            uid: self.ids.0,
            gid: self.ids.1,
            cgroups,
            cwd: sandbox.cwd,
            filter,
            rlimits: Rlimits { nofile: launch.profile.nofile, data: launch.memory_bytes().filter(|_| !counts_memory) },
        };
        files::write_atomically(dir.path(), "launch.json", &serde_json::to_vec(&file).map_err(io::Error::other)?)?;
        if launch.abort.is_cancelled() {
            return Err(BackendError("it was stopped before it had started".into()));
        }
        let started = shim::start(&self.shim, dir, &sandbox.mounts).await?;
        self.watcher.watch(dir.id(), started.id, started.pidfd).await;
        Ok(())
    }

    pub async fn examine(&self, dir: &GenerationDir) -> Result<Condition, BackendError> {
        let Some(id) = self.shim_of(dir)? else {
            self.stop_late_shim(dir).await?;
            return Ok(Condition::NeverStarted);
        };
        if let Some(pidfd) = id.open() {
            self.watcher.watch(dir.id(), id, pidfd).await;
            return Ok(Condition::Running);
        }
        self.group(dir)?.clear().await?;
        Ok(Condition::Exited(self.exit_of(dir)?))
    }

    pub fn terminate(&self, dir: &GenerationDir) -> Result<(), BackendError> {
        // The shim passes it on to the workload's own first process.
        if let Some(id) = self.shim_of(dir)? {
            id.signal(Signal::TERM)?;
        }
        Ok(())
    }

    /// First the workload alone, so that the shim can still say how it ended; then whatever is left.
    pub async fn kill(&self, dir: &GenerationDir) -> Result<(), BackendError> {
        let Some(shim) = self.shim_of(dir)? else {
            return self.stop_late_shim(dir).await;
        };
        if let Some(inner) = dir.read::<ProcessId>("inner.json")? {
            inner.signal(Signal::KILL)?;
            if let Some(pidfd) = shim.open() {
                // Longer than that it is not waited for.
                let _ = tokio::time::timeout(LAST_WORDS, group::ended(pidfd)).await;
            }
        }
        Ok(self.group(dir)?.clear().await?)
    }

    pub async fn remove(&self, dir: &GenerationDir) -> Result<(), BackendError> {
        self.kill(dir).await?;
        Ok(self.cgroups.remove(dir.id()).await?)
    }

    pub fn health(&self) -> Result<(), BackendError> {
        if self.worker.is_file() {
            Ok(())
        } else {
            Err(BackendError(format!("there is no worker binary at {}", self.worker.display())))
        }
    }

    pub fn close(&self) {
        self.cgroups.close();
    }

    pub fn isolation(&self) -> Isolation {
        if self.bwrap.is_some() { Isolation::Bubblewrap } else { Isolation::None }
    }

    fn shim_of(&self, dir: &GenerationDir) -> io::Result<Option<ProcessId>> {
        dir.read("shim.pid")
    }

    fn group(&self, dir: &GenerationDir) -> io::Result<Group> {
        Ok(Group {
            workload: dir.id().clone(),
            shim: self.shim_of(dir)?,
            inner: dir.read("inner.json")?,
            inside: dir.read("inside.json")?,
            cgroups: self.cgroups.of(dir.id()),
        })
    }

    /// A runtime was killed while it started this one. A shim first says who it is and then reads `launch.json`: one that has
    /// not said so by the time that this is gone finds nothing to start.
    async fn stop_late_shim(&self, dir: &GenerationDir) -> Result<(), BackendError> {
        files::remove_if_there(&dir.path().join("launch.json"))?;
        Ok(self.group(dir)?.clear().await?)
    }

    fn exit_of(&self, dir: &GenerationDir) -> io::Result<Exit> {
        let log = files::tail(&dir.log());
        let Some(file) = dir.read::<ExitFile>("exit.json")? else {
            let detail = "its shim was killed; nobody saw how it ended".to_owned();
            return Ok(Exit { detail: Some(detail), ..Exit::default() });
        };
        let code = file.code.or(file.signal.map(|s| 128 + s));
        let last_line = log.as_deref().and_then(|l| l.lines().last()).unwrap_or_default();
        let bwrap_failed = self.bwrap.is_some()
            && match code {
                Some(1) => last_line.starts_with("bwrap: "),
                Some(2) => last_line.starts_with("rekindle-worker: confine: "),
                _ => false,
            };
        Ok(Exit {
            code,
            oom: file.oom,
            never_ran: file.error.is_some() || bwrap_failed,
            at: None,
            detail: file.error.or(if code == Some(0) { None } else { log }),
        })
    }
}

impl Watcher {
    /// Tells when this process has ended; a second call for the same one does nothing.
    async fn watch(self: &Arc<Self>, workload: &WorkloadId, id: ProcessId, pidfd: AsyncFd<std::os::fd::OwnedFd>) {
        let name = workload.to_string();
        if self.watched.lock().await.insert(name.clone(), id) == Some(id) {
            return;
        }
        let (watcher, workload) = (Arc::clone(self), workload.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = watcher.stop.cancelled() => return,
                () = group::ended(pidfd) => {}
            }
            watcher.watched.lock().await.remove(&name);
            // Nobody listens any more only when the runtime has ended.
            let _ = watcher.sightings.send(Sighting::Ended(workload)).await;
        });
    }
}

/// Whoever started this process may have left it files that are open, and they would go on to every sandbox.
fn keep_descriptors() -> io::Result<()> {
    let open: Vec<_> =
        std::fs::read_dir("/proc/self/fd")?.filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok()).collect();
    for fd in open.into_iter().filter(|fd: &i32| *fd > 2) {
        // SAFETY: it touches no memory; a descriptor that was closed meanwhile is an error, and none of ours is meant for a child.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// A path as text, for a command line.
fn text(path: &Path) -> io::Result<String> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not UTF-8", path.display()));
    path.to_str().map(str::to_owned).ok_or_else(wrong)
}
