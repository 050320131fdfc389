//! A rate with a burst.

use std::time::Duration;

use tokio::time::Instant;

/// The generic cell rate algorithm (ITU-T I.371): all that it keeps is when what was taken so far will have been paid for.
#[derive(Debug)]
pub struct Pace {
    per_sec: f64,
    burst: Duration,
    paid: Instant,
}

impl Pace {
    /// So much in a second in the long run, and `burst` times that at once.
    pub fn new(per_sec: u64, burst: Duration) -> Self {
        Self { per_sec: (per_sec as f64).max(1.0), burst, paid: Instant::now() }
    }

    /// Takes so much, and says how long the taker has to wait for it.
    pub fn take(&mut self, cost: u64) -> Duration {
        let cost = Duration::from_secs_f64((cost as f64 / self.per_sec).min(3600.0));
        let now = Instant::now();
        self.paid = self.paid.max(now) + cost;
        self.paid.duration_since(now).saturating_sub(self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_then_the_rate_holds() {
        let mut pace = Pace::new(10, Duration::from_secs(4));
        for _ in 0..40 {
            assert_eq!(pace.take(1), Duration::ZERO);
        }
        assert_eq!(pace.take(1), Duration::from_millis(100));
        assert_eq!(pace.take(1), Duration::from_millis(200));
        tokio::time::advance(Duration::from_millis(300)).await;
        assert_eq!(pace.take(1), Duration::ZERO);
    }
}
