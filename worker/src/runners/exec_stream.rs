//! Reads what an `exec` program prints: text, or a line that is a JSON object of a known `type`.

use contract::EventBody;
use serde::Deserialize;
use serde_json::Value;

use super::lines::Piece;
use crate::text::truncate;

/// A line of stdout that is no text.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum Said {
    MessageDelta {
        text: String,
    },
    ThinkingDelta {
        text: String,
    },
    ToolCall {
        tool: String,
        #[serde(default)]
        args: Value,
        #[serde(rename = "callId")]
        call_id: String,
    },
    ToolResult {
        #[serde(rename = "callId")]
        call_id: String,
        #[serde(default = "yes")]
        ok: bool,
        #[serde(default)]
        summary: String,
    },
    Result(Answer),
}

/// What the program says of its own run.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Answer {
    pub ok: Option<bool>,
    pub reply: Option<String>,
    pub output: Option<Value>,
    #[serde(alias = "sessionId")]
    pub session_id: Option<String>,
    pub detail: Option<String>,
}

fn yes() -> bool {
    true
}

/// What the program has printed so far, as far as it matters.
#[derive(Debug)]
pub(super) struct Printed {
    /// The last result that it gave.
    pub answer: Option<Answer>,
    /// All text, up to the bound.
    pub reply: String,
    /// Whether there was more.
    pub cut: bool,
    /// Text of which no event was made yet: what one read brought becomes one.
    text: String,
    max_reply_bytes: usize,
}

impl Printed {
    /// Nothing yet.
    pub fn new(max_reply_bytes: usize) -> Self {
        Self { answer: None, reply: String::new(), cut: false, text: String::new(), max_reply_bytes }
    }

    /// Takes a piece; gives the events that it means, in order with the text around them.
    pub fn piece(&mut self, piece: Piece<'_>) -> Vec<EventBody> {
        match piece {
            Piece::Pause => self.flush().into_iter().collect(),
            Piece::Part(bytes) => {
                self.text.push_str(&String::from_utf8_lossy(bytes));
                Vec::new()
            }
            Piece::Line(line) => match said(line) {
                Some(said) => self.say(said),
                None => {
                    self.text.push_str(&String::from_utf8_lossy(line));
                    self.text.push('\n');
                    Vec::new()
                }
            },
        }
    }

    fn say(&mut self, said: Said) -> Vec<EventBody> {
        let body = match said {
            Said::MessageDelta { text } => {
                self.text.push_str(&text);
                return Vec::new();
            }
            Said::Result(answer) => {
                self.answer = Some(answer);
                return Vec::new();
            }
            Said::ThinkingDelta { text } => EventBody::ThinkingDelta { text },
            Said::ToolCall { tool, args, call_id } => EventBody::ToolCall { tool, args, call_id },
            Said::ToolResult { call_id, ok, summary } => EventBody::ToolResult { call_id, ok, summary },
        };
        self.flush().into_iter().chain([body]).collect()
    }

    fn flush(&mut self) -> Option<EventBody> {
        if self.text.is_empty() {
            return None;
        }
        let text = std::mem::take(&mut self.text);
        if !self.cut {
            self.reply.push_str(&text);
            self.cut = truncate(&mut self.reply, self.max_reply_bytes);
        }
        Some(EventBody::MessageDelta { text })
    }
}

fn said(line: &[u8]) -> Option<Said> {
    if line.first() != Some(&b'{') { None } else { serde_json::from_slice(line).ok() }
}
