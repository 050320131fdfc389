//! What one turn says, bounded: a runner that prints without end neither fills the out-stream nor anybody's memory.

use contract::{EventBody, TurnId};
use serde_json::Value;

use crate::link::Events;
use crate::text::{parts, truncate};

/// Bytes of events, as JSON, that one turn may emit beside those that end it.
const TURN_BYTES: usize = (1 << 20) + (64 << 10);
/// Events that one turn may emit beside those that end it.
const TURN_EVENTS: usize = 9_000;
/// Longest text of a tool call's arguments; longer ones are cut and become a text.
const ARGS_BYTES: usize = 16 * 1024;
/// Longest text of one event; longer ones become several. The gateway bounds an event's JSON, in which a character may take
/// six bytes.
const TEXT_BYTES: usize = 64 * 1024;
/// Longest summary of a tool's answer.
const SUMMARY_BYTES: usize = 2 * 1024;

/// Longest name of a tool or of a call.
const NAME_BYTES: usize = 256;
/// What the JSON of a text has besides the text.
const FRAME_BYTES: usize = 64;

/// Names are a runner's words as well.
fn shorten(name: &mut String) {
    if truncate(name, NAME_BYTES) {
        name.push('…');
    }
}

/// The sink of one turn.
#[derive(Debug)]
pub struct Sink {
    events: Events,
    turn: TurnId,
    bytes_left: usize,
    events_left: usize,
    left_out: bool,
}

impl Sink {
    /// A sink with its whole allowance.
    pub fn new(events: Events, turn: TurnId) -> Self {
        Self { events, turn, bytes_left: TURN_BYTES, events_left: TURN_EVENTS, left_out: false }
    }

    /// Says what the platform says of a turn; never left out.
    pub async fn tell(&self, body: EventBody) {
        self.events.emit(&self.turn, body).await;
    }

    /// Says what the runner says. Waits while the gateway is behind. What is beyond the allowance is left out.
    pub async fn emit(&mut self, body: EventBody) {
        workspace::crash_point("agent");
        match body {
            EventBody::MessageDelta { text } => {
                for part in parts(&text, TEXT_BYTES) {
                    self.emit_one(EventBody::MessageDelta { text: part.to_owned() }).await;
                }
            }
            EventBody::ThinkingDelta { text } => {
                for part in parts(&text, TEXT_BYTES) {
                    self.emit_one(EventBody::ThinkingDelta { text: part.to_owned() }).await;
                }
            }
            other => self.emit_one(other).await,
        }
    }

    async fn emit_one(&mut self, mut body: EventBody) {
        match &mut body {
            EventBody::MessageDelta { text } | EventBody::ThinkingDelta { text } => {
                self.left_out |= truncate(text, self.bytes_left.saturating_sub(FRAME_BYTES));
            }
            EventBody::ToolCall { args, tool, call_id } => {
                shorten(tool);
                shorten(call_id);
                let mut text = args.to_string();
                if truncate(&mut text, ARGS_BYTES) {
                    *args = Value::String(text + "…");
                }
            }
            EventBody::ToolResult { summary, call_id, .. } => {
                shorten(call_id);
                if truncate(summary, SUMMARY_BYTES) {
                    summary.push('…');
                }
            }
            _ => {}
        }
        // Every field of every type, as it goes over the wire.
        let bytes = serde_json::to_string(&body).map_or(usize::MAX, |json| json.len());
        if self.events_left == 0 || bytes > self.bytes_left {
            self.left_out = true;
            self.bytes_left = 0;
            return;
        }
        self.events_left -= 1;
        self.bytes_left -= bytes;
        self.events.emit(&self.turn, body).await;
    }

    /// Whether something was left out.
    pub fn left_out(&self) -> bool {
        self.left_out
    }

    /// Which turn.
    pub fn turn(&self) -> &TurnId {
        &self.turn
    }
}
