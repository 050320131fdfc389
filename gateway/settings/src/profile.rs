//! `[profiles.<name>]`: named deployment defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::egress::EgressRule;

/// What a profile demands of its sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Whatever the backend has.
    #[default]
    Any,
    /// A container or bubblewrap; without one, starts are refused.
    Required,
}

/// What a profile's containers are connected to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Network {
    /// A loopback, and nothing else. The worker's two sockets are the only way out.
    #[default]
    None,
    /// As well an interface of a network of the deployment's own that reaches nobody: not the host, not other workloads. For
    /// programs that do not run without one. Docker only, from engine 28 on.
    Internal,
}

/// `[profiles.<name>]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Container image.
    pub image: String,
    /// Runner where the caller names none.
    pub runner: String,
    /// The program of the `exec` runner.
    pub runner_command: Vec<String>,
    /// Model where the caller names none.
    pub model: Option<String>,
    /// Tools where the caller names none; empty: all that the runner has.
    pub tools: Vec<String>,
    /// A worker of somebody else's: what the static binary runs in its own place.
    pub command: Vec<String>,
    /// More environment for the workload; `${…}` names are replaced.
    pub env: BTreeMap<String, String>,
    /// Puts the dispatch token into `${token}`. Weaker: the agent can read it.
    pub token_in_env: bool,
    /// Hosts that the sandbox may reach through the gateway: `host` (port 443), `host:port`, `*.domain`, `http://host` (port
    /// 80), `preset:npm` and its like. Empty: none.
    pub egress: Vec<EgressRule>,
    /// What it demands of its sandbox.
    pub isolation: Isolation,
    /// Folders of the host that process sandboxes may read besides the system's, such as where an agent CLI is installed.
    pub process_paths: Vec<PathBuf>,
    /// Processors.
    pub cpu: Option<f64>,
    /// Memory in MiB.
    pub memory_mb: Option<u64>,
    /// Most processes.
    pub pids: u64,
    /// Most open files of one process.
    pub nofile: u64,
    /// MiB that `/tmp` may hold. It lies in memory and counts as such.
    pub tmp_mb: u64,
    /// MiB that the disposable home and the unit's state may hold; a workload that fills them further is stopped. 0: no limit.
    pub home_max_mb: u64,
    /// Files and folders that there may be in them, likewise.
    pub home_max_files: u64,
    /// What its containers are connected to.
    pub network: Network,
    /// The engine's OCI runtime for its containers (`runsc`, `kata`); default `runtime.oci_runtime`.
    pub oci_runtime: Option<String>,
    /// MiB that one writable workspace may hold; a workload that fills it further is stopped. Absent: no limit.
    pub workspace_max_mb: Option<u64>,
    /// Files and folders that there may be in it, the repository's own included, likewise. 0: no limit.
    pub workspace_max_files: u64,
    /// Seconds that a unit may idle before its worker is reaped.
    pub idle_timeout_sec: u64,
    /// Seconds that a start may take.
    pub start_timeout_sec: u64,
    /// Seconds that a turn may take from its delivery.
    pub turn_timeout_sec: u64,
    /// Seconds that a workload may live.
    pub max_lifetime_sec: u64,
    /// Deliveries to generations that were lost with it, before a turn is dead.
    pub max_attempts: u32,
    /// Starts that may fail before the head turn is settled `start_failed`.
    pub max_starts: u32,
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            image: "rekindle/agent:latest".into(),
            runner: "claude-code".into(),
            runner_command: Vec::new(),
            model: None,
            tools: Vec::new(),
            command: Vec::new(),
            env: BTreeMap::new(),
            token_in_env: false,
            egress: Vec::new(),
            isolation: Isolation::Any,
            process_paths: Vec::new(),
            cpu: None,
            memory_mb: None,
            pids: 512,
            nofile: 16_384,
            tmp_mb: 512,
            home_max_mb: 10_240,
            home_max_files: 1_000_000,
            network: Network::None,
            oci_runtime: None,
            workspace_max_mb: None,
            workspace_max_files: 1_000_000,
            idle_timeout_sec: 600,
            start_timeout_sec: 60,
            turn_timeout_sec: 1800,
            max_lifetime_sec: 86_400,
            max_attempts: 3,
            max_starts: 3,
        }
    }
}
