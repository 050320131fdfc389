//! What the script says, and how it goes over the wire.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use tokio::sync::Notify;
use ulid::Ulid;

/// Holds an answer back until the test opens it.
pub type Gate = Arc<Notify>;

/// One block of an answer.
#[derive(Debug, Clone)]
pub enum Block {
    /// What the model says.
    Text(String),
    /// What it thinks.
    Thinking(String),
    /// A call of a tool.
    Tool {
        /// The tool.
        name: String,
        /// Its input.
        input: Value,
    },
    /// Nothing on the wire: what follows waits for the gate.
    Hold(Gate),
    /// The connection breaks here.
    Break,
}

/// One answer.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A message.
    Message(Vec<Block>),
    /// An error of the API.
    Error {
        /// HTTP status.
        status: u16,
        /// Its text.
        message: String,
    },
}

impl Reply {
    /// A text, and the end of the turn.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Message(vec![Block::Text(text.into())])
    }

    /// A call of a tool.
    pub fn tool(name: &str, input: Value) -> Self {
        Self::Message(vec![Block::Tool { name: name.into(), input }])
    }

    /// An error of the API, such as 529 (overloaded).
    pub fn error(status: u16, message: &str) -> Self {
        Self::Error { status, message: message.into() }
    }

    /// A call of `Write`.
    pub fn write(path: &str, content: &str) -> Self {
        Self::tool("Write", json!({ "file_path": path, "content": content }))
    }

    /// A call of `Bash`.
    pub fn bash(command: &str) -> Self {
        Self::tool("Bash", json!({ "command": command, "description": "scripted" }))
    }

    pub(super) async fn into_response(self, model: &str, stream: bool) -> Response {
        match self {
            Self::Error { status, message } => error(status, &message),
            Self::Message(blocks) if stream => streamed(model, blocks),
            Self::Message(blocks) => whole(model, blocks).await,
        }
    }
}

fn error(status: u16, message: &str) -> Response {
    let kind = match status {
        400 => "invalid_request_error",
        401 => "authentication_error",
        429 => "rate_limit_error",
        529 => "overloaded_error",
        _ => "api_error",
    };
    let code = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (code, axum::Json(json!({ "type": "error", "error": { "type": kind, "message": message } }))).into_response()
}

/// Figures that are the same in every answer, so that a test can add them up.
fn usage() -> Value {
    json!({ "input_tokens": 100, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 20 })
}

fn stop_reason(blocks: &[Block]) -> &'static str {
    if blocks.iter().any(|b| matches!(b, Block::Tool { .. })) { "tool_use" } else { "end_turn" }
}

async fn whole(model: &str, blocks: Vec<Block>) -> Response {
    let stop = stop_reason(&blocks);
    let mut content = Vec::new();
    for block in blocks {
        match block {
            Block::Text(text) => content.push(json!({ "type": "text", "text": text })),
            Block::Thinking(text) => {
                content.push(json!({ "type": "thinking", "thinking": text, "signature": "c2lnbmVk" }))
            }
            Block::Tool { name, input } => {
                content.push(json!({ "type": "tool_use", "id": call_id(), "name": name, "input": input }));
            }
            Block::Hold(gate) => gate.notified().await,
            Block::Break => return stream_body([Step::Break].into()),
        }
    }
    let id = format!("msg_{}", Ulid::new());
    axum::Json(json!({ "id": id, "type": "message", "role": "assistant", "model": model, "content": content,
        "stop_reason": stop, "stop_sequence": null, "usage": usage() }))
    .into_response()
}

enum Step {
    Send(Bytes),
    Hold(Gate),
    Break,
}

fn streamed(model: &str, blocks: Vec<Block>) -> Response {
    let stop = stop_reason(&blocks);
    let mut started = usage();
    started["output_tokens"] = 1.into();
    let message = json!({ "id": format!("msg_{}", Ulid::new()), "type": "message", "role": "assistant", "model": model,
        "content": [], "stop_reason": null, "stop_sequence": null, "usage": started });
    let mut steps = VecDeque::from([frame(&json!({ "type": "message_start", "message": message }))]);
    let mut index = 0;
    for block in blocks {
        match block {
            Block::Hold(gate) => steps.push_back(Step::Hold(gate)),
            Block::Break => steps.push_back(Step::Break),
            block => {
                content_block(&mut steps, index, block);
                index += 1;
            }
        }
    }
    steps.push_back(frame(&json!({ "type": "message_delta",
        "delta": { "stop_reason": stop, "stop_sequence": null }, "usage": { "output_tokens": 20 } })));
    steps.push_back(frame(&json!({ "type": "message_stop" })));
    stream_body(steps)
}

fn content_block(steps: &mut VecDeque<Step>, index: usize, block: Block) {
    let (start, deltas) = match block {
        Block::Text(text) => {
            let deltas = pieces(&text).map(|p| json!({ "type": "text_delta", "text": p })).collect();
            (json!({ "type": "text", "text": "" }), deltas)
        }
        Block::Thinking(text) => {
            let mut deltas: Vec<_> =
                pieces(&text).map(|p| json!({ "type": "thinking_delta", "thinking": p })).collect();
            deltas.push(json!({ "type": "signature_delta", "signature": "c2lnbmVk" }));
            (json!({ "type": "thinking", "thinking": "", "signature": "" }), deltas)
        }
        Block::Tool { name, input } => {
            let text = input.to_string();
            let deltas = pieces(&text).map(|p| json!({ "type": "input_json_delta", "partial_json": p })).collect();
            (json!({ "type": "tool_use", "id": call_id(), "name": name, "input": {} }), deltas)
        }
        Block::Hold(_) | Block::Break => return,
    };
    steps.push_back(frame(&json!({ "type": "content_block_start", "index": index, "content_block": start })));
    for delta in deltas {
        steps.push_back(frame(&json!({ "type": "content_block_delta", "index": index, "delta": delta })));
    }
    steps.push_back(frame(&json!({ "type": "content_block_stop", "index": index })));
}

/// A text in pieces of about the size that models send.
fn pieces(text: &str) -> impl Iterator<Item = String> {
    let characters: Vec<char> = text.chars().collect();
    let pieces: Vec<String> = characters.chunks(16).map(|c| c.iter().collect()).collect();
    pieces.into_iter()
}

fn call_id() -> String {
    format!("toolu_{}", Ulid::new())
}

fn frame(event: &Value) -> Step {
    let name = event["type"].as_str().unwrap_or_default();
    Step::Send(format!("event: {name}\ndata: {event}\n\n").into())
}

fn stream_body(steps: VecDeque<Step>) -> Response {
    let stream = futures_util::stream::unfold(steps, |mut steps| async {
        loop {
            match steps.pop_front()? {
                Step::Send(bytes) => {
                    // One frame, one write: what came before a break or a hold has then been seen by the reader.
                    tokio::task::yield_now().await;
                    return Some((Ok(bytes), steps));
                }
                Step::Hold(gate) => gate.notified().await,
                Step::Break => {
                    return Some((Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)), VecDeque::new()));
                }
            }
        }
    });
    ([(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-cache")], Body::from_stream(stream))
        .into_response()
}
