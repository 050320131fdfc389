//! Ends generations that lived for as long as they may.
//!
//! **Predicate**: the unit is Starting or Live in this generation and the maximum lifetime of its profile has passed since
//! the generation began, whether it is busy or not: the dispatch token ends then too.
//!
//! **Does not touch**: other generations of the unit; the turn that runs (the ledger gives it to the next generation and
//! counts an attempt).

use ledger::{Deadline, DrainReason, Ledger, Result};

/// In `/status`.
pub const NAME: &str = "lifetime";

/// Begins the drain; `false` when the generation is over or drains already.
///
/// # Errors
/// As the ledger's; nothing was changed, or the drain began.
pub async fn enforce(ledger: &Ledger, deadline: &Deadline) -> Result<bool> {
    let draining = ledger.begin_drain(&deadline.uid, deadline.generation, DrainReason::MaxLifetime, None).await?;
    if draining {
        tracing::info!(uid = %deadline.uid, generation = %deadline.generation, "lived for as long as it may; ending it");
    }
    Ok(draining)
}
