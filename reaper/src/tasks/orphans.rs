//! Brings the runtime's workloads and the ledger's generations together, both ways.
//!
//! **Predicate, a workload**: the runtime lists it, and *after* that the ledger is asked and has another generation as the
//! unit's current one, or none, or no such unit; and it has been so for the grace, by Redis' clock. It is stopped and
//! destroyed. A generation that is over never becomes current again, so what is listed before it is asked for can only be
//! left alone too often.
//!
//! **Predicate, a generation**: the ledger has it as Starting or Live, and in a list that the runtime made *after* that it is
//! stopped; or it was Live (so its workload did exist) and is not in that list. It begins to drain with what the runtime
//! says of its end; [`super::drain`] does the rest.
//!
//! **Does not touch**: anything when one of the two cannot be listed; the workload of a generation that is current, draining
//! included, whatever it does or does not do; a Starting generation without a workload (its start job is leased, and
//! [`super::start_timeout`] bounds it); workspaces and states.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use contract::{StopReason, WorkloadId, WorkloadState, WorkloadStatus};
use ledger::{DrainReason, Exit, Ledger, StrayKind, Tracked};
use runtimes::{RuntimeClient, RuntimeError};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::connect::chain;
use crate::lease::{LEASE, renewed};
use crate::periodic::{Activation, Failure};

/// In `/status`.
pub const NAME: &str = "orphans";
/// A list that takes longer is none.
const LIST_LIMIT: Duration = Duration::from_secs(10);
const WATCH_ANEW: Duration = Duration::from_secs(1);

/// What it works with.
#[derive(Debug, Clone)]
pub struct Orphans {
    /// Knows which generations are current.
    pub ledger: Ledger,
    /// Knows which workloads there are.
    pub runtime: RuntimeClient,
    /// How long a workload is left alone that no unit has.
    pub grace: Duration,
    /// What ending a workload may take.
    pub bound: Duration,
    /// Places of all reaps together.
    pub places: Arc<Semaphore>,
}

impl Orphans {
    /// One look at everything.
    ///
    /// # Errors
    /// When the runtime or the ledger cannot say; nothing was ended but what both had said before.
    pub async fn activate(&self) -> Result<Activation, Failure> {
        let mut activation = Activation::default();
        // First these, then the list: what became Live after it was made is not missed in it.
        let tracked = self.ledger.tracked().await?;
        let listed = timeout(LIST_LIMIT, self.runtime.list()).await??;
        for (id, exit) in lost(&tracked, &listed) {
            activation.counts.seen += 1;
            let (reason, detail) = (drain_reason(exit.reason), exit.detail.clone());
            if self.ledger.begin_drain(&id.uid, id.generation, reason, Some(exit)).await? {
                activation.counts.done += 1;
                tracing::warn!(uid = %id.uid, generation = %id.generation, detail, "its workload has ended; ending its generation");
            }
        }
        let ids: Vec<_> = listed.into_iter().map(|status| status.workload_id).collect();
        let strays = self.ledger.strays(StrayKind::Workloads, &ids, self.grace, LEASE).await?;
        activation.again = strays.iter().any(|s| !s.due).then_some(self.grace);
        let mut reaps = JoinSet::new();
        for stray in strays.into_iter().filter(|s| s.due) {
            activation.counts.seen += 1;
            reaps.spawn(self.clone().remove(stray.workload));
        }
        while let Some(removed) = reaps.join_next().await {
            match removed? {
                true => activation.counts.done += 1,
                false => activation.counts.left += 1,
            }
        }
        Ok(activation)
    }

    /// Stops and destroys a workload that no unit has. Every step may be repeated, by anybody.
    async fn remove(self, id: WorkloadId) -> bool {
        let ending = async {
            let _place = self.places.acquire().await;
            match self.runtime.stop(&id, Some(StopReason::Stopped)).await {
                Ok(_) | Err(RuntimeError::NotFound) => {}
                Err(error) => return Err(error),
            }
            self.runtime.destroy(&id).await
        };
        let renew = || self.ledger.renew_stray(StrayKind::Workloads, &id, LEASE);
        match renewed(timeout(self.bound, ending), renew).await {
            Ok(Ok(()) | Err(RuntimeError::NotFound)) => {
                tracing::warn!(workload = %id, "no unit had this workload; it is destroyed");
                return true;
            }
            Ok(Err(error)) => tracing::warn!(workload = %id, error = chain(&error), "an orphan is left for later"),
            Err(_) => tracing::warn!(workload = %id, "an orphan took too long to end; it is left for later"),
        }
        false
    }

    /// Nudges the task when a workload ended that nobody had asked to.
    pub async fn watch(self, nudge: Arc<Notify>, stop: CancellationToken) {
        let watching = async {
            loop {
                // While the runtime is away the period looks, which says so.
                if let Ok(mut changes) = self.runtime.watch().await {
                    while let Some(status) = changes.next().await {
                        if ended_by_itself(&status) {
                            nudge.notify_one();
                        }
                    }
                }
                sleep(WATCH_ANEW).await;
            }
        };
        stop.run_until_cancelled(watching).await;
    }
}

/// The generations that need a workload and have none, with how it ended.
fn lost(tracked: &[Tracked], listed: &[WorkloadStatus]) -> Vec<(WorkloadId, Exit)> {
    let listed: HashMap<String, &WorkloadStatus> = listed.iter().map(|s| (s.workload_id.to_string(), s)).collect();
    let ended = tracked.iter().filter_map(|generation| {
        let exit = match listed.get(&generation.workload.to_string()) {
            Some(status) if status.state.is_alive() => return None,
            Some(status) => Exit {
                reason: status.stop_reason.unwrap_or(StopReason::Failed),
                exit_code: status.exit_code,
                detail: status.detail.clone(),
            },
            None if generation.live => Exit {
                reason: StopReason::Failed,
                exit_code: None,
                detail: Some("the runtime has no such workload any more".into()),
            },
            None => return None,
        };
        Some((generation.workload.clone(), exit))
    });
    ended.collect()
}

fn ended_by_itself(status: &WorkloadStatus) -> bool {
    let asked = matches!(status.stop_reason, Some(StopReason::Stopped | StopReason::IdleTimeout));
    status.state == WorkloadState::Stopped && !asked
}

fn drain_reason(reason: StopReason) -> DrainReason {
    match reason {
        StopReason::Stopped => DrainReason::Stopped,
        StopReason::IdleTimeout => DrainReason::Idle,
        StopReason::MaxLifetime => DrainReason::MaxLifetime,
        StopReason::Oom => DrainReason::Oom,
        // A worker that ends by itself while its unit needs it is a failure, whatever its status.
        StopReason::StartFailed | StopReason::Completed | StopReason::Failed => DrainReason::Failed,
    }
}
