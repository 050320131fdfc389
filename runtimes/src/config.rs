//! What the runtime is told at its start.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::Backend;
use relay::WorkerPort;
use settings::{Profile, RuntimeBackend, Settings};

/// The settings that concern the runtime, checked.
#[derive(Debug, Clone)]
pub struct RuntimeConfig {
    /// Name that its workloads are labelled with.
    pub deployment: String,
    /// What runs workloads.
    pub backend: Backend,
    /// Folder of workspaces, states and generations. Created if it is absent.
    pub store: PathBuf,
    /// The static worker binary.
    pub worker_binary: PathBuf,
    /// The program that is run as `… shim --dir <folder>`; the worker binary.
    pub shim_binary: PathBuf,
    /// The gateway's worker port as the relay reaches it.
    pub worker_port: WorkerPort,
    /// The uid and gid of all workers when the runtime is root.
    pub worker_uid: u32,
    /// Time between TERM and KILL.
    pub stop_grace: Duration,
    /// MiB that must be free where the store lies.
    pub min_free_mb: u64,
    /// Public keys (PEM files) of dispatch tokens; none: what a token says is compared unproven.
    pub dispatch_public_keys: Vec<PathBuf>,
    /// Whether cgroups are made for processes, where that may be done.
    pub cgroups: bool,
    /// `unix:///…` of the Docker engine.
    pub docker_host: Option<String>,
    /// The engine's OCI runtime where a profile names none.
    pub oci_runtime: Option<String>,
    /// The `bwrap` program, if it may be used.
    pub bwrap: Option<PathBuf>,
    /// Profiles by name.
    pub profiles: BTreeMap<String, Profile>,
    /// Bearer token that is shown with callbacks.
    pub callback_token: Option<String>,
}

/// The settings do not fit together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl RuntimeConfig {
    /// From the settings file. Nothing is created or opened.
    ///
    /// # Errors
    /// [`ConfigError`] that names the setting.
    pub fn from_settings(settings: &Settings, token: Option<String>) -> Result<Self, ConfigError> {
        let own = &settings.runtime;
        let port = own.worker_port.as_deref().unwrap_or(&settings.gateway.worker_port);
        let worker_port = WorkerPort::parse(port).map_err(|e| ConfigError(format!("runtime.worker_port: {e}")))?;
        let label = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
        if own.deployment.is_empty() || own.deployment.len() > 40 || !own.deployment.bytes().all(label) {
            let message = "runtime.deployment must be 1 to 40 of the characters A-Z a-z 0-9 _ . -";
            return Err(ConfigError(message.into()));
        }
        let worker_binary = beside_this_program(&own.worker_binary);
        let mut profiles = settings.profiles.clone();
        if let Some(default) = settings.profile("default") {
            profiles.entry("default".into()).or_insert(default);
        }
        Ok(Self {
            deployment: own.deployment.clone(),
            backend: match own.backend {
                RuntimeBackend::Docker => Backend::Docker,
                RuntimeBackend::Process => Backend::Process,
            },
            store: own.store.clone(),
            shim_binary: worker_binary.clone(),
            worker_binary,
            worker_port,
            worker_uid: own.worker_uid,
            stop_grace: Duration::from_secs(own.stop_grace_sec),
            min_free_mb: own.min_free_mb,
            dispatch_public_keys: own.dispatch_public_key_files.clone(),
            cgroups: own.cgroups,
            docker_host: own.docker_host.clone(),
            oci_runtime: own.oci_runtime.clone(),
            bwrap: (!own.bwrap.is_empty()).then(|| PathBuf::from(&own.bwrap)),
            profiles,
            callback_token: token,
        })
    }

    /// Who workers run as: `worker_uid` when the runtime is root and can become somebody else, else its own uid.
    pub(crate) fn worker_ids(&self) -> (u32, u32) {
        if rustix::process::geteuid().is_root() {
            (self.worker_uid, self.worker_uid)
        } else {
            (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw())
        }
    }
}

/// A bare file name means the one that was installed with this program.
fn beside_this_program(path: &Path) -> PathBuf {
    if path.components().count() > 1 {
        return path.to_owned();
    }
    match std::env::current_exe() {
        Ok(own) => own.with_file_name(path),
        Err(_) => path.to_owned(),
    }
}
