//! Removes from the ledger what is over its time.
//!
//! **Predicate**: prompts and events of turns that were settled `limits.detail_ttl_sec` ago, and the whole record of those that were
//! settled `limits.turn_ttl_sec` ago. Nothing of it expires by itself, since it is counted against its owner until it is gone.
//!
//! **Does not touch**: turns that are not settled, however old, and their events; units; what is in the runtime's store.

use ledger::{Ledger, Result};

/// In `/status`.
pub const NAME: &str = "age";
/// Looks of one activation; more follow at once.
pub const MOST: usize = 200;

/// How many looks there were; as many as [`MOST`] when there may be more.
///
/// # Errors
/// As the ledger's; nothing was removed, or all of one activation.
pub async fn activate(ledger: &Ledger) -> Result<usize> {
    ledger.age(MOST).await
}
