//! What an agent CLI asked, and what of it a script or an assertion wants to know.

use axum::http::HeaderMap;
use serde_json::Value;

/// One request for a message.
#[derive(Debug, Clone)]
pub struct Request {
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Value,
}

/// What a tool call came to, as the CLI tells the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// `id` of the call.
    pub id: String,
    /// Its text.
    pub text: String,
    /// Whether the call failed or was refused.
    pub is_error: bool,
}

impl Request {
    /// What the person said last. What the CLI puts around it (reminders, mid-conversation system turns) is left out.
    pub fn prompt(&self) -> String {
        self.said("user").pop().unwrap_or_default()
    }

    /// All that one side said, in order, without reminders; tool calls and their results are not speech.
    pub fn said(&self, role: &str) -> Vec<String> {
        self.messages().iter().filter(|m| m["role"] == role).flat_map(|m| texts(&m["content"])).collect()
    }

    /// Results of the tool calls since the model's last answer; empty when a person spoke last.
    pub fn tool_results(&self) -> Vec<ToolResult> {
        let Some(last) = self.messages().iter().rev().find(|m| m["role"] == "user") else {
            return Vec::new();
        };
        blocks(last, "tool_result")
            .map(|b| ToolResult {
                id: b["tool_use_id"].as_str().unwrap_or_default().into(),
                text: texts(&b["content"]).join("\n"),
                is_error: b["is_error"] == true,
            })
            .collect()
    }

    /// Names of the tools that the model called in the conversation so far, in order.
    pub fn called(&self) -> Vec<String> {
        let calls = self.messages().iter().flat_map(|m| blocks(m, "tool_use"));
        calls.filter_map(|b| b["name"].as_str()).map(str::to_owned).collect()
    }

    /// Names of the tools that the model is offered.
    pub fn tools(&self) -> Vec<&str> {
        self.body["tools"].as_array().into_iter().flatten().filter_map(|t| t["name"].as_str()).collect()
    }

    /// The system prompt, and the system turns within the conversation.
    pub fn system(&self) -> String {
        let mut all = texts(&self.body["system"]);
        all.extend(self.said("system"));
        all.join("\n")
    }

    /// A header's text, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    /// Why the real endpoint would refuse this.
    pub(super) fn fault(&self) -> Option<&'static str> {
        if self.header("anthropic-version").is_empty() {
            return Some("anthropic-version: header is required");
        }
        if self.header("x-api-key").is_empty() && self.header("authorization").is_empty() {
            return Some("x-api-key: header is required");
        }
        if !self.body["model"].is_string() || !self.body["max_tokens"].is_u64() {
            return Some("model, max_tokens: Field required");
        }
        if self.messages().is_empty() {
            return Some("messages: at least one message is required");
        }
        None
    }

    fn messages(&self) -> &[Value] {
        self.body["messages"].as_array().map_or(&[], Vec::as_slice)
    }
}

fn blocks<'a>(message: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    message["content"].as_array().into_iter().flatten().filter(move |b| b["type"] == kind)
}

/// Content is a text, or blocks of which some are texts.
fn texts(content: &Value) -> Vec<String> {
    let all: Vec<&str> = match content {
        Value::String(text) => vec![text],
        Value::Array(blocks) => {
            blocks.iter().filter(|b| b["type"] == "text").filter_map(|b| b["text"].as_str()).collect()
        }
        _ => Vec::new(),
    };
    all.into_iter().filter(|t| !t.trim_start().starts_with("<system-reminder>")).map(str::to_owned).collect()
}
