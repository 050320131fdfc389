//! Ends workers that do not answer a cancel.
//!
//! **Predicate**: a taken turn of this generation was flagged as cancelled, and the ledger's bound for an answer has passed
//! without its settlement; a settlement takes the deadline away.
//!
//! **Does not touch**: turns that wait (their cancel settles them at once), the cancelled turn itself (the next generation
//! is asked what came of it).

use ledger::{Deadline, DrainReason, Ledger, Result};

/// In `/status`.
pub const NAME: &str = "cancel";

/// Begins the drain; `false` when the generation is over or drains already.
///
/// # Errors
/// As the ledger's; nothing was changed, or the drain began.
pub async fn enforce(ledger: &Ledger, deadline: &Deadline) -> Result<bool> {
    let draining = ledger.begin_drain(&deadline.uid, deadline.generation, DrainReason::Unresponsive, None).await?;
    if draining {
        tracing::warn!(uid = %deadline.uid, generation = %deadline.generation, "did not answer a cancel; ending it");
    }
    Ok(draining)
}
