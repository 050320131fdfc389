//! How much one generation may say, all its connections together.
//!
//! A worker that says more than its rate is slowed: its answers come later, and nothing is lost. One that goes on like that
//! is ended. The rates are far above what an agent CLI says, so that only a flood meets them.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use contract::TurnId;
use relay::Pace;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Of its rate, what a generation may say at once.
const BURST: Duration = Duration::from_secs(4);
/// Bytes of commands that are not complete yet, of all connections, beyond what each has for itself. One event of the default
/// bound fits several times.
const BUFFERED_KIB: usize = 4096;

/// What a generation said of its current turn is over the bound; it is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Flooded;

/// One generation's share.
#[derive(Debug)]
pub(super) struct Allowance {
    limits: Rates,
    said: Mutex<Said>,
    /// In KiB.
    buffers: Arc<Semaphore>,
}

/// The bounds, from `[limits]`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Rates {
    /// Commands in a second.
    pub(super) commands: u32,
    /// Bytes in a second.
    pub(super) bytes: u64,
    /// Commands of one turn that had to wait.
    pub(super) slowed: u64,
    /// Bytes of one turn.
    pub(super) turn_bytes: u64,
}

impl From<&settings::Limits> for Rates {
    fn from(limits: &settings::Limits) -> Self {
        Self {
            commands: limits.worker_commands_per_sec,
            bytes: limits.worker_bytes_per_sec,
            slowed: limits.slowed_commands_per_turn,
            turn_bytes: limits.event_bytes_per_turn,
        }
    }
}

#[derive(Debug)]
struct Said {
    commands: Pace,
    bytes: Pace,
    slowed: u64,
    turn_bytes: u64,
    /// The turn that was given out last.
    turn: Option<TurnId>,
}

impl Allowance {
    pub(super) fn new(limits: Rates) -> Self {
        let commands = Pace::new(limits.commands.into(), BURST);
        let said = Said { commands, bytes: Pace::new(limits.bytes, BURST), slowed: 0, turn_bytes: 0, turn: None };
        Self { limits, said: Mutex::new(said), buffers: Arc::new(Semaphore::new(BUFFERED_KIB)) }
    }

    /// Counts a command of so many bytes, and says how long its answer has to wait.
    pub(super) fn spend(&self, bytes: usize) -> Result<Duration, Flooded> {
        let bytes = bytes as u64;
        // A panic elsewhere cannot leave it half changed in a way that matters.
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = said.commands.take(1);
        let wait = wait.max(said.bytes.take(bytes));
        said.slowed += u64::from(!wait.is_zero());
        said.turn_bytes = said.turn_bytes.saturating_add(bytes);
        if said.slowed > self.limits.slowed || said.turn_bytes > self.limits.turn_bytes {
            return Err(Flooded);
        }
        Ok(wait)
    }

    /// A turn is given out. Of another one, what was said of the last is forgotten; the same again, to a connection that had it
    /// not, counts as if the worker had said it: it may connect and read as often as it likes.
    pub(super) fn give(&self, turn: &TurnId, bytes: usize) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.turn.as_ref() == Some(turn) {
            // The next command waits for it.
            said.bytes.take(bytes as u64);
            said.turn_bytes = said.turn_bytes.saturating_add(bytes as u64);
        } else {
            (said.slowed, said.turn_bytes, said.turn) = (0, 0, Some(turn.clone()));
        }
    }

    /// Room for the rest of a long command; waits while others of the generation have it.
    pub(super) async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let kib = u32::try_from(bytes.div_ceil(1024).min(BUFFERED_KIB)).unwrap_or(u32::MAX);
        // The semaphore is never closed.
        self.buffers.clone().acquire_many_owned(kib).await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowance() -> Allowance {
        Allowance::new(Rates { commands: 10, bytes: 1000, slowed: 5, turn_bytes: 1 << 20 })
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_count_as_commands_do() {
        let allowance = allowance();
        assert_eq!(allowance.spend(4000), Ok(Duration::ZERO));
        assert_eq!(allowance.spend(500), Ok(Duration::from_millis(500)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slowed_for_too_long_is_ended_and_another_turn_begins_anew() {
        let allowance = allowance();
        let slowed =
            |n| (0..n).map(|_| allowance.spend(1)).filter(|spent| matches!(spent, Ok(wait) if !wait.is_zero())).count();
        assert_eq!(slowed(45), 5);
        assert_eq!(allowance.spend(1), Err(Flooded));
        allowance.give(&TurnId::new(1, 1), 0);
        assert!(allowance.spend(1).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_has_so_many_bytes_however_slowly_it_says_them() {
        let allowance = Allowance::new(Rates { commands: 10, bytes: 1 << 30, slowed: 5, turn_bytes: 1000 });
        assert_eq!(allowance.spend(1000), Ok(Duration::ZERO));
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(allowance.spend(1), Err(Flooded));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_is_given_again_counts_and_forgets_nothing() {
        let allowance = Allowance::new(Rates { commands: 10, bytes: 1000, slowed: 50, turn_bytes: 10_000 });
        let turn = TurnId::new(1, 1);
        allowance.give(&turn, 4000);
        assert_eq!(allowance.spend(10), Ok(Duration::ZERO), "the first time is free");
        allowance.give(&turn, 4500);
        assert!(allowance.spend(10).is_ok_and(|wait| wait > Duration::from_millis(500)));
        allowance.give(&turn, 6000);
        assert_eq!(allowance.spend(10), Err(Flooded));
        allowance.give(&TurnId::new(1, 2), 4000);
        assert!(allowance.spend(10).is_ok());
    }
}
