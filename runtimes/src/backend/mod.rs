//! The substrates. A closed set: an enum that dispatches, and one conformance suite that each of them passes.

pub(crate) mod docker;
pub(crate) mod process;

use std::io;
use std::path::PathBuf;

use contract::{Backend as Kind, Mode, WorkloadId, WorkloadSpec, WorkspaceId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use settings::Profile;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::RuntimeConfig;
use crate::generation::GenerationDir;
use crate::inspect::{Inspection, Printed};
use crate::store::Store;
use docker::DockerBackend;
use process::ProcessBackend;

/// What stands between a workload and the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Nothing but its uid.
    None,
    /// Namespaces made by bubblewrap.
    Bubblewrap,
    /// A container.
    Container,
}

/// Everything that a start needs. The generation's folder is written already.
#[derive(Debug)]
pub(crate) struct Launch {
    pub dir: GenerationDir,
    pub spec: WorkloadSpec,
    pub profile: Profile,
    /// The workspaces' folders on the host, the primary one first.
    pub workspaces: Vec<(WorkspaceId, Mode, PathBuf)>,
    /// The state's folder on the host.
    pub state: PathBuf,
    /// The start is not wanted any more.
    pub abort: CancellationToken,
}

impl Launch {
    /// The limits: the spec's, or the profile's where it has none.
    pub fn cpu(&self) -> Option<f64> {
        self.spec.resources.cpu.or(self.profile.cpu)
    }

    pub fn memory_bytes(&self) -> Option<u64> {
        self.spec.resources.memory_mb.or(self.profile.memory_mb).map(|mb| mb << 20)
    }
}

/// How a workload ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Exit {
    /// Exit status of its first process, 128 + n for signal n; none when nobody saw it.
    pub code: Option<i32>,
    /// Its first process died of a lack of memory.
    pub oom: bool,
    /// Its program was never run.
    pub never_ran: bool,
    pub at: Option<Timestamp>,
    /// The substrate's or the program's last words.
    pub detail: Option<String>,
}

/// What the substrate says of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// It knows nothing of it.
    Absent,
    /// It was prepared, but not started, and nobody is starting it.
    NeverStarted,
    Running,
    /// It ended, and no process of it is left.
    Exited(Exit),
}

/// What a backend notices by itself.
#[derive(Debug)]
pub(crate) enum Sighting {
    /// Events may have been missed until now: look at everything.
    Reconnected,
    /// This workload may have ended: look at it.
    Ended(WorkloadId),
}

/// A substrate did not do what it was asked for: its own words.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BackendError(pub String);

impl From<io::Error> for BackendError {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

/// The one backend of a runtime.
#[derive(Debug)]
pub(crate) enum Backend {
    Docker(DockerBackend),
    Process(ProcessBackend),
}

impl Backend {
    pub async fn open(
        config: &RuntimeConfig,
        store: &Store,
        sightings: mpsc::Sender<Sighting>,
        stop: CancellationToken,
    ) -> io::Result<Self> {
        match config.backend {
            Kind::Docker => Ok(Self::Docker(DockerBackend::open(config, sightings, stop)?)),
            Kind::Process => Ok(Self::Process(ProcessBackend::open(config, store, sightings, stop).await?)),
            Kind::K8s => Err(io::Error::new(io::ErrorKind::Unsupported, "this runtime has no Kubernetes backend")),
        }
    }

    /// Starts it. When this returns, its first process runs.
    ///
    /// # Errors
    /// What is left of it is removed by [`Backend::remove`].
    pub async fn launch(&self, launch: &Launch) -> Result<(), BackendError> {
        match self {
            Self::Docker(b) => b.launch(launch).await,
            Self::Process(b) => b.launch(launch).await,
        }
    }

    /// Looks at it, and from now on watches for its end. Must not be called while it is being launched.
    pub async fn examine(&self, dir: &GenerationDir) -> Result<Condition, BackendError> {
        match self {
            Self::Docker(b) => b.examine(dir.id()).await,
            Self::Process(b) => b.examine(dir).await,
        }
    }

    /// Asked of a workload that was killed by nobody here: whether a lack of memory did it.
    pub async fn ran_out_of_memory(&self, dir: &GenerationDir) -> bool {
        match self {
            Self::Docker(b) => b.ran_out_of_memory(dir.id()).await,
            // Its shim has looked.
            Self::Process(_) => false,
        }
    }

    /// TERM to its first process. One that is gone is no error.
    pub async fn terminate(&self, dir: &GenerationDir) -> Result<(), BackendError> {
        match self {
            Self::Docker(b) => b.signal(dir.id(), "SIGTERM").await,
            Self::Process(b) => b.terminate(dir),
        }
    }

    /// KILL to all of it. One that is gone is no error.
    pub async fn kill(&self, dir: &GenerationDir) -> Result<(), BackendError> {
        match self {
            Self::Docker(b) => b.signal(dir.id(), "SIGKILL").await,
            Self::Process(b) => b.kill(dir).await,
        }
    }

    /// Kills it if it runs and reclaims everything but its folder.
    ///
    /// # Errors
    /// Something of it may be left, or it cannot be known.
    pub async fn remove(&self, dir: &GenerationDir) -> Result<(), BackendError> {
        match self {
            Self::Docker(b) => b.remove(dir.id()).await,
            Self::Process(b) => b.remove(dir).await,
        }
    }

    /// Workloads of this deployment that the substrate knows, with their profiles.
    pub async fn list(&self) -> Result<Vec<(WorkloadId, String)>, BackendError> {
        match self {
            Self::Docker(b) => b.list().await,
            // Processes have no registry but the folders.
            Self::Process(_) => Ok(Vec::new()),
        }
    }

    /// Runs a look into a workspace to its end. Whatever becomes of it, [`Backend::end_inspect`] comes after.
    pub async fn inspect(&self, inspection: &Inspection) -> Result<Printed, BackendError> {
        match self {
            Self::Docker(b) => b.inspect(inspection).await,
            Self::Process(b) => b.inspect(inspection).await,
        }
    }

    /// Kills a look if it runs, and leaves nothing of it. One that is not there is no error.
    pub async fn end_inspect(&self, name: &str) -> Result<(), BackendError> {
        match self {
            Self::Docker(b) => b.end_inspect(name).await,
            // It was killed when nobody waited for it any more.
            Self::Process(_) => Ok(()),
        }
    }

    /// Names of the looks of this deployment that the substrate knows.
    pub async fn inspects(&self) -> Result<Vec<String>, BackendError> {
        match self {
            Self::Docker(b) => b.inspects().await,
            // They die with the runtime that started them.
            Self::Process(_) => Ok(Vec::new()),
        }
    }

    /// Whether it would start something now.
    pub async fn health(&self) -> Result<(), BackendError> {
        match self {
            Self::Docker(b) => b.health().await,
            Self::Process(b) => b.health(),
        }
    }

    /// As [`Backend::health`], without asking when the substrate was heard of just now.
    pub async fn reachable(&self) -> Result<(), BackendError> {
        match self {
            Self::Docker(b) => b.reachable().await,
            Self::Process(b) => b.health(),
        }
    }

    /// Gives back what no workload needs any more.
    pub fn close(&self) {
        if let Self::Process(backend) = self {
            backend.close();
        }
    }

    pub fn isolation(&self) -> Isolation {
        match self {
            Self::Docker(_) => Isolation::Container,
            Self::Process(b) => b.isolation(),
        }
    }
}
