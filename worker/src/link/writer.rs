//! Writes events to the out-stream: in order, numbered within their turn, and again after a connection broke.
//!
//! One event is on its way at a time. The gateway drops a number that is not higher than the last, so an event that was sent
//! behind one which could not be written would take that one's place for ever. Meanwhile events gather in a bounded channel,
//! and text deltas that wait are joined: a slow gateway makes fewer, larger events, and at last holds up the runner. An event
//! that got no answer is sent again with the same number; the gateway knows what it has written already.

use std::sync::Arc;
use std::time::Duration;

use contract::{EventBody, TurnId, Usage};
use redis::{Cmd, Value};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::connection::{Connection, Failed, Verdict, told, verdict};
use super::{Address, Backoff, Delivery, LinkEnd};
use crate::text::truncate;

/// Events that may wait for the writer.
const WAITING: usize = 256;
/// Events that are looked at together, to join texts.
const BATCH: usize = 64;
/// Texts are joined up to this size.
const JOINED_BYTES: usize = 32 * 1024;
/// What is left of a reply and a detail that the gateway refused.
const SHRUNK_BYTES: usize = 4 * 1024;
/// What is repeated of why it did.
const WHY_BYTES: usize = 512;

/// The end that turns write to.
#[derive(Debug, Clone)]
pub struct Events(mpsc::Sender<Queued>);

/// What waits for the writer.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "nearly all are events")]
pub(super) enum Queued {
    Event(TurnId, EventBody),
    Flush(oneshot::Sender<()>),
}

pub(super) type Waiting = mpsc::Receiver<Queued>;

pub(super) fn channel() -> (Events, Waiting) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Events(sender), receiver)
}

impl Events {
    /// Says something of a turn. Waits while too much waits to be said; says nothing when the link is over.
    pub async fn emit(&self, turn: &TurnId, body: EventBody) {
        let _ = self.0.send(Queued::Event(turn.clone(), body)).await;
    }

    /// Waits until everything that was said is written, or the link is over.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.0.send(Queued::Flush(done)).await.is_ok() {
            let _ = wait.await;
        }
    }
}

#[cfg(test)]
impl Events {
    /// Events that go to a test instead of a gateway, as they are emitted.
    pub fn collected() -> (Self, tokio::task::JoinHandle<Vec<EventBody>>) {
        let (events, mut waiting) = channel();
        let collecting = tokio::spawn(async move {
            let mut seen = Vec::new();
            while let Some(queued) = waiting.recv().await {
                match queued {
                    Queued::Event(_, body) => seen.push(body),
                    Queued::Flush(done) => drop(done),
                }
            }
            seen
        });
        (events, collecting)
    }
}

#[derive(Serialize)]
struct Numbered<'a> {
    turn_id: &'a TurnId,
    seq: u64,
    #[serde(flatten)]
    body: &'a EventBody,
}

/// The number of the last event, of the turn that it belongs to. It goes on when a turn is told again.
#[derive(Default)]
struct Numbering {
    turn: Option<TurnId>,
    seq: u64,
}

impl Numbering {
    fn next(&mut self, turn: &TurnId) -> u64 {
        if self.turn.as_ref() != Some(turn) {
            *self = Self { turn: Some(turn.clone()), seq: 0 };
        }
        self.seq += 1;
        self.seq
    }
}

/// Writes until the link is over; what is stale is told to `stale`.
pub(super) async fn write(
    address: Arc<Address>,
    nonce: Arc<str>,
    mut waiting: Waiting,
    stale: mpsc::Sender<Delivery>,
) -> LinkEnd {
    let mut numbering = Numbering::default();
    let mut wire = Wire { address, nonce, connection: None };
    let mut gathered = Vec::with_capacity(BATCH);
    loop {
        gathered.clear();
        if waiting.recv_many(&mut gathered, BATCH).await == 0 {
            // Every sender is gone, so nobody is left to say anything; whoever ends the worker ends this too.
            return std::future::pending().await;
        }
        let (events, flushes) = join(gathered.drain(..));
        for (turn, body) in events {
            let seq = numbering.next(&turn);
            if let Err(end) = wire.write(&turn, seq, body, &stale).await {
                return end;
            }
        }
        for flush in flushes {
            let _ = flush.send(());
        }
    }
}

/// Joins neighbouring texts of the same kind and turn.
fn join(queued: impl Iterator<Item = Queued>) -> (Vec<(TurnId, EventBody)>, Vec<oneshot::Sender<()>>) {
    let (mut events, mut flushes) = (Vec::<(TurnId, EventBody)>::new(), Vec::new());
    for item in queued {
        let (turn, body) = match item {
            Queued::Event(turn, body) => (turn, body),
            Queued::Flush(done) => {
                flushes.push(done);
                continue;
            }
        };
        match (events.last_mut(), &body) {
            (Some((last, EventBody::MessageDelta { text })), EventBody::MessageDelta { text: more })
            | (Some((last, EventBody::ThinkingDelta { text })), EventBody::ThinkingDelta { text: more })
                if *last == turn && text.len() + more.len() <= JOINED_BYTES =>
            {
                text.push_str(more);
            }
            _ => events.push((turn, body)),
        }
    }
    (events, flushes)
}

struct Wire {
    address: Arc<Address>,
    nonce: Arc<str>,
    connection: Option<Connection>,
}

/// What the gateway says to an event.
enum Answer {
    /// Written, now or before, or dropped because it is stale.
    Settled,
    /// The event will never be taken as it is.
    Refused(String),
}

impl Wire {
    /// Writes one event, however often the connection breaks meanwhile. One that is refused is left out; but a turn without
    /// an end would be run again, so a refused `done` is said again with less in it.
    async fn write(
        &mut self,
        turn: &TurnId,
        seq: u64,
        mut body: EventBody,
        stale: &mpsc::Sender<Delivery>,
    ) -> Result<(), LinkEnd> {
        // The reader decides when it has been too long; here that only bounds the pauses.
        let mut backoff = Backoff::new(Duration::MAX);
        let mut left = Left::All;
        loop {
            let json = serde_json::to_string(&Numbered { turn_id: turn, seq, body: &body })
                .unwrap_or_else(|e| unreachable!("an event is JSON: {e}"));
            match self.offer(turn, &json, stale).await {
                Ok(Answer::Settled) => return Ok(()),
                Ok(Answer::Refused(why)) => {
                    tracing::warn!(why, kind = body.name(), "the gateway refused an event");
                    left = match shrink(&mut body, left, &why) {
                        Some(less) => less,
                        None => return Ok(()),
                    };
                }
                Err(Failed::Fenced(why)) => return Err(LinkEnd::Fenced(why)),
                Err(Failed::Lost(why)) => {
                    self.connection = None;
                    backoff.pause(&why).await?;
                }
            }
        }
    }

    async fn offer(&mut self, turn: &TurnId, json: &str, stale: &mpsc::Sender<Delivery>) -> Result<Answer, Failed> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection::authorised(&self.address, &self.nonce).await?),
        };
        let mut add = Cmd::new();
        add.arg("XADD").arg(&self.address.out_stream).arg("*").arg("event").arg(json);
        let Value::ServerError(error) = connection.one(&add).await? else { return Ok(Answer::Settled) };
        match verdict(&error) {
            Verdict::Fenced => Err(Failed::Fenced(told(&error))),
            Verdict::Stale => {
                // Never waited for: a worker that is not told now hears it with the next event.
                drop(stale.try_send(Delivery::Stale(turn.clone())));
                Ok(Answer::Settled)
            }
            Verdict::Refused | Verdict::Wrong => Ok(Answer::Refused(told(&error))),
            Verdict::Later => Err(Failed::Lost(told(&error))),
        }
    }
}

/// How much of a `done` is left.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Left {
    All,
    /// The beginning of what was long.
    Beginnings,
    /// Whether it went well, and why there is nothing else.
    Bare,
}

/// Takes what may be too much out of a `done`; `None` when there is no other try.
fn shrink(body: &mut EventBody, left: Left, why: &str) -> Option<Left> {
    let EventBody::Done { reply, output, session_id, usage, detail, cache, .. } = body else { return None };
    let mut why = why.to_owned();
    truncate(&mut why, WHY_BYTES);
    match left {
        Left::All => {
            let mut said = detail.take().unwrap_or_default();
            truncate(&mut said, SHRUNK_BYTES);
            *detail = Some(format!("{said}; the result was cut, since the gateway refused it whole: {why}"));
            truncate(reply, SHRUNK_BYTES);
            *output = None;
            Some(Left::Beginnings)
        }
        Left::Beginnings => {
            *detail = Some(format!("the result was left out, since the gateway refused it twice: {why}"));
            (*reply, *output, *session_id, *cache) = (String::new(), None, None, None);
            *usage = Usage::default();
            Some(Left::Bare)
        }
        Left::Bare => None,
    }
}
