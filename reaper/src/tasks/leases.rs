//! Moves lines for workspaces that nobody else moves.
//!
//! **Predicate**: somebody stands in line for a workspace, and its holder is Cold with nothing waiting, or no unit any more
//! (its lease was lost with older data): the lease is given to the first in line. Or its holder is Live, has no turn and
//! nothing waits in it: it begins to drain for the first in line.
//!
//! **Does not touch**: holders that have a turn or are about to, leases that nobody waits for (they bind nobody), the order
//! of the line.

use ledger::Ledger;

use crate::periodic::{Activation, Failure};

/// In `/status`.
pub const NAME: &str = "leases";
/// Lines of one look; another look draws others.
const MOST: usize = 200;

/// One look at the lines.
///
/// # Errors
/// As the ledger's; nothing was changed, or the lines moved.
pub async fn activate(ledger: &Ledger) -> Result<Activation, Failure> {
    let mut activation = Activation::default();
    for moved in ledger.tend_lines(MOST).await? {
        activation.counts.seen += 1;
        activation.counts.done += 1;
        tracing::warn!(workspace = %moved.workspace, uid = %moved.uid, "a line for a workspace stood still; it moves on");
    }
    Ok(activation)
}
