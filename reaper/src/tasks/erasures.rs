//! Ends erasures whose caller or gateway went away in the middle.
//!
//! **Predicate**: the unit is marked as being erased, nobody has gone on with that for the bound, and the unit is Cold: its
//! last workload is confirmed gone. Its state and (unless it is to be kept) its own workspace go into the trash, and then the
//! ledger forgets its record and its streams.
//!
//! **Does not touch**: units that nobody erases, whatever their age; units that still drain; workspaces that callers named;
//! records of settled turns, which have an expiry of their own.

use std::time::Duration;

use ledger::{AbandonedErasure, Erase, Ledger};
use runtimes::RuntimeClient;

use crate::connect::chain;
use crate::periodic::{Activation, Failure};

/// In `/status`.
pub const NAME: &str = "erasures";
const MOST: usize = 50;

/// What it works with.
#[derive(Debug, Clone)]
pub struct Erasures {
    /// Has the units' records.
    pub ledger: Ledger,
    /// Has their folders.
    pub runtime: RuntimeClient,
    /// After how long an erasure is abandoned.
    pub bound: Duration,
}

impl Erasures {
    /// Goes on with what is abandoned.
    ///
    /// # Errors
    /// When the ledger cannot say; nothing was done.
    pub async fn activate(&self) -> Result<Activation, Failure> {
        let mut activation = Activation::default();
        for erasure in self.ledger.pick_erasures(self.bound, MOST).await? {
            activation.counts.seen += 1;
            match self.finish(&erasure).await {
                Ok(()) => {
                    activation.counts.done += 1;
                    tracing::info!(uid = %erasure.uid, "ended an erasure that was left in the middle");
                }
                Err(error) => {
                    activation.counts.left += 1;
                    tracing::warn!(uid = %erasure.uid, error = chain(&*error), "an erasure is left for later");
                }
            }
        }
        Ok(activation)
    }

    /// The folders first: a unit that is forgotten with its folders there would come back with them.
    async fn finish(&self, erasure: &AbandonedErasure) -> Result<(), Failure> {
        match self.ledger.erase(&erasure.uid, erasure.keep_workspace).await? {
            Erase::Begun { .. } => {}
            // A worker of another owner's still mounts its workspace.
            Erase::Draining => return Err("the unit drains".into()),
            Erase::Unknown => return Ok(()),
        }
        self.runtime.trash_state(&erasure.uid).await?;
        if !erasure.keep_workspace {
            self.runtime.trash_workspace(&erasure.uid.own_workspace()).await?;
        }
        self.ledger.forget(&erasure.uid).await?;
        Ok(())
    }
}
