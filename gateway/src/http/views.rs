//! Units and turns as callers see them.

use contract::{Owner, Start, TurnId, UnitId, UnitName, WorkspaceAt};
use jiff::Timestamp;
use ledger::{TurnRecord, UnitRecord, UnitState};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use crate::address::shown_name;

/// A unit.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UnitView {
    /// What routes take: the short name where there is one.
    pub name: UnitName,
    /// What routes take as well; `agent-<subject>-chat-<name>` for a conversation.
    pub full_name: UnitName,
    /// Its key everywhere else.
    pub uid: UnitId,
    /// Whose it is.
    pub owner: Owner,
    /// `cold`, `starting`, `live` or `draining`.
    pub state: &'static str,
    /// Number of the present worker start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<u64>,
    /// Why it drains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// Whether it is busy: a turn is taken or waits.
    pub busy: bool,
    /// The turn that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn: Option<TurnId>,
    /// How many turns wait.
    pub waiting: u64,
    /// What a cold unit waits for: `workspace <id>`, `owner cap`, `total cap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waits_for: Option<String>,
    /// When its first turn came (RFC 3339).
    pub created_at: Option<String>,
    /// Since when it idles.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_since: Option<String>,
    /// Profile of the last start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Runner of the last start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub runner: Option<String>,
    /// Workspaces of the last start, the first is primary.
    pub workspaces: Vec<WorkspaceAt>,
    /// Failed starts in a row.
    pub failed_starts: u32,
    /// What the substrate said to the last failed start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_detail: Option<String>,
    /// Whether it is being erased.
    pub erasing: bool,
}

impl From<UnitRecord> for UnitView {
    fn from(unit: UnitRecord) -> Self {
        let reason = match unit.state {
            UnitState::Draining { reason, .. } => Some(reason.as_str()),
            _ => None,
        };
        Self {
            name: shown_name(&unit.name, &unit.owner),
            full_name: unit.name,
            uid: unit.uid,
            owner: unit.owner,
            state: unit.state.as_str(),
            generation: unit.state.generation().map(|g| g.0),
            reason,
            busy: unit.taken.is_some() || unit.waiting > 0,
            turn: unit.taken,
            waiting: unit.waiting,
            waits_for: unit.waits_for,
            created_at: time(unit.created_ms),
            idle_since: unit.idle_since_ms.and_then(time),
            profile: unit.shape.as_ref().map(|s| s.profile.clone()),
            runner: unit.shape.map(|s| s.runner),
            workspaces: unit.workspaces,
            failed_starts: unit.failed_starts,
            start_detail: unit.start_detail,
            erasing: unit.erasing,
        }
    }
}

/// A turn.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TurnView {
    /// Its id.
    pub turn_id: TurnId,
    /// Its unit, as routes take it.
    pub unit: UnitName,
    /// Its unit's key.
    pub uid: UnitId,
    /// `queued`, `running`, `completed` or `failed`.
    pub status: &'static str,
    /// What to do.
    pub prompt: String,
    /// In lists: whether `prompt`, `reply`, `output` or another text is its beginning only or left out. The turn by itself has
    /// all of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Why it fired.
    pub trigger: contract::Trigger,
    /// The conversation thread.
    pub thread: String,
    /// The attempt that runs or ran last; 0 before the first.
    pub attempt: u32,
    /// How warm its worker was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// When it was accepted (RFC 3339).
    pub submitted_at: Option<String>,
    /// When it was delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<String>,
    /// When it was settled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub settled_at: Option<String>,
    /// What it waits for: `unit busy`, `workspace <id>`, `owner cap`, `total cap`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_reason: Option<String>,
    /// How many were before it in that line when it was told so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queued_position: Option<u64>,
    /// Whether somebody cancelled it.
    pub cancelled: bool,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<String>,
    /// The structured answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// The agent CLI's session.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// What it used of a model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Value>,
    /// Its `commit` events.
    pub commits: Vec<Value>,
    /// Where its events are.
    pub events_url: String,
}

impl From<TurnRecord> for TurnView {
    fn from(turn: TurnRecord) -> Self {
        let mut done = turn.result.unwrap_or_default();
        let mut take = |field: &str| done.get_mut(field).map(Value::take).filter(|v| !v.is_null());
        let text = |value: Option<Value>| value.and_then(|v| v.as_str().map(str::to_owned));
        Self {
            unit: shown_name(&turn.unit, &turn.owner),
            status: turn.status.as_str(),
            trigger: turn.trigger,
            thread: turn.thread,
            attempt: turn.attempt,
            start: turn.start,
            submitted_at: time(turn.submitted_ms),
            taken_at: turn.taken_ms.and_then(time),
            settled_at: turn.settled_ms.and_then(time),
            queued_reason: turn.queued_reason,
            queued_position: turn.queued_position,
            cancelled: turn.cancelled,
            reason: turn.reason.map(contract::FailReason::as_str),
            detail: turn.detail.or_else(|| text(take("detail"))),
            reply: text(take("reply")),
            output: take("output"),
            session_id: text(take("sessionId")),
            usage: take("usage"),
            commits: turn.commits,
            // By uid, so that it works for whoever may see the turn.
            events_url: format!("/v1/units/{}/events?from={}", turn.uid, turn.after),
            turn_id: turn.turn,
            uid: turn.uid,
            prompt: turn.prompt,
            truncated: turn.cut,
        }
    }
}

pub(super) fn time(ms: u64) -> Option<String> {
    let at = Timestamp::from_millisecond(i64::try_from(ms).ok()?).ok()?;
    Some(at.to_string())
}
