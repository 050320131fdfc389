//! One reader of an out-stream: first what is kept, page by page, then what comes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use contract::UnitId;
use futures_util::Stream;
use futures_util::stream::unfold;
use redis::Value;
use redis::aio::ConnectionManager;
use tokio::sync::mpsc;

use crate::connection::run_on;
use crate::error::Result;
use crate::fields::{items, text};
use crate::script::{self, Header};
use crate::stream_id::StreamId;

/// Entries that may wait for a reader, and their bytes. Beyond either it is dropped.
const CHANNEL: usize = 1024;
const CHANNEL_BYTES: usize = 8 << 20;
/// Entries read at once while catching up; few, because one may be half a megabyte.
const PAGE: usize = 32;

/// What a reader gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// An event.
    Event {
        /// Its id.
        id: StreamId,
        /// Its JSON, as written.
        json: Arc<str>,
    },
    /// What was asked for is no longer kept; the next event is the oldest there is.
    Gap {
        /// The id that the reader was at.
        from: StreamId,
    },
    /// The reader was too slow and is dropped; nothing comes after this. It may subscribe again from the last id it got.
    Lagged,
}

/// Every event of an out-stream after an id, exactly once and in order, over reconnects of Redis too. Ends after
/// [`Entry::Lagged`] or when the fan-out ends.
pub struct Subscription(Pin<Box<dyn Stream<Item = Entry> + Send>>);

impl Stream for Subscription {
    type Item = Entry;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Entry>> {
        self.0.as_mut().poll_next(context)
    }
}

#[derive(Default)]
struct Backlog {
    bytes: AtomicUsize,
    lagged: AtomicBool,
}

/// The fan-out's end of a subscription.
pub(crate) struct Listener {
    entries: mpsc::Sender<Entry>,
    backlog: Arc<Backlog>,
}

/// The reader's end, before it knows from where events come to it live.
pub(crate) struct Waiting {
    entries: mpsc::Receiver<Entry>,
    backlog: Arc<Backlog>,
}

pub(crate) fn channel() -> (Listener, Waiting) {
    let (tx, rx) = mpsc::channel(CHANNEL);
    let backlog = Arc::new(Backlog::default());
    (Listener { entries: tx, backlog: backlog.clone() }, Waiting { entries: rx, backlog })
}

fn weight(entry: &Entry) -> usize {
    match entry {
        Entry::Event { json, .. } => json.len(),
        _ => 0,
    }
}

impl Listener {
    pub(crate) fn is_gone(&self) -> bool {
        self.entries.is_closed()
    }

    /// Hands an entry over; `false` when the reader is gone or too slow and shall be dropped.
    pub(crate) fn offer(&self, entry: Entry) -> bool {
        let size = weight(&entry);
        let before = self.backlog.bytes.fetch_add(size, Ordering::Relaxed);
        // One entry always fits, whatever its size.
        let fits = before == 0 || before + size <= CHANNEL_BYTES;
        let lagged = !fits || matches!(self.entries.try_send(entry), Err(mpsc::error::TrySendError::Full(_)));
        if lagged {
            self.backlog.lagged.store(true, Ordering::Release);
        }
        !lagged && !self.is_gone()
    }
}

impl Waiting {
    /// Replays what is kept in (`from`, `live`], then passes on what the fan-out sends.
    pub(crate) fn subscription(
        self,
        scripts: ConnectionManager,
        header: Header,
        uid: UnitId,
        from: StreamId,
        live: StreamId,
    ) -> Subscription {
        let reader = Reader {
            uid,
            scripts,
            header,
            cursor: from,
            live,
            replayed: from >= live,
            page: VecDeque::new(),
            entries: self.entries,
            backlog: self.backlog,
            over: false,
        };
        Subscription(Box::pin(unfold(reader, |mut reader| async move {
            let entry = reader.next().await?;
            Some((entry, reader))
        })))
    }
}

struct Reader {
    uid: UnitId,
    scripts: ConnectionManager,
    header: Header,
    /// The last id that was given out; nothing at or before it is given again.
    cursor: StreamId,
    /// Everything after this comes through `entries`.
    live: StreamId,
    replayed: bool,
    page: VecDeque<Entry>,
    entries: mpsc::Receiver<Entry>,
    backlog: Arc<Backlog>,
    over: bool,
}

impl Reader {
    async fn next(&mut self) -> Option<Entry> {
        while !self.over {
            if let Some(entry) = self.page.pop_front() {
                return Some(entry);
            }
            if !self.replayed {
                self.read_page().await;
                continue;
            }
            let Some(entry) = self.entries.recv().await else {
                self.over = true;
                return self.backlog.lagged.load(Ordering::Acquire).then_some(Entry::Lagged);
            };
            self.backlog.bytes.fetch_sub(weight(&entry), Ordering::Relaxed);
            match entry {
                Entry::Event { id, .. } if id <= self.cursor => {}
                Entry::Event { id, .. } => {
                    self.cursor = id;
                    return Some(entry);
                }
                other => return Some(other),
            }
        }
        None
    }

    /// Reads on until Redis answers: a reader outlives its restart.
    async fn read_page(&mut self) {
        let mut pause = Duration::from_millis(50);
        let (trimmed, events) = loop {
            match page(&self.scripts, &self.header, &self.uid, self.cursor, self.live).await {
                Ok(page) => break page,
                Err(error) => {
                    tracing::warn!(uid = %self.uid, error = &error as &dyn std::error::Error, "replay waits for Redis");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(1));
                }
            }
        };
        if trimmed > self.cursor {
            self.page.push_back(Entry::Gap { from: self.cursor });
            self.cursor = trimmed;
        }
        self.replayed = events.len() < PAGE;
        for Written { id, json, .. } in events {
            self.cursor = id;
            self.page.push_back(Entry::Event { id, json });
        }
    }
}

/// The trimmed id and the next events in (`after`, `to`], read together.
async fn page(
    on: &ConnectionManager,
    header: &Header,
    uid: &UnitId,
    after: StreamId,
    to: StreamId,
) -> Result<(StreamId, Vec<Written>)> {
    let out = uid.out_stream();
    let (after, to, most) = (after.to_string(), to.to_string(), PAGE.to_string());
    let args = [uid.as_str(), &after, &to, &most].map(str::as_bytes);
    let mut values = items(&out, run_on(on, header, &script::PAGE, &args).await?)?.into_iter();
    let trimmed = trimmed_to(&out, values.next().unwrap_or_default())?;
    Ok((trimmed, events(&out, values.next().unwrap_or_default())?))
}

pub(crate) fn trimmed_to(key: &str, value: Value) -> Result<StreamId> {
    match value {
        Value::Nil => Ok(StreamId::ZERO),
        value => text(key, value)?.parse().map_err(|e| crate::LedgerError::corrupt(key, e)),
    }
}

/// The entries of a stream's reply, with their fields as they are.
pub(crate) fn entries(key: &str, value: Value) -> Result<Vec<(StreamId, Value)>> {
    let mut list = Vec::new();
    for entry in items(key, value)? {
        let mut parts = items(key, entry)?.into_iter();
        let id = text(key, parts.next().unwrap_or_default())?;
        let id = id.parse().map_err(|e| crate::LedgerError::corrupt(key, e))?;
        list.push((id, parts.next().unwrap_or_default()));
    }
    Ok(list)
}

/// An entry of an out-stream.
pub(crate) struct Written {
    pub(crate) id: StreamId,
    pub(crate) json: Arc<str>,
    /// Up to where the stream was trimmed before it was written, where there was no room; else zero.
    pub(crate) after: StreamId,
}

/// The events of an out-stream's reply. What is not UTF-8 is made so: nobody's stream ends over it.
pub(crate) fn events(key: &str, value: Value) -> Result<Vec<Written>> {
    let mut list = Vec::new();
    for (id, fields) in entries(key, value)? {
        let mut fields = items(key, fields)?.into_iter();
        let (mut json, mut after) = (None, StreamId::ZERO);
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            match (name, value) {
                (Value::BulkString(name), Value::BulkString(text)) if name == b"event" => {
                    json = Some(Arc::from(String::from_utf8_lossy(&text)));
                }
                (Value::BulkString(name), value) if name == b"after" => after = trimmed_to(key, value)?,
                _ => {}
            }
        }
        list.extend(json.map(|json| Written { id, json, after }));
    }
    Ok(list)
}
