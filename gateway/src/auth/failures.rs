//! How many bad credentials came from an address in the last minute.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const WINDOW: Duration = Duration::from_secs(60);
/// Addresses that are counted one by one; more of them share a count.
const ADDRESSES: usize = 4096;
/// Between two looks for counts that are over: each costs a pass over all of them.
const TIDY: Duration = Duration::from_secs(1);
const OTHERS: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Counts by address.
#[derive(Debug)]
pub struct Failures {
    most: u32,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    windows: HashMap<IpAddr, Window>,
    tidied: Option<Instant>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    count: u32,
}

impl Failures {
    /// So many in a minute are looked at; 0 for all.
    pub fn new(most: u32) -> Self {
        Self { most, seen: Mutex::default() }
    }

    /// Whether a bad credential from there would still be looked at.
    pub fn allow(&self, address: IpAddr) -> bool {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let windows = &seen.windows;
        let others = || windows.get(&OTHERS).filter(|_| windows.len() >= ADDRESSES);
        let window = windows.get(&network(address)).or_else(others);
        self.most == 0 || window.is_none_or(|w| w.count < self.most || w.since.elapsed() >= WINDOW)
    }

    /// One more came from there.
    pub fn count(&self, address: IpAddr) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Seen { windows, tidied } = &mut *seen;
        let mut key = network(address);
        if windows.len() >= ADDRESSES && !windows.contains_key(&key) {
            if tidied.is_none_or(|at| at.elapsed() >= TIDY) {
                windows.retain(|_, window| window.since.elapsed() < WINDOW);
                *tidied = Some(Instant::now());
            }
            if windows.len() >= ADDRESSES {
                key = OTHERS;
            }
        }
        let window = windows.entry(key).or_insert_with(|| Window { since: Instant::now(), count: 0 });
        if window.since.elapsed() >= WINDOW {
            *window = Window { since: Instant::now(), count: 0 };
        }
        window.count = window.count.saturating_add(1);
    }
}

/// What counts as one address: one customer has 2^64 of IPv6.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 1))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_has_so_many_in_a_minute() {
        let failures = Failures::new(2);
        let [a, same, b]: [IpAddr; 3] = ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map(|a| a.parse().unwrap());
        failures.count(a);
        assert!(failures.allow(same));
        failures.count(same);
        assert!(!failures.allow(a) && failures.allow(b));
        tokio::time::advance(WINDOW).await;
        assert!(failures.allow(a));
        failures.count(a);
        assert!(failures.allow(a));
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_whatever_comes() {
        let failures = Failures::new(1);
        for n in 0..20_000u32 {
            failures.count(IpAddr::from(n.to_be_bytes()));
        }
        assert!(failures.seen.lock().unwrap().windows.len() <= ADDRESSES + 1);
        // Strangers share what is left.
        assert!(!failures.allow("203.0.113.1".parse().unwrap()));
    }
}
