//! The registry of this gateway's worker connections.
//!
//! A *link* is (gateway, connection number); the ledger keeps which one a generation reads on. What a script gives to a
//! link is put into that connection's queue here and waits for its pending or next read. Nothing depends on it: a turn that
//! never reaches a read is held and unseen, and the ledger gives it again to the next `take`.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use contract::{Generation, TurnId, TurnMessage, UnitId};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::allowance::{Allowance, Rates};
use super::preamble::Kind;

/// Connections that one generation may have here at once.
pub const CONNECTIONS_PER_GENERATION: usize = 64;

/// What may wait for one connection's read: a turn and its cancel, and some room for what arrives twice.
const QUEUE: usize = 16;

/// What a read is given.
#[derive(Debug, Clone, PartialEq)]
pub enum Control {
    /// A turn.
    Turn(Box<TurnMessage>),
    /// End the named turn.
    Cancel(TurnId),
    /// End the worker when idle.
    Stop,
}

/// All worker connections of this gateway. Clones share one registry.
#[derive(Debug, Clone)]
pub struct Links(Arc<Registry>);

#[derive(Debug)]
struct Registry {
    next: AtomicU64,
    relink: watch::Sender<()>,
    rates: Rates,
    generations: Mutex<HashMap<(UnitId, Generation), Members>>,
}

#[derive(Debug)]
struct Members {
    allowance: Arc<Allowance>,
    seats: HashMap<u64, Member>,
    /// The connection that read last.
    reader: Option<u64>,
}

#[derive(Debug)]
struct Member {
    kind: Kind,
    queue: VecDeque<Control>,
    bell: Arc<Notify>,
    over: CancellationToken,
}

impl Default for Links {
    fn default() -> Self {
        Self::new(&settings::Limits::default())
    }
}

impl Links {
    /// An empty registry, for generations that may say as much as `limits` has it.
    ///
    /// Numbers begin at random, so that one of a gateway that was restarted, or of another, is never taken for one of
    /// ours. They stay below 2^53: Lua keeps them as doubles.
    pub fn new(limits: &settings::Limits) -> Self {
        let first = u64::from(rand::random::<u32>()) << 20;
        let next = AtomicU64::new(first + 1);
        let (relink, rates) = (watch::Sender::new(()), Rates::from(limits));
        Self(Arc::new(Registry { next, relink, rates, generations: Mutex::default() }))
    }

    /// Hands a turn to the pending or next read of the connection that it was given to. Dropped when that is gone.
    pub fn deliver(&self, delivery: ledger::Delivery) {
        let given = Control::Turn(Box::new(delivery.turn));
        let connection = Some(delivery.link.connection);
        self.queue(&delivery.uid, delivery.generation, connection, given);
    }

    /// Hands a cancel to the pending or next read of this connection.
    pub fn cancel(&self, uid: &UnitId, generation: Generation, connection: u64, turn: TurnId) {
        self.queue(uid, generation, Some(connection), Control::Cancel(turn));
    }

    /// Hands a cancel to whichever connection the generation reads on here.
    pub fn cancel_reader(&self, uid: &UnitId, generation: Generation, turn: TurnId) {
        self.queue(uid, generation, None, Control::Cancel(turn));
    }

    /// Asks the worker to end when idle, on whichever connection it reads here.
    pub fn stop(&self, uid: &UnitId, generation: Generation) {
        self.queue(uid, generation, None, Control::Stop);
    }

    /// Mail may have been lost: every read that waits asks the ledger anew.
    pub fn relink(&self) {
        self.0.relink.send_replace(());
    }

    /// Ends all connections of a generation that is over, open streams included.
    pub fn close_generation(&self, uid: &UnitId, generation: Generation) {
        let members = self.lock();
        if let Some(members) = members.get(&(uid.clone(), generation)) {
            for member in members.seats.values() {
                member.over.cancel();
            }
        }
    }

    /// Ends what no turn needs of a generation that drains: its connections to models and other hosts. The one on which it
    /// is told to end stays until its worker has ended.
    pub fn close_http(&self, uid: &UnitId, generation: Generation) {
        let members = self.lock();
        if let Some(members) = members.get(&(uid.clone(), generation)) {
            for member in members.seats.values().filter(|member| member.kind == Kind::Http) {
                member.over.cancel();
            }
        }
    }

    /// A generation is over: its connections end, and what it said is forgotten when the last has.
    pub(super) fn forget(&self, uid: &UnitId, generation: Generation) {
        self.close_generation(uid, generation);
        let mut generations = self.lock();
        let key = (uid.clone(), generation);
        if generations.get(&key).is_some_and(|members| members.seats.is_empty()) {
            generations.remove(&key);
        }
    }

    /// The generations that have connections here, or had some and are not known to be over: who connects anew has said what
    /// it said.
    pub fn generations(&self) -> Vec<(UnitId, Generation)> {
        self.lock().keys().cloned().collect()
    }

    /// Connections that are open now.
    pub fn open_connections(&self) -> usize {
        self.lock().values().map(|m| m.seats.len()).sum()
    }

    /// Takes a seat for a new connection; `None` when the generation has too many.
    pub(super) fn open(&self, uid: &UnitId, generation: Generation, kind: Kind) -> Option<Seat> {
        let mut generations = self.lock();
        let members = generations.entry((uid.clone(), generation)).or_insert_with(|| Members {
            allowance: Arc::new(Allowance::new(self.0.rates)),
            seats: HashMap::new(),
            reader: None,
        });
        if members.seats.len() >= CONNECTIONS_PER_GENERATION {
            return None;
        }
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (bell, over) = (Arc::new(Notify::new()), CancellationToken::new());
        let member = Member { kind, queue: VecDeque::new(), bell, over };
        let seat = Seat {
            links: self.clone(),
            uid: uid.clone(),
            generation,
            number,
            bell: member.bell.clone(),
            over: member.over.clone(),
            relink: self.0.relink.subscribe(),
            allowance: members.allowance.clone(),
        };
        members.seats.insert(number, member);
        Some(seat)
    }

    fn queue(&self, uid: &UnitId, generation: Generation, connection: Option<u64>, control: Control) {
        let mut generations = self.lock();
        let Some(members) = generations.get_mut(&(uid.clone(), generation)) else {
            return;
        };
        let Some(member) = connection.or(members.reader).and_then(|number| members.seats.get_mut(&number)) else {
            return;
        };
        if member.queue.len() < QUEUE && !member.queue.contains(&control) {
            member.queue.push_back(control);
        }
        member.bell.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(UnitId, Generation), Members>> {
        // A panic elsewhere cannot leave the map half changed: every change is one call.
        self.0.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One open connection's place in the registry; dropping it gives the place up.
#[derive(Debug)]
pub(crate) struct Seat {
    links: Links,
    uid: UnitId,
    generation: Generation,
    number: u64,
    bell: Arc<Notify>,
    over: CancellationToken,
    relink: watch::Receiver<()>,
    allowance: Arc<Allowance>,
}

impl Seat {
    /// The connection's number.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Cancelled when the generation is over.
    pub(crate) fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// What the generation may say.
    pub(super) fn allowance(&self) -> &Allowance {
        &self.allowance
    }

    /// From now on this is the generation's reading connection.
    pub(crate) fn reads(&self) {
        if let Some(members) = self.links.lock().get_mut(&(self.uid.clone(), self.generation)) {
            members.reader = Some(self.number);
        }
    }

    /// The oldest that waits for this connection's read.
    pub(crate) fn pop(&self) -> Option<Control> {
        let mut generations = self.links.lock();
        let members = generations.get_mut(&(self.uid.clone(), self.generation))?;
        members.seats.get_mut(&self.number)?.queue.pop_front()
    }

    /// Resolves when something was queued since the last call; may resolve for nothing.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }

    /// A receiver that changes with every [`Links::relink`] from now on.
    pub(crate) fn relinked(&self) -> watch::Receiver<()> {
        let mut relink = self.relink.clone();
        relink.mark_unchanged();
        relink
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut generations = self.links.lock();
        let key = (self.uid.clone(), self.generation);
        if let Some(members) = generations.get_mut(&key) {
            members.seats.remove(&self.number);
            if members.reader == Some(self.number) {
                members.reader = None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker_port::testing;

    const GENERATION: Generation = Generation(3);

    #[test]
    fn a_relink_reaches_who_waits_and_not_who_comes_later() {
        let links = Links::default();
        let seat = links.open(&testing::uid("relink"), GENERATION, Kind::Redis).unwrap();
        let before = seat.relinked();
        links.relink();
        assert!(before.has_changed().unwrap());
        assert!(!seat.relinked().has_changed().unwrap());
    }

    #[test]
    fn controls_wait_in_order_for_their_connection_and_are_queued_once() {
        let links = Links::default();
        let uid = testing::uid("links");
        let (a, b) =
            (links.open(&uid, GENERATION, Kind::Redis).unwrap(), links.open(&uid, GENERATION, Kind::Redis).unwrap());
        let turn = testing::turn_id(1);
        links.cancel_reader(&uid, GENERATION, turn.clone());
        assert_eq!(b.pop(), None, "nobody reads yet");
        b.reads();
        for _ in 0..3 {
            links.cancel_reader(&uid, GENERATION, turn.clone());
        }
        links.stop(&uid, GENERATION);
        links.cancel(&uid, Generation(4), b.number(), turn.clone());
        assert_eq!(a.pop(), None);
        assert_eq!(b.pop(), Some(Control::Cancel(turn)));
        assert_eq!(b.pop(), Some(Control::Stop));
        assert_eq!(b.pop(), None);
    }

    #[test]
    fn seats_are_bounded_and_given_back() {
        let links = Links::default();
        let uid = testing::uid("links");
        let mut seats: Vec<_> =
            (0..CONNECTIONS_PER_GENERATION).map(|_| links.open(&uid, GENERATION, Kind::Redis).unwrap()).collect();
        assert!(links.open(&uid, GENERATION, Kind::Redis).is_none());
        assert!(links.open(&uid, Generation(4), Kind::Redis).is_some(), "another generation");
        seats.pop();
        assert!(links.open(&uid, GENERATION, Kind::Redis).is_some());
        drop(seats);
        assert_eq!(links.open_connections(), 0);
        for generation in [GENERATION, Generation(4)] {
            links.forget(&uid, generation);
        }
        assert!(links.lock().is_empty(), "nothing is left behind");
    }

    #[test]
    fn closing_a_generation_ends_its_connections_only() {
        let links = Links::default();
        let uid = testing::uid("links");
        let old = links.open(&uid, GENERATION, Kind::Redis).unwrap();
        let new = links.open(&uid, Generation(4), Kind::Redis).unwrap();
        links.close_generation(&uid, GENERATION);
        assert!(old.over().is_cancelled());
        assert!(!new.over().is_cancelled());
    }

    #[test]
    fn what_a_draining_generation_needs_stays_open() {
        let links = Links::default();
        let uid = testing::uid("links");
        let reader = links.open(&uid, GENERATION, Kind::Redis).unwrap();
        let model = links.open(&uid, GENERATION, Kind::Http).unwrap();
        assert_eq!(links.generations(), [(uid.clone(), GENERATION)]);
        links.close_http(&uid, GENERATION);
        assert!(model.over().is_cancelled());
        assert!(!reader.over().is_cancelled());
    }
}
