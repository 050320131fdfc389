//! What a worker reads from `unit:<uid>:in`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::Start;
use crate::id::{TurnId, WorkspaceId};
use crate::unit::{Options, Principal, Trigger};

/// Why a delivered turn shall not be run again: look at the record, answer, run nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tell {
    /// It is out of attempts.
    Dead,
    /// It ran out of time.
    Timeout,
    /// It was cancelled.
    Cancelled,
    /// Its worker said more than a turn may.
    Flooded,
}

/// Why a turn failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailReason {
    /// The runner said so, or ended badly.
    Error,
    /// It ran for longer than it may.
    Timeout,
    /// Somebody cancelled it.
    Cancelled,
    /// Memory ran out while it ran.
    Oom,
    /// Its worker said more than a turn may.
    Flooded,
    /// Its worker was lost and no other could be asked.
    WorkerLost,
    /// It is out of attempts.
    Dead,
    /// No workload could be started for it.
    StartFailed,
    /// A workspace of it cannot be opened.
    WorkspaceUnusable,
    /// Its unit was erased.
    Erased,
}

impl FailReason {
    /// The wire word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Timeout => "timeout",
            Self::Cancelled => "cancelled",
            Self::Oom => "oom",
            Self::Flooded => "flooded",
            Self::WorkerLost => "worker_lost",
            Self::Dead => "dead",
            Self::StartFailed => "start_failed",
            Self::WorkspaceUnusable => "workspace_unusable",
            Self::Erased => "erased",
        }
    }
}

/// A turn, as it is delivered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TurnMessage {
    /// The turn.
    pub turn_id: TurnId,
    /// What to do.
    pub prompt: String,
    /// A file of the primary workspace that holds (more of) the prompt, relative to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt_path: Option<String>,
    /// Counts deliveries to generations that were lost with it, from 1.
    pub attempt: u32,
    /// Why it fired.
    pub trigger: Trigger,
    /// The conversation thread.
    pub thread: String,
    /// Git author.
    pub principal: Principal,
    /// The allow-set of tools; empty: the runner's default.
    #[serde(default)]
    pub tools: Vec<String>,
    /// Options for this turn.
    #[serde(default)]
    pub options: Options,
    /// How warm the worker was.
    pub start: Start,
    /// Seconds that the runner may take.
    pub timeout_sec: u64,
    /// Set when it shall not be run.
    #[serde(default)]
    pub tell: Option<Tell>,
    /// Workspaces whose tree a turn was delivered on that never settled, with that turn.
    #[serde(default)]
    pub unclean: BTreeMap<WorkspaceId, TurnId>,
    /// Hash of the walk cache that the last settled turn left.
    #[serde(default)]
    pub cache: Option<String>,
    /// A session of the agent CLI to go on with, as the caller named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// W3C trace context of the caller.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}

/// Field `turn` of an entry of `unit:<uid>:in`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "lowercase")]
#[allow(clippy::large_enum_variant, reason = "one is read at a time")]
pub enum InEntry {
    /// A turn.
    Message(TurnMessage),
    /// End the named turn if it runs.
    Cancel {
        /// Which turn.
        turn_id: TurnId,
    },
    /// End the worker when idle; given to the linked worker only, never stored.
    Stop,
}
