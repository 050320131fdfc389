//! The session file: which conversation of the agent CLI each thread of the unit goes on with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `session.json` of a state folder.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Session {
    /// By thread name (`context.session` of a dispatch).
    #[serde(default)]
    pub threads: BTreeMap<String, ThreadSession>,
    /// What a newer program wrote beside them; kept as it is.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}

/// One thread's conversation.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ThreadSession {
    /// The runner whose session it is; another runner begins a new one.
    pub runner: String,
    /// The agent CLI's own id.
    pub session_id: String,
    /// US dollars that the session has cost so far, as the agent CLI reckons it.
    #[serde(default)]
    pub cost_usd_total: f64,
    /// What a runner keeps beside them.
    #[serde(flatten)]
    pub other: serde_json::Map<String, serde_json::Value>,
}
