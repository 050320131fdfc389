//! An owner's rates, of requests and of what large ones carry: the ledger counts for all gateways, and gives leave for some of them at a time, so that most
//! requests ask nobody.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use contract::Owner;
use ledger::{Leave, Ledger, LedgerError, Paced, Rate};
use tokio::time::Instant;

/// Leave that was not used by then is gone.
const KEPT: Duration = Duration::from_secs(1);
/// A gateway takes this part of the burst at once, so that gateways get as much as each needs.
const PART: u32 = 20;
/// Owners that are remembered.
const OWNERS: usize = 4096;

/// The bound, and what this gateway has leave for.
#[derive(Debug)]
pub struct Rates {
    paced: Paced,
    rate: Option<Rate>,
    owners: Mutex<HashMap<Owner, Local>>,
}

/// There were more requests than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Late {
    /// The rate.
    pub per_sec: u32,
    /// Until the next one may pass.
    pub wait: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Local {
    left: u32,
    until: Instant,
}

impl Rates {
    /// With no bound when it is none a second.
    pub fn new(paced: Paced, per_sec: u32, burst: u32) -> Self {
        let rate = (per_sec > 0).then_some(Rate { per_sec, burst: burst.max(1) });
        Self { paced, rate, owners: Mutex::default() }
    }

    /// Lets a request of this owner pass, or says why not yet.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn pass(&self, ledger: &Ledger, owner: &Owner) -> Result<Result<(), Late>, LedgerError> {
        let Some(rate) = self.rate else { return Ok(Ok(())) };
        let late = |wait| Late { per_sec: rate.per_sec, wait };
        if let Some(known) = self.local(owner) {
            return Ok(known.map_err(late));
        }
        let until = Instant::now() + KEPT;
        Ok(match ledger.leave(self.paced, owner, rate, (rate.burst / PART).max(1)).await? {
            Leave::For(requests) => {
                // One of them is this one's.
                if requests > 1 {
                    self.keep(owner, Local { left: requests - 1, until });
                }
                Ok(())
            }
            Leave::After(wait) => {
                self.keep(owner, Local { left: 0, until: Instant::now() + wait.min(KEPT) });
                Err(late(wait))
            }
        })
    }

    /// Lets all of so many pass if one may, or says why not yet. What is more than there was leave for holds up those that come
    /// later.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn pass_whole(
        &self,
        ledger: &Ledger,
        owner: &Owner,
        count: u32,
    ) -> Result<Result<(), Late>, LedgerError> {
        let Some(rate) = self.rate else { return Ok(Ok(())) };
        if let Err(late) = self.not_late(owner) {
            return Ok(Err(late));
        }
        Ok(match ledger.leave_whole(self.paced, owner, rate, count).await? {
            Leave::For(_) => Ok(()),
            Leave::After(wait) => {
                // Only time makes it less.
                self.keep(owner, Local { left: 0, until: Instant::now() + wait });
                Err(Late { per_sec: rate.per_sec, wait })
            }
        })
    }

    /// Whether this gateway knows already that nothing of this owner's may pass.
    ///
    /// # Errors
    /// Then, with what is known.
    pub fn not_late(&self, owner: &Owner) -> Result<(), Late> {
        let owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(local) = owners.get(owner).filter(|local| local.left == 0) else { return Ok(()) };
        let wait = local.until.saturating_duration_since(Instant::now());
        if wait.is_zero() { Ok(()) } else { Err(Late { per_sec: self.rate.map_or(0, |rate| rate.per_sec), wait }) }
    }

    /// What is known here: leave, or for how long there is none.
    fn local(&self, owner: &Owner) -> Option<Result<(), Duration>> {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        let local = owners.get_mut(owner)?;
        let rest = local.until.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            owners.remove(owner);
            return None;
        }
        match local.left {
            // Used up: the ledger is asked for more.
            1 => {
                owners.remove(owner);
                Some(Ok(()))
            }
            0 => Some(Err(rest)),
            _ => {
                local.left -= 1;
                Some(Ok(()))
            }
        }
    }

    fn keep(&self, owner: &Owner, local: Local) {
        let mut owners = self.owners.lock().unwrap_or_else(PoisonError::into_inner);
        if owners.len() >= OWNERS {
            let now = Instant::now();
            owners.retain(|_, local| local.until > now);
        }
        if owners.len() < OWNERS {
            owners.insert(owner.clone(), local);
        }
    }
}
