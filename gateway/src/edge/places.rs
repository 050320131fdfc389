//! Room for connections: so many in all, and so many from one address.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::network;

/// The bounds, and who has a connection now.
#[derive(Debug)]
pub struct Places {
    most: usize,
    most_per_address: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's, until it is dropped.
#[derive(Debug)]
pub struct Place {
    from: IpAddr,
    taken: Arc<Mutex<Taken>>,
}

impl Places {
    /// So many, and so many from one address; 0 of these for no bound.
    pub fn new(most: usize, most_per_address: usize) -> Self {
        Self { most, most_per_address, taken: Arc::default() }
    }

    /// A place for a connection from there, if there is one.
    pub fn take(&self, peer: IpAddr) -> Option<Place> {
        let from = network(peer);
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let here = taken.by_address.get(&from).copied().unwrap_or_default();
        if taken.all >= self.most || (self.most_per_address > 0 && here >= self.most_per_address) {
            return None;
        }
        taken.all += 1;
        taken.by_address.insert(from, here + 1);
        Some(Place { from, taken: self.taken.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(here) = taken.by_address.get_mut(&self.from) {
            *here -= 1;
            if *here == 0 {
                taken.by_address.remove(&self.from);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_in_all_and_by_address_and_come_back() {
        let places = Places::new(3, 2);
        let [a, same, b]: [IpAddr; 3] = ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map(|a| a.parse().unwrap());
        let first = places.take(a).unwrap();
        let _second = places.take(same).unwrap();
        assert!(places.take(a).is_none(), "one network has two");
        let other = places.take(b).unwrap();
        assert!(places.take(b).is_none(), "three in all");
        drop(first);
        let again = places.take(same).unwrap();
        drop((again, other));
        assert_eq!(places.taken.lock().unwrap().by_address.len(), 1);
        let unbounded = Places::new(3, 0);
        assert_eq!([a, a, a, a].map(|a| unbounded.take(a)).iter().flatten().count(), 3);
    }
}
