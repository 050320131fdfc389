//! One reader of an out-stream: first what is kept, page by page, then what comes. A reader that falls behind reads again what
//! it missed, from where it was: nothing is kept for it here.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use contract::UnitId;
use futures_util::Stream;
use futures_util::stream::unfold;
use redis::Value;
use tokio::sync::mpsc;

use crate::error::{LedgerError, Result};
use crate::fanout::Fanout;
use crate::fields::{items, number, text};
use crate::script;
use crate::share::{EventJson, Held, Share};
use crate::stream_id::StreamId;

/// Entries that may wait for a reader, and their bytes. Beyond either it reads what it missed from Redis.
const CHANNEL: usize = 256;
const CHANNEL_BYTES: usize = 128 << 10;
/// Entries and bytes that are read at once while catching up; one event may have more bytes, and comes alone.
const PAGE: usize = 32;
const PAGE_BYTES: usize = 64 << 10;

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An event.
    Event {
        /// Its id.
        id: StreamId,
        /// Its JSON, as written.
        json: EventJson,
    },
    /// What was asked for is no longer kept; the next event is the oldest there is.
    Gap {
        /// The id that the reader was at.
        from: StreamId,
    },
}

/// Every event of an out-stream after an id, exactly once and in order, over reconnects of Redis too. Ends when the fan-out
/// ends.
pub struct Subscription(Pin<Box<dyn Stream<Item = Entry> + Send>>);

impl Stream for Subscription {
    type Item = Entry;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Entry>> {
        self.0.as_mut().poll_next(context)
    }
}

/// The fan-out's end of a subscription.
pub(crate) struct Listener {
    entries: mpsc::Sender<Entry>,
    waiting: Arc<AtomicUsize>,
}

/// The reader's end of one.
pub(crate) struct Waiting {
    entries: mpsc::Receiver<Entry>,
    /// Bytes in it.
    waiting: Arc<AtomicUsize>,
}

pub(crate) fn channel() -> (Listener, Waiting) {
    let (tx, rx) = mpsc::channel(CHANNEL);
    let waiting = Arc::new(AtomicUsize::new(0));
    (Listener { entries: tx, waiting: waiting.clone() }, Waiting { entries: rx, waiting })
}

fn weight(entry: &Entry) -> usize {
    match entry {
        Entry::Event { json, .. } => json.len(),
        Entry::Gap { .. } => 0,
    }
}

impl Listener {
    pub(crate) fn is_gone(&self) -> bool {
        self.entries.is_closed()
    }

    /// Hands an entry over; `false` when the reader is gone, or behind: then it gets no more from here.
    pub(crate) fn offer(&self, entry: Entry) -> bool {
        let size = weight(&entry);
        let before = self.waiting.fetch_add(size, Ordering::Relaxed);
        // One entry always fits, whatever its size.
        (before == 0 || before + size <= CHANNEL_BYTES) && self.entries.try_send(entry).is_ok()
    }
}

pub(crate) fn subscription(fanout: Fanout, uid: UnitId, share: Share, from: StreamId, live: Live) -> Subscription {
    let reader = Reader { fanout, uid, share, cursor: from, live, page: VecDeque::new() };
    Subscription(Box::pin(unfold(reader, |mut reader| async move {
        let entry = reader.next().await?;
        Some((entry, reader))
    })))
}

/// What comes, and from where on.
pub(crate) struct Live {
    /// Everything after this comes through `entries`.
    pub(crate) after: StreamId,
    pub(crate) entries: Waiting,
}

struct Reader {
    fanout: Fanout,
    uid: UnitId,
    share: Share,
    /// The last id that was read; nothing at or before it is given out again.
    cursor: StreamId,
    live: Live,
    page: VecDeque<Entry>,
}

impl Reader {
    async fn next(&mut self) -> Option<Entry> {
        loop {
            if let Some(entry) = self.page.pop_front() {
                return Some(entry);
            }
            if self.cursor < self.live.after {
                self.read_page().await;
                continue;
            }
            let Some(entry) = self.live.entries.entries.recv().await else {
                self.live = self.fanout.listen_again(&self.uid, &self.share).await?;
                continue;
            };
            self.live.entries.waiting.fetch_sub(weight(&entry), Ordering::Relaxed);
            match entry {
                Entry::Event { id, .. } if id <= self.cursor => {}
                Entry::Event { id, .. } => {
                    self.cursor = id;
                    return Some(entry);
                }
                Entry::Gap { .. } => return Some(entry),
            }
        }
    }

    /// Reads on until Redis answers: a reader outlives its restart.
    async fn read_page(&mut self) {
        let mut pause = Duration::from_millis(50);
        let mut bytes = PAGE_BYTES;
        loop {
            let held = match self.share.try_take(bytes) {
                Some(held) => held,
                None => {
                    // Whoever waits for room holds none: what came live meanwhile is read again later.
                    self.live.entries = channel().1;
                    self.share.take(bytes).await
                }
            };
            match self.fanout.replay(&self.uid, self.cursor, self.live.after, bytes).await {
                Ok(Replay::Page(page)) => return self.turn_to(page, held),
                Ok(Replay::Large(size)) => bytes = size,
                Err(error) => {
                    drop(held);
                    tracing::warn!(uid = %self.uid, error = &error as &dyn std::error::Error, "replay waits for Redis");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        }
    }

    fn turn_to(&mut self, page: Page, mut held: Held) {
        if page.trimmed > self.cursor {
            self.page.push_back(Entry::Gap { from: self.cursor });
            self.cursor = page.trimmed;
        }
        for (id, json) in page.events {
            let rest = held.split_off(json.len());
            self.page.push_back(Entry::Event { id, json: EventJson::new(json, Some(held)) });
            held = rest;
            self.cursor = id;
        }
        if page.is_last {
            self.cursor = self.cursor.max(self.live.after);
        }
    }
}

/// What a look back gives.
pub(crate) enum Replay {
    Page(Page),
    /// The next event alone has more bytes than were asked for.
    Large(usize),
}

pub(crate) struct Page {
    trimmed: StreamId,
    events: Vec<(StreamId, Vec<u8>)>,
    /// Nothing more is kept up to where it was asked for.
    is_last: bool,
}

impl Fanout {
    /// The next events in (`after`, `to`], of so many bytes at most.
    async fn replay(&self, uid: &UnitId, after: StreamId, to: StreamId, bytes: usize) -> Result<Replay> {
        let args = [uid.to_string(), after.to_string(), to.to_string(), number(bytes as u64), number(PAGE as u64)];
        let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
        let mut reply = items("replay", self.run_bulk(&script::REPLAY, &args).await?)?.into_iter();
        let word = text("replay", reply.next().unwrap_or_default())?;
        let trimmed = stream_id("replay", reply.next().unwrap_or_default())?;
        if word == "large" {
            let size = text("replay", reply.next().unwrap_or_default())?;
            return Ok(Replay::Large(size.parse().map_err(|e| LedgerError::corrupt("replay", e))?));
        }
        let mut events = Vec::new();
        while let (Some(id), Some(Value::BulkString(json))) = (reply.next(), reply.next()) {
            events.push((stream_id("replay", id)?, json));
        }
        Ok(Replay::Page(Page { trimmed, events, is_last: word == "all" }))
    }
}

pub(crate) fn stream_id(key: &str, value: Value) -> Result<StreamId> {
    match value {
        Value::Nil => Ok(StreamId::ZERO),
        value => text(key, value)?.parse().map_err(|e| LedgerError::corrupt(key, e)),
    }
}

/// The entries of a stream's reply, with their fields as they are.
pub(crate) fn entries(key: &str, value: Value) -> Result<Vec<(StreamId, Value)>> {
    let mut list = Vec::new();
    for entry in items(key, value)? {
        let mut parts = items(key, entry)?.into_iter();
        let id = stream_id(key, parts.next().unwrap_or_default())?;
        list.push((id, parts.next().unwrap_or_default()));
    }
    Ok(list)
}

/// An entry of an out-stream.
pub(crate) struct Written {
    pub(crate) id: StreamId,
    pub(crate) json: Vec<u8>,
    /// Up to where the stream was trimmed before it was written, where there was no room; else zero.
    pub(crate) after: StreamId,
}

/// The events of an out-stream's reply.
pub(crate) fn events(key: &str, value: Value) -> Result<Vec<Written>> {
    let mut list = Vec::new();
    for (id, fields) in entries(key, value)? {
        let mut fields = items(key, fields)?.into_iter();
        let (mut json, mut after) = (None, StreamId::ZERO);
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            match (name, value) {
                (Value::BulkString(name), Value::BulkString(text)) if name == b"event" => json = Some(text),
                (Value::BulkString(name), value) if name == b"after" => after = stream_id(key, value)?,
                _ => {}
            }
        }
        list.extend(json.map(|json| Written { id, json, after }));
    }
    Ok(list)
}
