//! Reads a stream of server-sent events.
//!
//! Source: WHATWG HTML, 9.2.6 "Interpreting an event stream".

use std::collections::VecDeque;
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use serde_json::Value;

use crate::http::Connection;

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// `id:`, empty when the event had none.
    pub id: String,
    /// `event:`, empty when the event had none.
    pub name: String,
    /// `data:` as JSON; a text where it is none.
    pub data: Value,
}

impl Event {
    /// `type` of the event's data, else its name.
    pub fn kind(&self) -> &str {
        self.data["type"].as_str().unwrap_or(&self.name)
    }
}

/// An open stream of events. Dropping it closes the connection that it owns.
#[derive(Debug)]
pub struct Events {
    body: Incoming,
    _connection: Option<Connection>,
    buffer: Vec<u8>,
    ready: VecDeque<Event>,
    /// Comments that were seen, such as keep-alives.
    pub comments: usize,
}

impl Events {
    /// Of an answer whose head was read, and the connection if it is to be closed with the stream.
    pub fn new(body: Incoming, connection: Option<Connection>) -> Self {
        Self { body, _connection: connection, buffer: Vec::new(), ready: VecDeque::new(), comments: 0 }
    }

    /// The next event; `None` when the server ended the stream or the connection broke.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            let frame = self.body.frame().await?.ok()?;
            if let Some(data) = frame.data_ref() {
                self.buffer.extend_from_slice(data);
                self.parse();
            }
        }
    }

    /// All events up to and including the first of a kind.
    ///
    /// # Panics
    /// When it does not come within `limit`, or the stream ends first; with what came.
    pub async fn until(&mut self, kind: &str, limit: Duration) -> Vec<Event> {
        self.until_any(&[kind], limit).await
    }

    /// As [`Self::until`], of any of these kinds.
    ///
    /// # Panics
    /// As [`Self::until`].
    pub async fn until_any(&mut self, kinds: &[&str], limit: Duration) -> Vec<Event> {
        let mut seen = Vec::new();
        let read = async {
            while let Some(event) = self.next().await {
                let last = kinds.contains(&event.kind());
                seen.push(event);
                if last {
                    return true;
                }
            }
            false
        };
        match tokio::time::timeout(limit, read).await {
            Ok(true) => seen,
            Ok(false) => panic!("the stream ended before any of {kinds:?}: {seen:#?}"),
            Err(_) => panic!("none of {kinds:?} came within {limit:?}: {seen:#?}"),
        }
    }

    fn parse(&mut self) {
        while let Some(end) = self.buffer.windows(2).position(|w| w == b"\n\n") {
            let block: Vec<u8> = self.buffer.drain(..end + 2).collect();
            let block = String::from_utf8_lossy(&block);
            let (mut id, mut name, mut data) = (String::new(), String::new(), Vec::new());
            for line in block.lines() {
                let (field, value) = line.split_once(':').unwrap_or((line, ""));
                let value = value.strip_prefix(' ').unwrap_or(value);
                match field {
                    "id" => id = value.into(),
                    "event" => name = value.into(),
                    "data" => data.push(value),
                    "" if !line.is_empty() => self.comments += 1,
                    _ => {}
                }
            }
            if data.is_empty() {
                continue;
            }
            let text = data.join("\n");
            let data = serde_json::from_str(&text).unwrap_or(Value::String(text));
            self.ready.push_back(Event { id, name, data });
        }
    }
}

/// The kinds of events, in order, without the pieces of text whose number is a matter of buffering.
pub fn kinds(events: &[Event]) -> Vec<&str> {
    let mut kinds: Vec<_> = events.iter().map(Event::kind).collect();
    kinds.dedup_by(|a, b| a == b && matches!(*a, "message-delta" | "thinking-delta"));
    kinds
}
