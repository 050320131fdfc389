//! Writes events to the out-stream: in order, numbered within their turn, and again after a connection broke.
//!
//! At most one batch is on its way. While it is, events gather in a bounded channel, and text deltas that wait are joined, so
//! a slow gateway makes fewer, larger events and at last holds up the runner. A batch that got no answer is sent again with
//! the same numbers; the gateway drops what it has written already.

use std::sync::Arc;
use std::time::Duration;

use contract::{EventBody, TurnId};
use redis::{Pipeline, Value};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use super::connection::{Connection, Failed, Verdict, told, verdict};
use super::{Address, Backoff, Delivery, LinkEnd};

/// Events that may wait for the writer.
const WAITING: usize = 256;
/// Events in one batch.
const BATCH: usize = 64;
/// Texts are joined up to this size, and a batch of more is closed.
const JOINED_BYTES: usize = 32 * 1024;
const BATCH_BYTES: usize = 512 * 1024;
/// A gateway that answers, but cannot write: how often one batch is offered before its first event is given up.
const OFFERS: u32 = 100;

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

struct Ready {
    turn: TurnId,
    json: String,
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
        let ready: Vec<_> = events
            .into_iter()
            .map(|(turn, body)| {
                let seq = numbering.next(&turn);
                let json = serde_json::to_string(&Numbered { turn_id: &turn, seq, body: &body });
                Ready { json: json.unwrap_or_else(|e| unreachable!("an event is JSON: {e}")), turn }
            })
            .collect();
        if let Err(end) = wire.write_all(&ready, &stale).await {
            return end;
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

impl Wire {
    /// Writes all, however often the connection breaks meanwhile.
    async fn write_all(&mut self, mut rest: &[Ready], stale: &mpsc::Sender<Delivery>) -> Result<(), LinkEnd> {
        // The reader decides when it has been too long; here that only bounds the pauses.
        let mut backoff = Backoff::new(Duration::MAX);
        let mut offers = 0;
        while !rest.is_empty() {
            let batch = &rest[..batch_len(rest)];
            match self.offer(batch, stale).await {
                Ok((written, refused)) => {
                    rest = &rest[written..];
                    let Some(why) = refused else { continue };
                    offers = if written > 0 { 0 } else { offers + 1 };
                    if offers >= OFFERS {
                        tracing::error!(why, "an event was refused again and again, and is given up");
                        rest = &rest[1..];
                        offers = 0;
                    }
                    backoff.pause(&why).await?;
                }
                Err(Failed::Fenced(why)) => return Err(LinkEnd::Fenced(why)),
                Err(Failed::Lost(why)) => {
                    self.connection = None;
                    backoff.pause(&why).await?;
                }
            }
        }
        Ok(())
    }

    /// Sends a batch once: how many of its first events are dealt with, and why the next one is not.
    async fn offer(
        &mut self,
        batch: &[Ready],
        stale: &mpsc::Sender<Delivery>,
    ) -> Result<(usize, Option<String>), Failed> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection::authorised(&self.address, &self.nonce).await?),
        };
        let mut commands = Pipeline::with_capacity(batch.len());
        for event in batch {
            commands.cmd("XADD").arg(&self.address.out_stream).arg("*").arg("event").arg(&event.json);
        }
        let answers = connection.send(&commands, batch.len()).await?;
        for (i, (answer, event)) in answers.iter().zip(batch).enumerate() {
            let Value::ServerError(error) = answer else { continue };
            match verdict(error) {
                Verdict::Fenced => return Err(Failed::Fenced(told(error))),
                // Never waited for: a worker that is told so late hears it with the next event.
                Verdict::Stale => drop(stale.try_send(Delivery::Stale(event.turn.clone()))),
                Verdict::Refused => tracing::warn!(why = told(error), "the gateway refused an event"),
                Verdict::Later => return Ok((i, Some(told(error)))),
            }
        }
        Ok((batch.len().min(answers.len()), None))
    }
}

fn batch_len(rest: &[Ready]) -> usize {
    let mut bytes = 0;
    let fits = rest.iter().take_while(|event| {
        bytes += event.json.len();
        bytes <= BATCH_BYTES
    });
    fits.count().max(1)
}
