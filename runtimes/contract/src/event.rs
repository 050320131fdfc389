//! Events of `unit:<uid>:out`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::id::{Generation, TurnId, WorkspaceId};
use crate::turn::FailReason;

/// How warm the worker was that took a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Start {
    /// A workload was started for it.
    Cold,
    /// A prewarmed slot was given to the unit.
    Prewarmed,
    /// The unit's worker was live.
    Warm,
}

impl Start {
    /// The wire word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Prewarmed => "prewarmed",
            Self::Warm => "warm",
        }
    }
}

/// What a turn used of a model.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct Usage {
    /// Tokens in, not from a cache.
    #[serde(default)]
    pub input_tokens: u64,
    /// Tokens out.
    #[serde(default)]
    pub output_tokens: u64,
    /// Tokens in, from a cache.
    #[serde(default)]
    pub cache_read_tokens: u64,
    /// Tokens written to a cache.
    #[serde(default)]
    pub cache_write_tokens: u64,
    /// The model, as the provider names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// US dollars, as the agent CLI reckons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_usd: Option<f64>,
}

/// Bytes as JSON that every gateway takes of an event of a worker, and that our worker keeps to.
pub const EVENT_BYTES: usize = 512 << 10;

/// An event, with what the platform stamps on it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct UnitEvent {
    /// The turn it belongs to, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub turn_id: Option<TurnId>,
    /// The generation that said it; stamped by the gateway.
    #[serde(default)]
    pub generation: Generation,
    /// Number within its turn, from 1; absent from the control plane and from foreign workers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// What happened.
    #[serde(flatten)]
    pub body: EventBody,
}

/// What happened. A reader ignores types that it does not know.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum EventBody {
    /// A worker is ready.
    WorkerReady {
        /// Milliseconds from the start of its process to its claim.
        boot_ms: u64,
    },
    /// A turn begins.
    TurnAccepted {
        /// What to do.
        prompt: String,
        /// Which attempt, from 1.
        attempt: u32,
        /// How warm the worker was.
        start: Start,
    },
    /// More of the answer.
    MessageDelta {
        /// The text.
        text: String,
    },
    /// More of the model's thinking.
    ThinkingDelta {
        /// The text.
        text: String,
    },
    /// The agent calls a tool.
    ToolCall {
        /// Which.
        tool: String,
        /// With what.
        args: Value,
        /// Names this call.
        #[serde(rename = "callId")]
        call_id: String,
    },
    /// A tool answered.
    ToolResult {
        /// Names the call.
        #[serde(rename = "callId")]
        call_id: String,
        /// Whether it went well.
        ok: bool,
        /// The beginning of what it said.
        summary: String,
    },
    /// Changes that break a rule were put back.
    PolicyReverted {
        /// What was put back, relative to its workspace.
        paths: Vec<String>,
        /// Why, in the same order.
        reasons: Vec<String>,
    },
    /// A connection out was refused.
    EgressDenied {
        /// Where to.
        host: String,
        /// The configuration line that would allow it.
        setting: String,
    },
    /// A branch has a new commit.
    Commit {
        /// Of which workspace.
        workspace: WorkspaceId,
        /// The commit.
        sha: String,
        /// Files changed.
        files: u64,
        /// Lines added.
        insertions: u64,
        /// Lines removed.
        deletions: u64,
    },
    /// The worker's last word on a turn.
    Done {
        /// Whether it went well.
        ok: bool,
        /// The answer.
        reply: String,
        /// The structured answer, where a schema was given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Value>,
        /// The agent CLI's session.
        #[serde(rename = "sessionId", default, skip_serializing_if = "Option::is_none")]
        session_id: Option<String>,
        /// What it used.
        #[serde(default)]
        usage: Usage,
        /// What else there is to say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
        /// Why not, where `ok` is false.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<FailReason>,
        /// Hash of the worker's walk cache; taken off by the gateway.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cache: Option<String>,
    },
    /// A turn is settled, well. Written by `settle`.
    TurnComplete {
        /// From its delivery.
        duration_ms: u64,
    },
    /// A turn's attempt, or with `final` the turn, failed. Written by `settle`.
    TurnFailed {
        /// Why.
        reason: FailReason,
        /// How many attempts there were.
        attempts: u32,
        /// Whether it is settled.
        #[serde(rename = "final")]
        is_final: bool,
        /// What else there is to say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// A turn waits. Written by the control plane.
    Queued {
        /// For what.
        reason: String,
        /// How many are before it.
        position: u64,
    },
    /// A worker is gone. Written by the control plane.
    WorkerExit {
        /// Why.
        reason: String,
        /// Exit status of its first process.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        exit_code: Option<i32>,
    },
    /// What was asked for is no longer kept; the next event is the oldest there is. Sent to one reader only.
    Gap {
        /// The id that was asked for.
        from: String,
    },
    /// A type that this build does not know.
    #[serde(untagged)]
    Unknown(Value),
}

impl EventBody {
    /// The wire name of the type.
    pub fn name(&self) -> &str {
        match self {
            Self::WorkerReady { .. } => "worker-ready",
            Self::TurnAccepted { .. } => "turn-accepted",
            Self::MessageDelta { .. } => "message-delta",
            Self::ThinkingDelta { .. } => "thinking-delta",
            Self::ToolCall { .. } => "tool-call",
            Self::ToolResult { .. } => "tool-result",
            Self::PolicyReverted { .. } => "policy-reverted",
            Self::EgressDenied { .. } => "egress-denied",
            Self::Commit { .. } => "commit",
            Self::Done { .. } => "done",
            Self::TurnComplete { .. } => "turn-complete",
            Self::TurnFailed { .. } => "turn-failed",
            Self::Queued { .. } => "queued",
            Self::WorkerExit { .. } => "worker-exit",
            Self::Gap { .. } => "gap",
            Self::Unknown(value) => value.get("type").and_then(Value::as_str).unwrap_or("unknown"),
        }
    }

    /// Whether a worker may say it; everything else is the platform's own word.
    pub fn is_workers(&self) -> bool {
        !matches!(
            self,
            Self::WorkerReady { .. }
                | Self::EgressDenied { .. }
                | Self::TurnComplete { .. }
                | Self::TurnFailed { .. }
                | Self::Queued { .. }
                | Self::WorkerExit { .. }
                | Self::Gap { .. }
        )
    }
}
