//! Removes what is left in the runtime's store.
//!
//! **Predicate, a generation's folder**: the runtime lists it as belonging to no workload that it has (what lies in it cannot
//! be read), and after that the ledger is asked and has another generation as the unit's current one, or none; and it has
//! been so for the grace. It is destroyed as a workload is, so that whatever still runs in it goes first.
//!
//! **Predicate, the trash**: what was erased longer ago than the retention, by the clock of the runtime's machine.
//!
//! **Does not touch**: workspaces and states that are not in the trash, however old; folders of workloads that the runtime
//! has, stopped or not ([`super::orphans`] ends those); anything when the runtime or the ledger cannot say.

use std::time::Duration;

use ledger::{Ledger, StrayKind};
use runtimes::RuntimeClient;

use crate::connect::chain;
use crate::periodic::{Activation, Failure};

/// In `/status`.
pub const NAME: &str = "leftovers";

/// What it works with.
#[derive(Debug, Clone)]
pub struct Leftovers {
    /// Knows which generations are current.
    pub ledger: Ledger,
    /// Has the store.
    pub runtime: RuntimeClient,
    /// How long a folder is left alone that no workload has.
    pub grace: Duration,
    /// What removing one may take.
    pub lease: Duration,
    /// How long the trash is kept.
    pub retention: Duration,
}

impl Leftovers {
    /// One look at the store; one removal at a time, since the disk does them one after the other anyway.
    ///
    /// # Errors
    /// When the runtime or the ledger cannot say; nothing was removed.
    pub async fn activate(&self) -> Result<Activation, Failure> {
        let mut activation = Activation::default();
        let found = self.runtime.leftovers().await?;
        let strays = self.ledger.strays(StrayKind::Folders, &found.folders, self.grace, self.lease).await?;
        activation.again = strays.iter().any(|s| !s.due).then_some(self.grace);
        for stray in strays.into_iter().filter(|s| s.due) {
            let removed = self.runtime.destroy(&stray.workload).await;
            count(&mut activation, &stray.workload.to_string(), removed);
        }
        for entry in found.trash.iter().filter(|e| e.age_sec >= self.retention.as_secs()) {
            let removed = self.runtime.remove_trash(&entry.id).await;
            count(&mut activation, &entry.id, removed);
        }
        Ok(activation)
    }
}

fn count(activation: &mut Activation, what: &str, removed: Result<(), runtimes::RuntimeError>) {
    activation.counts.seen += 1;
    match removed {
        Ok(()) => {
            activation.counts.done += 1;
            tracing::info!(what, "removed what was left in the store");
        }
        Err(error) => {
            activation.counts.left += 1;
            tracing::warn!(what, error = chain(&error), "what is left in the store is left for later");
        }
    }
}
