//! Why a workload ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Stop reasons of `runtime.v1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Its program ended by itself with status 0.
    Completed,
    /// Somebody asked for it.
    Stopped,
    /// It was idle for long enough.
    IdleTimeout,
    /// Its program ended with another status, or it was killed.
    Failed,
    /// Its first process died because memory ran out.
    Oom,
    /// It never ran.
    StartFailed,
    /// It lived for as long as it may.
    MaxLifetime,
}

impl StopReason {
    /// The wire word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Stopped => "stopped",
            Self::IdleTimeout => "idle_timeout",
            Self::Failed => "failed",
            Self::Oom => "oom",
            Self::StartFailed => "start_failed",
            Self::MaxLifetime => "max_lifetime",
        }
    }
}
