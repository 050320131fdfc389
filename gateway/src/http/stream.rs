//! Event streams: a unit's events without end, or one turn's until it is settled.
//!
//! A turn's stream carries the events of that turn and those of the unit that belong to no turn. Just before the last event
//! comes a comment `server-timing …; rekindle-start …`, because headers were sent long ago. What a reader has not taken yet is
//! of its owner's share of memory; a slow one gets what it missed from the ledger when it gets there.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use contract::{FailReason, Start, TurnId};
use futures_util::{StreamExt, stream};
use http::header;
use ledger::{Entry, EventJson, Share, StreamId, Subscription, TurnRecord, TurnStatus};
use serde::Deserialize;
use serde_json::json;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

use super::outcome::{self, Timing};
use super::sse;
use crate::app::App;
use crate::metrics::OpenStream;

const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// What decides where an event goes; the rest of it is passed on unread.
#[derive(Debug, Deserialize)]
pub(crate) struct Head<'a> {
    #[serde(rename = "type", borrow)]
    pub kind: Cow<'a, str>,
    #[serde(default)]
    pub turn_id: Option<Cow<'a, str>>,
    #[serde(rename = "final", default)]
    is_final: bool,
}

impl Head<'_> {
    pub(crate) fn of(json: &str) -> Head<'_> {
        serde_json::from_str(json).unwrap_or(Head { kind: "message".into(), turn_id: None, is_final: false })
    }

    /// Whether nothing more comes of this turn.
    pub(crate) fn settles(&self, turn: &TurnId) -> bool {
        let last = self.kind == "turn-complete" || (self.kind == "turn-failed" && self.is_final);
        last && self.turn_id.as_deref() == Some(turn.as_str())
    }
}

/// Answers with a unit's events, from where the subscription begins, up to a last one; without one until the reader leaves
/// or the gateway shuts down.
pub fn of_unit(
    app: &App,
    subscription: Subscription,
    share: Arc<Share>,
    from: StreamId,
    until: Option<StreamId>,
) -> Response {
    let mut reader = Reader::new(app, subscription, share, None);
    reader.ended = until.is_some_and(|until| from >= until);
    reader.until = until;
    respond(reader)
}

/// Answers with a turn's events until it is settled.
pub fn of_turn(app: &App, subscription: Subscription, share: Arc<Share>, turn: TurnId) -> Response {
    respond(Reader::new(app, subscription, share, Some(turn)))
}

fn respond(reader: Reader) -> Response {
    let frames = stream::unfold(reader, |mut reader| async move {
        let frame = reader.next().await?;
        Some((Ok::<_, Infallible>(frame), reader))
    });
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // Some reverse proxies would keep events back otherwise.
        (header::HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    (headers, Body::from_stream(frames)).into_response()
}

struct Reader {
    app: App,
    subscription: Subscription,
    /// Remembered as the owner's for as long as it is used.
    _share: Arc<Share>,
    /// Only this turn's, until it is settled.
    turn: Option<TurnId>,
    /// Only up to this event.
    until: Option<StreamId>,
    keep_alive: Interval,
    /// What goes out before anything else is read.
    pending: VecDeque<Bytes>,
    /// Whether the turn was settled at the last silence: its last event is not going to come, it was trimmed.
    settled_in_silence: bool,
    ended: bool,
    _open: OpenStream,
}

impl Reader {
    fn new(app: &App, subscription: Subscription, share: Arc<Share>, turn: Option<TurnId>) -> Self {
        let mut keep_alive = interval_at(Instant::now() + KEEP_ALIVE, KEEP_ALIVE);
        keep_alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            app: app.clone(),
            subscription,
            _share: share,
            turn,
            until: None,
            keep_alive,
            // Headers go out with the first byte of the body: a reader shall know at once that it is connected.
            pending: VecDeque::from([sse::comment("rekindle")]),
            settled_in_silence: false,
            ended: false,
            _open: app.metrics.open_stream(),
        }
    }

    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.pending.pop_front() {
                return Some(frame);
            }
            if self.ended {
                return None;
            }
            // A stream that has an end may go on to it while the gateway drains; an endless one may not.
            let has_end = self.turn.is_some() || self.until.is_some();
            let over = if has_end { &self.app.ended } else { &self.app.closing };
            tokio::select! {
                biased;
                () = over.cancelled() => self.end(sse::comment("the gateway shuts down; come back with Last-Event-ID")),
                entry = self.subscription.next() => self.entry(entry).await,
                _ = self.keep_alive.tick() => self.silence().await,
            }
        }
    }

    fn end(&mut self, frame: Bytes) {
        self.pending.push_back(frame);
        self.ended = true;
    }

    fn forward(&mut self, id: &str, kind: &str, json: &EventJson) {
        self.pending.extend(sse::stored(id, kind, json));
    }

    async fn entry(&mut self, entry: Option<Entry>) {
        match entry {
            // What came later was not asked for: the last event was trimmed meanwhile.
            Some(Entry::Event { id, .. }) if self.until.is_some_and(|until| id > until) => self.ended = true,
            Some(Entry::Event { id, json }) => {
                self.event(&id.to_string(), &json).await;
                self.ended |= self.until == Some(id);
            }
            Some(Entry::Gap { from }) => {
                let data = json!({ "type": "gap", "from": from.to_string() });
                self.pending.push_back(sse::event(None, "gap", &data.to_string()));
            }
            None => self.end(sse::comment("the stream ended; come back with Last-Event-ID")),
        }
    }

    async fn event(&mut self, id: &str, json: &EventJson) {
        let head = Head::of(json);
        let Some(turn) = self.turn.as_ref() else {
            return self.forward(id, &head.kind, json);
        };
        if head.turn_id.as_deref().is_some_and(|other| other != turn.as_str()) {
            return;
        }
        self.keep_alive.reset();
        if head.settles(turn) {
            if let Some(record) = settled(&self.app, self.turn.as_ref()).await {
                self.timing(&record);
            }
            self.ended = true;
        }
        self.forward(id, &head.kind, json);
    }

    /// Nothing came for a while.
    async fn silence(&mut self) {
        self.pending.push_back(sse::comment("keep-alive"));
        let Some(record) = settled(&self.app, self.turn.as_ref()).await else {
            return;
        };
        if self.settled_in_silence {
            self.timing(&record);
            let (kind, data) = last_event(&record);
            self.end(sse::event(None, kind, &data));
        }
        self.settled_in_silence = true;
    }

    fn timing(&mut self, record: &TurnRecord) {
        outcome::count(&self.app.metrics, record);
        let timing = Timing::of(record);
        let start = timing.start.map_or("none", Start::as_str);
        self.pending.push_back(sse::comment(&format!("server-timing {}; rekindle-start {start}", timing.header())));
    }
}

async fn settled(app: &App, turn: Option<&TurnId>) -> Option<TurnRecord> {
    outcome::settled(app.ledger().ok()?, turn?).await.ok()??
}

/// The last event of a settled turn whose own was trimmed.
fn last_event(record: &TurnRecord) -> (&'static str, String) {
    let turn = &record.turn;
    if record.status == TurnStatus::Completed {
        let duration_ms = outcome::millis(Timing::of(record).turn);
        let data = json!({ "type": "turn-complete", "turn_id": turn, "duration_ms": duration_ms });
        return ("turn-complete", data.to_string());
    }
    let reason = record.reason.unwrap_or(FailReason::Error);
    let data = json!({
        "type": "turn-failed", "turn_id": turn, "reason": reason, "attempts": record.attempt, "final": true,
    });
    ("turn-failed", data.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_turns_own_final_word_settles_it() {
        let (turn, other) = (TurnId::new(1, 1), TurnId::new(1, 2));
        let settles = |json: String| Head::of(&json).settles(&turn);
        assert!(settles(format!(r#"{{"type":"turn-complete","turn_id":"{turn}"}}"#)));
        assert!(settles(format!(r#"{{"turn_id":"{turn}","type":"turn-failed","final":true}}"#)));
        assert!(!settles(format!(r#"{{"type":"turn-failed","turn_id":"{turn}","final":false}}"#)));
        assert!(!settles(format!(r#"{{"type":"turn-complete","turn_id":"{other}"}}"#)));
        assert!(!settles(format!(r#"{{"type":"done","turn_id":"{turn}","ok":true}}"#)));
        assert_eq!(Head::of("not JSON").kind, "message");
    }
}
