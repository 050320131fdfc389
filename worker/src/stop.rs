//! Why a turn shall end before its runner has.

use std::time::Duration;

use rustix::process::Signal;
use tokio::sync::watch;

/// Why a turn shall end early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Somebody cancelled it: told as `done` with reason `cancelled`.
    Cancelled,
    /// It took too long: told as `done` with reason `timeout`.
    Timeout,
    /// The ledger does not have it as taken any more: nothing that is said of it would be heard.
    Stale,
    /// The worker was asked to end. Nothing is recorded or told; another generation takes the turn up.
    Shutdown,
    /// The generation is over, as [`Stop::Shutdown`].
    Fenced,
}

impl Stop {
    /// Whether the worker itself ends, so that the turn is left for another generation as it is.
    pub fn ends_worker(self) -> bool {
        matches!(self, Self::Shutdown | Self::Fenced)
    }

    /// What the runner's process group is sent, one after the other, and how long each may take. KILL follows.
    pub fn signals(self) -> &'static [(Signal, Duration)] {
        const TERM: (Signal, Duration) = (Signal::TERM, Duration::from_secs(3));
        const INT: (Signal, Duration) = (Signal::INT, Duration::from_secs(2));
        if self.ends_worker() { &[TERM] } else { &[INT, TERM] }
    }
}

/// The asking end.
#[derive(Debug)]
pub struct Stopper(watch::Sender<Option<Stop>>);

/// The end that a turn has.
#[derive(Debug, Clone)]
pub struct Stops(watch::Receiver<Option<Stop>>);

/// A pair for one turn.
pub fn stopper() -> (Stopper, Stops) {
    let (sender, receiver) = watch::channel(None);
    (Stopper(sender), Stops(receiver))
}

impl Stopper {
    /// Asks. What ends the worker overrides what ends only the turn; else the first reason stays.
    pub fn stop(&self, why: Stop) {
        self.0.send_if_modified(|now| {
            let counts = now.is_none_or(|was| why.ends_worker() && !was.ends_worker());
            if counts {
                *now = Some(why);
            }
            counts
        });
    }
}

impl Stops {
    /// What was asked so far.
    pub fn asked(&self) -> Option<Stop> {
        *self.0.borrow()
    }

    /// Waits until something is asked. Never returns when nobody can ask any more.
    pub async fn wait(&mut self) -> Stop {
        match self.0.wait_for(Option::is_some).await {
            Ok(why) => why.unwrap_or(Stop::Shutdown),
            Err(_) => std::future::pending().await,
        }
    }

    /// Waits until the worker itself is asked to end.
    pub async fn wait_worker_end(&mut self) {
        if self.0.wait_for(|why| why.is_some_and(Stop::ends_worker)).await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_first_reason_stays_unless_the_worker_ends() {
        let (stopper, mut stops) = stopper();
        assert_eq!(stops.asked(), None);
        stopper.stop(Stop::Timeout);
        stopper.stop(Stop::Cancelled);
        assert_eq!(stops.wait().await, Stop::Timeout);
        stopper.stop(Stop::Shutdown);
        stopper.stop(Stop::Fenced);
        assert_eq!(stops.asked(), Some(Stop::Shutdown));
        stops.wait_worker_end().await;
    }
}
