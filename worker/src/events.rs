//! What one turn says, bounded: a runner that prints without end neither fills the out-stream nor anybody's memory.

use contract::{EventBody, TurnId};

use crate::bounds::{TEXT_BYTES, fit};
use crate::link::Events;
use crate::text::{parts, truncate};

/// Bytes of texts, names, arguments and summaries that one turn may emit.
const TURN_BYTES: usize = 1 << 20;
/// Events that one turn may emit beside those that end it.
const TURN_EVENTS: usize = 9_000;

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
    pub async fn tell(&self, mut body: EventBody) {
        fit(&mut body);
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
        fit(&mut body);
        let bytes = match &mut body {
            EventBody::MessageDelta { text } | EventBody::ThinkingDelta { text } => {
                self.left_out |= truncate(text, self.bytes_left);
                text.len()
            }
            EventBody::ToolCall { tool, args, call_id } => tool.len() + call_id.len() + args.to_string().len(),
            EventBody::ToolResult { call_id, summary, .. } => call_id.len() + summary.len(),
            _ => 0,
        };
        if self.events_left == 0 || self.bytes_left == 0 || bytes > self.bytes_left {
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
