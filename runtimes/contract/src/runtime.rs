//! `runtime.v1`: what the gateway and the reaper say to the runtime, and what it answers.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{Generation, UnitId, WorkloadId, WorkspaceId};
use crate::stop::StopReason;
use crate::unit::Mode;

/// What runs workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A Docker engine.
    Docker,
    /// A Kubernetes cluster.
    K8s,
    /// Child processes, under bubblewrap where it is installed.
    Process,
}

impl Backend {
    /// The wire word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::K8s => "k8s",
            Self::Process => "process",
        }
    }
}

/// Limits of a workload.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Resources {
    /// Processors, may be a fraction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
    /// Memory in MiB.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u64>,
    /// GPUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gpu: Option<u32>,
}

/// The unit and the generation that a workload is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UnitRef {
    /// The unit.
    pub uid: UnitId,
    /// Its generation.
    pub generation: Generation,
}

/// A workspace to mount. Where it lies on the host is the runtime's own knowledge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// Which workspace; the first mount is the primary one, at `/workspace`.
    pub workspace: WorkspaceId,
    /// How.
    pub mode: Mode,
}

/// `POST /workloads`. Idempotent on `workloadId`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WorkloadSpec {
    /// `<uid>-<generation>`; must agree with `unit`.
    pub workload_id: WorkloadId,
    /// Name of the profile; the runtime has the image and the command from its own settings.
    pub profile: String,
    /// Environment. In every value `${…}` names are replaced by what the runtime alone knows.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Where to post a [`RuntimeEvent`] on every transition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// Limits; the profile's where absent.
    #[serde(default)]
    pub resources: Resources,
    /// Seconds of idleness after which the worker ends itself as a last resort.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idle_timeout_sec: Option<u64>,
    /// Seconds that it may live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_lifetime_sec: Option<u64>,
    /// Which backend; the runtime's only one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<Backend>,
    /// Whose it is.
    pub unit: UnitRef,
    /// The workspaces, at least one.
    #[schemars(length(min = 1))]
    pub mounts: Vec<Mount>,
    /// The generation's dispatch token, for the relay.
    pub token: String,
}

/// State of a workload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum WorkloadState {
    /// Accepted, not yet running.
    Starting,
    /// Its first process runs.
    Running,
    /// TERM was sent.
    Stopping,
    /// Its processes are gone; what is left of it can be looked at.
    Stopped,
    /// Nothing is left of it.
    Destroyed,
}

impl WorkloadState {
    /// Whether processes of it may still run.
    pub fn is_alive(self) -> bool {
        matches!(self, Self::Starting | Self::Running | Self::Stopping)
    }
}

/// Answer to most calls.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WorkloadStatus {
    /// Which workload.
    pub workload_id: WorkloadId,
    /// Name of its profile.
    pub profile: String,
    /// Where it is in its life.
    pub state: WorkloadState,
    /// Ports on the host, if any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// When its first process started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub started_at: Option<Timestamp>,
    /// When its processes were gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub stopped_at: Option<Timestamp>,
    /// Exit status of its first process, 128 + n for signal n.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<StopReason>,
    /// The substrate's own words about a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// What runs it.
    pub backend: Backend,
    /// The machine that it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
}

/// Posted to `callbackUrl` on every transition, until a 2xx.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct RuntimeEvent {
    /// Which workload.
    pub workload_id: WorkloadId,
    /// The state that it entered.
    pub state: WorkloadState,
    /// When.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Ports on the host, if any.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub ports: BTreeMap<String, u16>,
    /// Exit status of its first process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stop_reason: Option<StopReason>,
    /// The substrate's own words about a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}
