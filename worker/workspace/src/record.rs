//! The record: the file that says, once and for ever, that a turn ran and what came of it.

use contract::TurnId;
use serde::{Deserialize, Serialize};

use crate::PreparedCommit;

/// How a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It ran to its end; its commits count.
    Completed,
    /// It failed. No commits.
    Failed,
    /// It was cancelled. No commits.
    Cancelled,
}

/// What came of the last turn. One per state folder: the next turn's replaces it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The turn.
    pub turn: TurnId,
    /// How it ended.
    pub outcome: Outcome,
    /// The `done` event without its `type`.
    pub result: serde_json::Value,
    /// The commits that its branches shall move to, secondaries first.
    #[serde(default)]
    pub commits: Vec<PreparedCommit>,
    /// What else was said of the turn before `done`, to be said again with it (e.g. `policy-reverted`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<serde_json::Value>,
}
