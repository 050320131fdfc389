//! Takes places from units that do not use them.
//!
//! **Predicate**: a unit counts among those that have a workload, of its owner or in all, and is Cold or no unit at all. Its
//! place goes to who stands in line for one. No transition leaves such a place; data that was restored or mended may.
//!
//! **Does not touch**: the place of its owner's that a Cold unit keeps while it stands in line for one of all; units that are
//! Starting, Live or Draining; what those count for.

use ledger::Ledger;

use crate::periodic::{Activation, Failure};

/// In `/status`.
pub const NAME: &str = "places";
/// Places of one look, of all and of each owner that is drawn; another look draws others.
const MOST: usize = 200;

/// One look at the places.
///
/// # Errors
/// As the ledger's; nothing was changed, or the places were given on.
pub async fn activate(ledger: &Ledger) -> Result<Activation, Failure> {
    let mut activation = Activation::default();
    for vacated in ledger.tend_places(MOST).await? {
        activation.counts.seen += 1;
        activation.counts.done += 1;
        tracing::warn!(uid = %vacated.uid, of = vacated.of, "a unit without a workload had a place; it has none any more");
    }
    Ok(activation)
}
