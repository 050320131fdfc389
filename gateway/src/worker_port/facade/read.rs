//! XREADGROUP and XREAD: taking the next turn, or being told to end one.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use contract::{InEntry, TurnId, TurnMessage};
use ledger::{Ready, Standing, Taken};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::Instant;

use super::super::links::Control;
use super::super::reply::{Reply, Version};
use super::super::request::{self, Wait};
use super::{Facade, KEPT_BYTES, Next, Stop};

/// How often a blocked read asks the ledger by itself: the most that a lost hand-over costs.
const ASK_AGAIN: Duration = Duration::from_secs(15);

/// Turns that a connection remembers having been given.
const REMEMBERED: usize = 64;

/// Why a blocked read goes on.
enum Woken {
    Queued,
    AskAgain,
    Late,
    Over,
    Gone,
}

impl Facade<'_> {
    pub(super) async fn read(&mut self, args: &[Bytes], grouped: bool) -> Result<Next, Stop> {
        let inbox = self.claims.unit.in_stream();
        let read = match request::read(args, grouped, inbox.as_bytes()) {
            Ok(read) => read,
            Err(reply) => return Ok(Next::Answer(reply)),
        };
        // One that is being ended may finish its turn; it cannot become ready any more.
        if self.may_use().await? == Standing::Current {
            self.be_ready().await?;
        }
        if read.history {
            // What is not settled is given again by the platform, not by this list.
            return Ok(Next::Answer(self.entries(vec![])));
        }
        self.has_read = true;
        self.seat.reads();
        let deadline = match read.wait {
            Wait::For(time) => Instant::now().checked_add(time),
            Wait::No | Wait::Ever => None,
        };
        // From before the first question: a relink that comes in between is not missed.
        let mut relinked = self.seat.relinked();
        let mut ask = true;
        loop {
            if let Some(entry) = self.next_queued() {
                return Ok(Next::Answer(self.entry(&entry)?));
            }
            if ask && let Some(entry) = self.take().await? {
                return Ok(Next::Answer(self.entry(&entry)?));
            }
            if read.wait == Wait::No {
                return Ok(Next::Answer(Reply::NoArray));
            }
            ask = match self.wait(deadline, &mut relinked).await {
                Woken::Queued => false,
                Woken::AskAgain => true,
                Woken::Late => return Ok(Next::Answer(Reply::NoArray)),
                Woken::Over => return Err(Stop::Over),
                Woken::Gone => return Ok(Next::End),
            };
        }
    }

    /// A foreign worker claims nothing: its first read says that it is ready.
    async fn be_ready(&mut self) -> Result<(), Stop> {
        if self.shown || self.foreign_ready {
            return Ok(());
        }
        let (uid, generation) = (&self.claims.unit, self.claims.generation);
        match self.port.ledger.ready(uid, generation, None, 0).await? {
            Ready::Live => {
                self.foreign_ready = true;
                Ok(())
            }
            Ready::AlreadyClaimed => Err(Stop::Refuse(Reply::error("NOAUTH Authentication required."))),
            Ready::Over => Err(Stop::Over),
        }
    }

    /// The oldest hand-over that this connection has not had.
    fn next_queued(&mut self) -> Option<InEntry> {
        while let Some(control) = self.seat.pop() {
            let entry = match control {
                Control::Turn(turn) => self.remember(&turn).then_some(InEntry::Message(*turn)),
                Control::Cancel(turn_id) => self.tell_cancel(turn_id),
                Control::Stop => self.tell_stop(),
            };
            if entry.is_some() {
                return entry;
            }
        }
        None
    }

    /// Asks the ledger, and becomes the link.
    async fn take(&mut self) -> Result<Option<InEntry>, Stop> {
        let (uid, generation) = (&self.claims.unit, self.claims.generation);
        let taken = self.port.ledger.take(uid, generation, self.seat.number(), self.given.back()).await?;
        Ok(match taken {
            Taken::Turn(turn) => self.remember(&turn).then_some(InEntry::Message(turn)),
            Taken::Nothing => None,
            Taken::Cancel(turn_id) => self.tell_cancel(turn_id),
            Taken::Stop => self.tell_stop(),
            Taken::Over => return Err(Stop::Over),
        })
    }

    /// Whether this turn is new to this connection. The ledger gives an unseen turn to every read, and a hand-over can come
    /// late; but what was written to a connection that is still alive has been received.
    fn remember(&mut self, turn: &TurnMessage) -> bool {
        if self.given.contains(&turn.turn_id) {
            return false;
        }
        if self.given.len() == REMEMBERED {
            self.given.pop_front();
        }
        self.given.push_back(turn.turn_id.clone());
        self.seat.allowance().give(&turn.turn_id, turn.prompt.len());
        self.port.deliveries.count(turn.start);
        true
    }

    fn tell_cancel(&mut self, turn_id: TurnId) -> Option<InEntry> {
        if self.told.as_ref() == Some(&turn_id) {
            return None;
        }
        self.told = Some(turn_id.clone());
        Some(InEntry::Cancel { turn_id })
    }

    /// Once: a worker that does not know the word would read it over and over.
    fn tell_stop(&mut self) -> Option<InEntry> {
        let first = !std::mem::replace(&mut self.told_stop, true);
        first.then_some(InEntry::Stop)
    }

    /// Waits for a hand-over, a bound, or an end, and meanwhile collects what the client sends behind its read.
    async fn wait(&mut self, deadline: Option<Instant>, relinked: &mut watch::Receiver<()>) -> Woken {
        let ask_again = Instant::now() + ASK_AGAIN;
        let late = async {
            match deadline {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(late);
        loop {
            let room = self.commands.held() < KEPT_BYTES;
            tokio::select! {
                () = self.seat.rung() => return Woken::Queued,
                () = self.seat.over().cancelled() => return Woken::Over,
                () = self.stop.cancelled() => return Woken::Gone,
                () = &mut late => return Woken::Late,
                () = tokio::time::sleep_until(ask_again) => return Woken::AskAgain,
                // The registry outlives its seats, so there is always a sender.
                _ = relinked.changed() => return Woken::AskAgain,
                read = self.io.read_buf(self.commands.space()), if room => {
                    if !matches!(read, Ok(1..)) {
                        return Woken::Gone;
                    }
                }
            }
        }
    }

    fn entry(&self, entry: &InEntry) -> Result<Reply, Stop> {
        let json = serde_json::to_vec(entry).map_err(|error| {
            tracing::error!(%error, "cannot write an in-stream entry");
            Stop::Refuse(Reply::error("ERR the entry cannot be written"))
        })?;
        let fields = Reply::Array(vec![Reply::bulk("turn"), Reply::bulk(json)]);
        Ok(self.entries(vec![Reply::Array(vec![Reply::bulk(entry_id()), fields])]))
    }

    /// What Redis answers: streams with their entries, a list of pairs in RESP2 and a map in RESP3.
    fn entries(&self, entries: Vec<Reply>) -> Reply {
        let stream = Reply::bulk(self.claims.unit.in_stream());
        let entries = Reply::Array(entries);
        match self.version {
            Version::Two => Reply::Array(vec![Reply::Array(vec![stream, entries])]),
            Version::Three => Reply::Map(vec![(stream, entries)]),
        }
    }
}

/// Ids of what is given out: clients want them to grow, the platform needs none.
fn entry_id() -> String {
    static LAST_MS: AtomicU64 = AtomicU64::new(0);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |d| u64::try_from(d.as_millis()).unwrap_or(u64::MAX));
    let last =
        LAST_MS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(now.max(last + 1))).unwrap_or_default();
    format!("{}-0", now.max(last + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_ids_grow() {
        let number = |id: String| id.trim_end_matches("-0").parse::<u64>().unwrap();
        let ids: Vec<u64> = (0..100).map(|_| number(entry_id())).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));
    }
}
