//! Gives up starts that do not become ready.
//!
//! **Predicate**: the unit is Starting in this generation and the start timeout of its profile has passed since the start
//! job was written. The script compares state and generation again.
//!
//! **Does not touch**: units that became Live in the meantime, the start job's lease (draining ends the job), what is
//! counted against the turn (the ledger's `exited` does).

use ledger::{Deadline, DrainReason, Ledger, Result};

/// In `/status`.
pub const NAME: &str = "start_timeout";

/// Begins the drain; `false` when the generation is over, drains already or is Live.
///
/// # Errors
/// As the ledger's; nothing was changed, or the drain began.
pub async fn enforce(ledger: &Ledger, deadline: &Deadline) -> Result<bool> {
    let draining = ledger.begin_drain(&deadline.uid, deadline.generation, DrainReason::StartTimedOut, None).await?;
    if draining {
        tracing::warn!(uid = %deadline.uid, generation = %deadline.generation, "did not become ready in time; ending it");
    }
    Ok(draining)
}
