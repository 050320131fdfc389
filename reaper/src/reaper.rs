//! The loop: woken by a period and by drain jobs, it activates what deadlines and drain jobs are for. Beside it run the tasks
//! that look at everything, each on its own, so that a list that takes long delays no drain.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use ledger::{DeadlineKind, Ledger};
use runtimes::RuntimeClient;
use settings::Settings;
use tokio::sync::{Notify, Semaphore};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::connect::{self, chain};
use crate::periodic::Periodic;
use crate::status::{Board, Counts};
use crate::tasks::drain::Drains;
use crate::tasks::erasures::Erasures;
use crate::tasks::leftovers::Leftovers;
use crate::tasks::orphans::Orphans;
use crate::tasks::{
    age, cancel, erasures, idle, leases, leftovers, lifetime, orphans, places, start_timeout, turn_timeout,
};

/// Most deadlines of one look; what is left is looked at in the next, which follows at once.
const MOST_DEADLINES: usize = 500;
/// A nudge is waited for at most this long; the loop's own period does not depend on it.
const NUDGE_WAIT: Duration = Duration::from_secs(5);
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// Enforces deadlines and ends workloads.
#[derive(Debug)]
pub struct Reaper {
    ledger: Ledger,
    drains: Drains,
    orphans: Orphans,
    leftovers: Leftovers,
    erasures: Erasures,
    list_period: Duration,
    leftovers_period: Duration,
    board: Board,
    period: Duration,
    wake: Arc<Notify>,
    /// Whether the last look at the ledger failed; each change is said once.
    blind: bool,
}

impl Reaper {
    /// Connects, as often as it takes; none when `stop` came first.
    ///
    /// # Errors
    /// When the settings cannot work.
    pub async fn connect(settings: &Settings, board: Board, stop: &CancellationToken) -> anyhow::Result<Option<Self>> {
        let runtime = connect::runtime(settings).await?;
        let ledger = stop.run_until_cancelled(Ledger::open(settings)).await.transpose().context("open the ledger")?;
        Ok(ledger.map(|ledger| Self::new(settings, ledger, runtime, board)))
    }

    /// With these.
    pub fn new(settings: &Settings, ledger: Ledger, runtime: RuntimeClient, board: Board) -> Self {
        let wake = Arc::new(Notify::new());
        let grace = Duration::from_secs(settings.runtime.stop_grace_sec);
        let own = &settings.reaper;
        let places = Arc::new(Semaphore::new(own.most_at_once.clamp(1, 1000)));
        let drains = Drains::new(ledger.clone(), runtime.clone(), grace, places.clone(), board.clone(), wake.clone());
        let (bound, grace) = (drains.bound(), Duration::from_millis(own.orphan_grace_ms));
        let leftovers_period = Duration::from_secs(own.leftovers_period_sec.max(1));
        Self {
            orphans: Orphans { ledger: ledger.clone(), runtime: runtime.clone(), grace, bound, places },
            leftovers: Leftovers {
                ledger: ledger.clone(),
                runtime: runtime.clone(),
                grace,
                lease: bound,
                retention: Duration::from_secs(own.trash_retention_sec),
            },
            erasures: Erasures { ledger: ledger.clone(), runtime, bound: leftovers_period },
            list_period: Duration::from_millis(own.list_period_ms.max(1)),
            leftovers_period,
            period: Duration::from_millis(own.period_ms.max(1)),
            ledger,
            drains,
            board,
            wake,
            blind: false,
        }
    }

    /// Works until `stop`; then what is being ended is ended, within a bound, and nothing more is begun.
    pub async fn run(mut self, stop: CancellationToken) {
        let nudged = self.listen(stop.clone());
        let mut beside = self.look_at_everything(&stop);
        while !stop.is_cancelled() {
            let more = self.activate().await;
            if more {
                continue;
            }
            tokio::select! {
                () = stop.cancelled() => {}
                () = self.wake.notified() => {}
                () = tokio::time::sleep(self.period) => {}
            }
        }
        self.drains.finish().await;
        while let Some(ended) = beside.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a periodic task ended badly");
            }
        }
        if let Err(error) = nudged.await {
            tracing::error!(%error, "the task that listens for drain jobs ended badly");
        }
    }

    /// Begins the tasks that look at everything.
    fn look_at_everything(&self, stop: &CancellationToken) -> JoinSet<()> {
        let mut tasks = JoinSet::new();
        let nudge = Arc::new(Notify::new());
        tasks.spawn(self.orphans.clone().watch(nudge.clone(), stop.clone()));
        let (ledger, board, stopped) = (self.ledger.clone(), self.board.clone(), stop.clone());
        let (orphans, period) = (self.orphans.clone(), self.list_period);
        tasks.spawn(async move {
            let task = Periodic { task: orphans::NAME, period, nudge: &nudge };
            task.run(&ledger, &board, &stopped, || orphans.activate()).await;
        });
        let (ledger, board, stopped) = (self.ledger.clone(), self.board.clone(), stop.clone());
        tasks.spawn(async move {
            let task = Periodic { task: leases::NAME, period, nudge: &Notify::new() };
            task.run(&ledger, &board, &stopped, || leases::activate(&ledger)).await;
        });
        let (ledger, board, stopped) = (self.ledger.clone(), self.board.clone(), stop.clone());
        tasks.spawn(async move {
            let task = Periodic { task: places::NAME, period, nudge: &Notify::new() };
            task.run(&ledger, &board, &stopped, || places::activate(&ledger)).await;
        });
        let (ledger, board, stopped) = (self.ledger.clone(), self.board.clone(), stop.clone());
        let (leftovers, period) = (self.leftovers.clone(), self.leftovers_period);
        tasks.spawn(async move {
            let task = Periodic { task: leftovers::NAME, period, nudge: &Notify::new() };
            task.run(&ledger, &board, &stopped, || leftovers.activate()).await;
        });
        let (ledger, board, stopped) = (self.ledger.clone(), self.board.clone(), stop.clone());
        let erasures = self.erasures.clone();
        tasks.spawn(async move {
            let task = Periodic { task: erasures::NAME, period, nudge: &Notify::new() };
            task.run(&ledger, &board, &stopped, || erasures.activate()).await;
        });
        tasks
    }

    /// Wakes the loop when a drain job is written.
    fn listen(&self, stop: CancellationToken) -> JoinHandle<()> {
        let (ledger, wake) = (self.ledger.clone(), self.wake.clone());
        tokio::spawn(async move {
            let mut nudges = ledger.drain_nudges();
            loop {
                let nudged = tokio::select! {
                    () = stop.cancelled() => return,
                    nudged = nudges.wait(NUDGE_WAIT) => nudged,
                };
                match nudged {
                    Ok(true) => wake.notify_one(),
                    Ok(false) => {}
                    // The period still wakes the loop, which says that the ledger is gone.
                    Err(_) => tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(AFTER_FAILURE) => {}
                    },
                }
            }
        })
    }

    /// Removes what is over its time. `true` when there may be more.
    async fn age(&self) -> bool {
        let began = Instant::now();
        let (result, more) = match age::activate(&self.ledger).await {
            Ok(looks) => {
                (Ok(Counts { seen: looks as u64, done: looks as u64, ..Counts::default() }), looks == age::MOST)
            }
            Err(error) => (Err(chain(&error)), false),
        };
        self.board.activated(age::NAME, began.elapsed(), result);
        more
    }

    /// One look at everything. A listing that failed does nothing. `true` when there is more to look at now.
    async fn activate(&mut self) -> bool {
        let due = match self.ledger.due(MOST_DEADLINES).await {
            Ok(due) => due,
            Err(error) => {
                let why = chain(&error);
                if !std::mem::replace(&mut self.blind, true) {
                    tracing::warn!(error = why, "the ledger does not answer; nothing is ended until it does");
                }
                for task in [idle::NAME, start_timeout::NAME, turn_timeout::NAME, lifetime::NAME, cancel::NAME] {
                    self.board.activated(task, Duration::ZERO, Err(why.clone()));
                }
                return false;
            }
        };
        if std::mem::take(&mut self.blind) {
            tracing::info!("the ledger answers again");
        }
        let mut progress = 0;
        for (kind, name) in [
            (DeadlineKind::Idle, idle::NAME),
            (DeadlineKind::Start, start_timeout::NAME),
            (DeadlineKind::Turn, turn_timeout::NAME),
            (DeadlineKind::Lifetime, lifetime::NAME),
            (DeadlineKind::Cancel, cancel::NAME),
        ] {
            let began = Instant::now();
            let mut counts = Counts::default();
            for deadline in due.iter().filter(|d| d.kind == kind) {
                counts.seen += 1;
                let ended = match kind {
                    DeadlineKind::Idle => idle::enforce(&self.ledger, deadline).await,
                    DeadlineKind::Start => start_timeout::enforce(&self.ledger, deadline).await,
                    DeadlineKind::Turn => turn_timeout::enforce(&self.ledger, deadline).await,
                    DeadlineKind::Lifetime => lifetime::enforce(&self.ledger, deadline).await,
                    DeadlineKind::Cancel => cancel::enforce(&self.ledger, deadline).await,
                };
                match ended {
                    Ok(done) => counts.done += u64::from(done),
                    Err(error) => {
                        counts.left += 1;
                        tracing::warn!(uid = %deadline.uid, generation = %deadline.generation, task = name, error = chain(&error), "left for the next look");
                    }
                }
            }
            progress += counts.seen - counts.left;
            self.board.activated(name, began.elapsed(), Ok(counts));
        }
        self.drains.activate().await;
        (due.len() == MOST_DEADLINES && progress > 0) | self.age().await | self.go_on().await
    }

    /// Lines for workspaces and for room that a script left before it was through with them. `true` when there are more.
    async fn go_on(&self) -> bool {
        self.ledger.go_on().await.unwrap_or_else(|error| {
            tracing::warn!(error = chain(&error), "lines are left for the next look");
            false
        })
    }
}
