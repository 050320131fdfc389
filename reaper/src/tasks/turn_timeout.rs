//! Ends workers whose turn takes longer than it may, when they do not end it themselves.
//!
//! **Predicate**: a turn is taken by this generation, and its timeout, counted from its delivery, has passed by more than the
//! margin that its worker has to end it itself. The script looks at the deadline again; a settlement takes it away.
//!
//! **Does not touch**: turns that wait, however long (the timeout runs from delivery, not from arrival); the turn's result:
//! the next generation is asked what came of it and runs nothing.

use ledger::{Deadline, DrainReason, Ledger, Result};

/// In `/status`.
pub const NAME: &str = "turn_timeout";

/// Begins the drain; `false` when the turn is settled meanwhile, or the generation is over or drains already.
///
/// # Errors
/// As the ledger's; nothing was changed, or the drain began.
pub async fn enforce(ledger: &Ledger, deadline: &Deadline) -> Result<bool> {
    let draining = ledger.begin_drain(&deadline.uid, deadline.generation, DrainReason::TurnTimeout, None).await?;
    if draining {
        tracing::warn!(uid = %deadline.uid, generation = %deadline.generation, "its turn takes longer than it may; ending it");
    }
    Ok(draining)
}
