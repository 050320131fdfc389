//! A piece of work that is this reaper's for as long as it says so.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval_at};

/// How long it is this reaper's without a word. Short, so that another one soon goes on when this one is killed; what takes
/// longer is renewed meanwhile.
pub const LEASE: Duration = Duration::from_secs(2);
const RENEW_EVERY: Duration = Duration::from_millis(500);

/// Does the work, and renews its lease until it is done. A lease that is lost does not end it: it is another reaper's as well
/// then, and every step of it may be repeated by anybody.
pub async fn renewed<T, R>(work: impl Future<Output = T>, renew: impl Fn() -> R) -> T
where
    R: Future<Output = ledger::Result<bool>>,
{
    let renewing = async {
        let mut tick = interval_at(Instant::now() + RENEW_EVERY, RENEW_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            // A ledger that does not answer is asked again.
            if matches!(renew().await, Ok(false)) {
                return pending::<Infallible>().await;
            }
        }
    };
    tokio::select! {
        done = work => done,
        never = renewing => match never {},
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_renewed_until_it_is_done_or_lost() {
        let asked = Cell::new(0);
        let renew = |answers: u32| {
            let asked = &asked;
            move || {
                asked.set(asked.get() + 1);
                let held = asked.get() < answers;
                async move { Ok(held) }
            }
        };
        assert_eq!(renewed(async { 7 }, renew(99)).await, 7);
        assert_eq!(asked.get(), 0);
        renewed(sleep(LEASE * 3 - RENEW_EVERY / 2), renew(99)).await;
        assert_eq!(asked.replace(0), 11, "before each end of a lease, and not after the work");
        renewed(sleep(LEASE * 3), renew(2)).await;
        assert_eq!(asked.get(), 2);
    }
}
