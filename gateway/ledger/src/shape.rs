//! What is fixed at a start.

use contract::{Mode, Principal, WorkspaceAt};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What is fixed at a start. A turn of another shape needs another generation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shape {
    /// Name of the profile.
    pub profile: String,
    /// Which runner.
    pub runner: String,
    /// The workspaces and their modes, the first is primary.
    pub workspaces: Vec<WorkspaceAt>,
    /// The allow-set that is handed to the runner.
    pub tools: Vec<String>,
    /// Git author of the turns' commits.
    pub principal: Principal,
}

impl Shape {
    /// SHA-256, in hex, of its JSON. Field order is the type's, so the same shape always has the same hash.
    pub fn hash(&self) -> String {
        data_encoding::HEXLOWER.encode(&Sha256::digest(self.json()))
    }

    pub(crate) fn json(&self) -> String {
        serde_json::to_string(self).unwrap_or_else(|e| unreachable!("a shape is plain data: {e}"))
    }

    /// Ids of its workspaces, separated by spaces (no id has one): what scripts can split without JSON.
    pub(crate) fn ids(&self, writable: bool) -> String {
        let ids: Vec<_> =
            self.workspaces.iter().filter(|w| !writable || w.mode == Mode::Rw).map(|w| w.id.as_str()).collect();
        ids.join(" ")
    }
}

/// Bounds of a unit, from its profile; stored with the turn and, at a start, with the unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Milliseconds without a taken or waiting turn after which the worker is ended.
    pub idle_timeout_ms: u64,
    /// Milliseconds from the start job to the worker's claim.
    pub start_timeout_ms: u64,
    /// Milliseconds that a generation may live.
    pub max_lifetime_ms: u64,
    /// Generations that may be lost with a turn before it is dead.
    pub max_attempts: u32,
    /// Failed starts before the head turn is settled `start_failed`.
    pub max_starts: u32,
}

impl Policy {
    /// The numbers separated by spaces, in the order that `lib.lua` reads them.
    pub(crate) fn text(&self) -> String {
        format!(
            "{} {} {} {} {}",
            self.idle_timeout_ms, self.start_timeout_ms, self.max_lifetime_ms, self.max_attempts, self.max_starts
        )
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.split(' ').map(str::parse::<u64>);
        let mut next = || numbers.next()?.ok();
        Some(Self {
            idle_timeout_ms: next()?,
            start_timeout_ms: next()?,
            max_lifetime_ms: next()?,
            max_attempts: u32::try_from(next()?).ok()?,
            max_starts: u32::try_from(next()?).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_round_trip() {
        let policy = Policy {
            idle_timeout_ms: 1,
            start_timeout_ms: 2,
            max_lifetime_ms: 86_400_000,
            max_attempts: 3,
            max_starts: 5,
        };
        assert_eq!(Policy::parse(&policy.text()), Some(policy));
        assert_eq!(Policy::parse("1 2 3"), None);
    }
}
