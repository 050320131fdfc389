//! Ends workers that nobody needs.
//!
//! **Predicate**: the unit is Live in this generation, no turn of it is taken or waits, and the time since its last
//! settlement (or since it became ready) by Redis' clock is at least its profile's idle timeout. The script decides all of
//! it at once: what `due` listed is only a hint, and a turn that was submitted in between wins.
//!
//! **Does not touch**: units that start or drain, a turn however long it runs (a model that thinks is busy), workloads
//! themselves ([`super::drain`] ends them), units without a worker.

use ledger::{Deadline, Ledger, Result};

/// In `/status`.
pub const NAME: &str = "idle";

/// Begins the drain; `false` when the unit is no longer idle for long enough.
///
/// # Errors
/// As the ledger's; nothing was changed, or the drain began.
pub async fn enforce(ledger: &Ledger, deadline: &Deadline) -> Result<bool> {
    let draining = ledger.begin_idle_drain(&deadline.uid, deadline.generation).await?;
    if draining {
        tracing::info!(uid = %deadline.uid, generation = %deadline.generation, "idle for long enough; ending its worker");
    }
    Ok(draining)
}
