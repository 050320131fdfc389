//! Tasks that have nothing to be due by: they look at everything once in a period, shared among all reapers.

use std::time::Duration;

use ledger::Ledger;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::connect::chain;
use crate::status::{Board, Counts};

/// Nudged activations are at least this far apart: many things end at once.
const NUDGES_APART: Duration = Duration::from_millis(200);

/// What an activation did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Activation {
    /// In numbers.
    pub counts: Counts,
    /// It is worth another look after this long, before the period is over.
    pub again: Option<Duration>,
}

/// Why an activation did nothing, or not all.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A task and when it is to be activated.
#[derive(Debug)]
pub struct Periodic<'a> {
    /// In `/status`; names its period in the ledger too.
    pub task: &'static str,
    /// Of all reapers together, one looks once in this time.
    pub period: Duration,
    /// Wakes it at once.
    pub nudge: &'a Notify,
}

impl Periodic<'_> {
    /// Activates it until `stop`, which cuts an activation off: every step of one may be repeated by anybody. The first one is
    /// made whoever else has looked: nobody knows how long nobody has.
    pub async fn run<F, R>(self, ledger: &Ledger, board: &Board, stop: &CancellationToken, mut activate: F)
    where
        F: FnMut() -> R,
        R: Future<Output = Result<Activation, Failure>>,
    {
        let mut due = true;
        loop {
            let began = Instant::now();
            let activation = async {
                if due || ledger.claim_period(self.task, self.period).await? {
                    activate().await.map(Some)
                } else {
                    Ok(None)
                }
            };
            let Some(activated) = stop.run_until_cancelled(activation).await else { return };
            let again = match activated {
                Ok(None) => None,
                Ok(Some(activation)) => {
                    board.activated(self.task, began.elapsed(), Ok(activation.counts));
                    activation.again
                }
                Err(error) => {
                    board.activated(self.task, began.elapsed(), Err(chain(&*error)));
                    None
                }
            };
            let waited = async {
                sleep(NUDGES_APART.min(self.period)).await;
                // A nudge, or what the task itself wants another look for, is nobody else's.
                match timeout(again.unwrap_or(self.period), self.nudge.notified()).await {
                    Ok(()) => true,
                    Err(_) => again.is_some(),
                }
            };
            let Some(wanted) = stop.run_until_cancelled(waited).await else { return };
            due = wanted;
        }
    }
}
