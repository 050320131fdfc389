//! Ends the workloads of generations that drain, and says so to the ledger.
//!
//! **Predicate**: the ledger has a drain job for (unit, generation), so the unit is Draining in it, and nobody holds the
//! job's lease. The job is done only when the runtime confirms that nothing of the workload exists: its `destroy`
//! succeeded. `destroy` is called for a workload that the runtime does not know as well, so that a start of it that is
//! still under way is refused from then on. No timeout stands in for that confirmation: while the runtime cannot say, the
//! unit stays Draining and the job is picked again after its lease, which is short and renewed while the workload is being
//! ended: what a killed reaper had begun is soon another one's.
//!
//! **Does not touch**: generations that do not drain, whatever the runtime says of them; workspaces and states; turns.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use contract::{Generation, StopReason, UnitId, WorkloadId, WorkloadStatus};
use ledger::{DrainJob, Exit, Ledger, LedgerError};
use runtimes::{RuntimeClient, RuntimeError};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use crate::connect::chain;
use crate::lease::{LEASE, renewed};
use crate::status::{Board, Counts};

/// In `/status`.
pub const NAME: &str = "drain";
/// What a reap may take besides the grace period between TERM and KILL.
const BESIDES_GRACE: Duration = Duration::from_secs(5);

/// Why a reap was left for later.
#[derive(Debug, thiserror::Error)]
enum Left {
    #[error("the runtime could not")]
    Runtime(#[from] RuntimeError),
    #[error("the ledger could not")]
    Ledger(#[from] LedgerError),
    #[error("it took longer than it may")]
    TooLong,
}

/// The reaps under way.
#[derive(Debug)]
pub struct Drains {
    ledger: Ledger,
    runtime: RuntimeClient,
    bound: Duration,
    places: Arc<Semaphore>,
    board: Board,
    wake: Arc<Notify>,
    reaps: JoinSet<(UnitId, Generation, Result<(), Left>)>,
    under_way: HashSet<(UnitId, Generation)>,
}

impl Drains {
    /// None under way. `places` are those of all reaps together; `wake` is notified when one is free again.
    pub fn new(
        ledger: Ledger,
        runtime: RuntimeClient,
        grace: Duration,
        places: Arc<Semaphore>,
        board: Board,
        wake: Arc<Notify>,
    ) -> Self {
        let bound = grace + BESIDES_GRACE;
        let (reaps, under_way) = (JoinSet::new(), HashSet::new());
        Self { ledger, runtime, bound, places, board, wake, reaps, under_way }
    }

    /// What a reap may take.
    pub fn bound(&self) -> Duration {
        self.bound
    }

    /// Collects what ended and picks as many jobs as there are places.
    pub async fn activate(&mut self) {
        let began = Instant::now();
        let mut counts = Counts::default();
        while let Some(ended) = self.reaps.try_join_next() {
            self.ended(ended, &mut counts);
        }
        // Had before a job is picked: one that is picked and cannot begin would wait for the end of its lease.
        let places: Vec<_> = std::iter::from_fn(|| self.places.clone().try_acquire_owned().ok()).collect();
        let picked = match places.len() {
            0 => Ok(Vec::new()),
            free => self.ledger.pick_drains(LEASE, free).await,
        };
        match picked {
            Ok(jobs) => {
                for (job, place) in jobs.into_iter().zip(places) {
                    counts.seen += 1;
                    self.begin(job, place);
                }
                self.board.activated(NAME, began.elapsed(), Ok(counts));
            }
            Err(error) => self.board.activated(NAME, began.elapsed(), Err(chain(&error))),
        }
    }

    fn begin(&mut self, job: DrainJob, place: OwnedSemaphorePermit) {
        let key = (job.uid.clone(), job.generation);
        // Its lease ran out while it is still being ended here: the ledger was away, or this process was stopped for a while.
        if !self.under_way.insert(key) {
            return;
        }
        let (ledger, runtime, bound, wake) = (self.ledger.clone(), self.runtime.clone(), self.bound, self.wake.clone());
        self.reaps.spawn(async move {
            let reaping = timeout(bound, reap(&ledger, &runtime, &job));
            let reaped = renewed(reaping, || ledger.renew_drain(&job.uid, job.generation, LEASE)).await;
            let reaped = reaped.unwrap_or(Err(Left::TooLong));
            drop(place);
            wake.notify_one();
            (job.uid, job.generation, reaped)
        });
    }

    fn ended(
        &mut self,
        ended: Result<(UnitId, Generation, Result<(), Left>), tokio::task::JoinError>,
        counts: &mut Counts,
    ) {
        match ended {
            Ok((uid, generation, reaped)) => {
                match reaped {
                    Ok(()) => counts.done += 1,
                    Err(left) => {
                        counts.left += 1;
                        tracing::warn!(%uid, %generation, error = chain(&left), "its workload is not confirmed gone; tried again after the lease");
                    }
                }
                self.under_way.remove(&(uid, generation));
            }
            Err(error) => {
                tracing::error!(%error, "a reap ended badly");
                counts.left += 1;
                // Which one is unknown; a second attempt at the others does no harm.
                self.under_way.clear();
            }
        }
    }

    /// Waits for the reaps under way, for as long as one may take; what is not done then is another reaper's.
    pub async fn finish(mut self) {
        let until = Instant::now() + self.bound;
        let mut counts = Counts::default();
        while let Ok(Some(ended)) = timeout_at(until, self.reaps.join_next()).await {
            self.ended(ended, &mut counts);
        }
        self.reaps.shutdown().await;
    }
}

/// Ends one workload. Every step may be repeated, by anybody.
async fn reap(ledger: &Ledger, runtime: &RuntimeClient, job: &DrainJob) -> Result<(), Left> {
    let id = WorkloadId { uid: job.uid.clone(), generation: job.generation };
    // Answers when the workload is stopped.
    let status = match runtime.stop(&id, Some(job.reason)).await {
        Ok(status) => Some(status),
        Err(RuntimeError::NotFound) => None,
        Err(error) => return Err(error.into()),
    };
    match runtime.destroy(&id).await {
        Ok(()) | Err(RuntimeError::NotFound) => {}
        Err(error) => return Err(error.into()),
    }
    let exit = exit(job.reason, status);
    let (reason, exit_code) = (exit.reason.as_str(), exit.exit_code);
    if ledger.exited(&job.uid, job.generation, exit).await? {
        tracing::info!(uid = %job.uid, generation = %job.generation, reason, exit_code, "its workload is gone");
    }
    Ok(())
}

/// The runtime saw how it ended; where it did not, what was asked for stands.
fn exit(asked: StopReason, status: Option<WorkloadStatus>) -> Exit {
    match status {
        None => Exit { reason: asked, exit_code: None, detail: None },
        Some(status) => {
            Exit { reason: status.stop_reason.unwrap_or(asked), exit_code: status.exit_code, detail: status.detail }
        }
    }
}
