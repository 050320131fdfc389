//! Claims of the dispatch token (EdDSA, one per generation).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::id::{Generation, Owner, UnitId};
use crate::unit::{Launcher, WorkspaceAt};

/// `aud` of every dispatch token.
pub const DISPATCH_AUDIENCE: &str = "rekindle-worker";

/// What a dispatch token says. A check of the signature is always followed by asking the ledger whether `generation` is
/// still the unit's current one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DispatchClaims {
    /// The owner.
    pub sub: Owner,
    /// What fired the generation's first turn.
    pub launcher: Launcher,
    /// The unit.
    pub unit: UnitId,
    /// Its generation.
    pub generation: Generation,
    /// What it may mount.
    pub workspaces: Vec<WorkspaceAt>,
    /// What it may do; `worker`.
    pub scope: String,
    /// [`DISPATCH_AUDIENCE`].
    pub aud: String,
    /// Seconds since the epoch: the end of the generation's longest life.
    pub exp: u64,
}
