//! `[runtime]`: what runs workloads, and how it is reached.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What runs workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeBackend {
    /// A Docker engine.
    Docker,
    /// Child processes, under bubblewrap where it is installed.
    Process,
}

/// `[runtime]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// Where it serves `runtime.v1`, and where gateway and reaper find it: `unix:///path` or `http://host:port`.
    pub url: String,
    /// File with the bearer token that its callers show and that it shows with its callbacks.
    pub token_file: PathBuf,
    /// What runs workloads.
    pub backend: RuntimeBackend,
    /// Name that its workloads are labelled with; two runtimes on one engine need two.
    pub deployment: String,
    /// Folder of workspaces, states and generations.
    pub store: PathBuf,
    /// The static worker binary.
    pub worker_binary: PathBuf,
    /// The gateway's worker port as the relay reaches it; default `gateway.worker_port`. Those of several gateways with
    /// spaces between: a relay that cannot reach one takes the next.
    pub worker_port: Option<String>,
    /// The one uid (and gid) of all workers of the deployment. Used when the runtime is root; else its own.
    pub worker_uid: u32,
    /// Seconds between TERM and KILL.
    pub stop_grace_sec: u64,
    /// MiB that must be free where the store lies: below that nothing starts, and the heaviest writers are stopped.
    pub min_free_mb: u64,
    /// Files with the public keys (PEM) of the gateways' dispatch tokens: with them the runtime mounts only what a token says
    /// that a gateway has signed. Empty: it compares what the token says, unproven. They are read anew for every start.
    pub dispatch_public_key_files: Vec<PathBuf>,
    /// Limits by cgroups where they can be made. `false`: by resource limits (setrlimit(2)) only, of processes.
    pub cgroups: bool,
    /// Address of the Docker engine, `unix:///…`: workspaces are folders of this host, so it has to be this host's engine.
    /// Default: `DOCKER_HOST`, else the usual socket.
    pub docker_host: Option<String>,
    /// The engine's OCI runtime where a profile names none, such as `runsc` for gVisor; default the engine's own.
    pub oci_runtime: Option<String>,
    /// The `bwrap` program for process sandboxes; an empty text means none.
    pub bwrap: String,
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            url: "unix:///run/rekindle/runtime.sock".into(),
            token_file: "secrets/runtime_token".into(),
            backend: RuntimeBackend::Docker,
            deployment: "default".into(),
            store: "store".into(),
            worker_binary: "rekindle-worker-static".into(),
            worker_port: None,
            worker_uid: 10_001,
            stop_grace_sec: 10,
            min_free_mb: 512,
            dispatch_public_key_files: Vec::new(),
            cgroups: true,
            docker_host: None,
            oci_runtime: None,
            bwrap: "bwrap".into(),
        }
    }
}
