//! Reads what the Claude Code CLI prints with `--output-format stream-json`: one JSON object a line, `type` anywhere in it.
//!
//! Text and thinking are taken from the partial messages, tool calls from whole ones. Types that are not known here are
//! ignored, and so are lines that are no JSON. The fixtures beside this file are what the real CLI printed.

use contract::{EventBody, Usage};
use serde::Deserialize;
use serde_json::Value;

/// A line that means something here.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Line {
    System(System),
    StreamEvent(Partial),
    Assistant(Whole),
    User(Whole),
    Result(Box<RunResult>),
    #[serde(other)]
    Other,
}

#[derive(Debug, Deserialize)]
struct System {
    subtype: String,
    session_id: Option<String>,
    model: Option<String>,
    error: Option<Value>,
    error_status: Option<u16>,
}

#[derive(Debug, Deserialize)]
struct Partial {
    event: Value,
    parent_tool_use_id: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Whole {
    message: Message,
}

#[derive(Debug, Deserialize)]
struct Message {
    #[serde(default)]
    content: Value,
}

/// The last word of a run.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RunResult {
    #[serde(default)]
    pub subtype: String,
    #[serde(default)]
    pub is_error: bool,
    pub stop_reason: Option<String>,
    pub session_id: Option<String>,
    pub result: Option<String>,
    pub structured_output: Option<Value>,
    #[serde(default)]
    pub errors: Vec<String>,
    #[serde(default)]
    pub total_cost_usd: f64,
    #[serde(default)]
    pub usage: Tokens,
    #[serde(default, rename = "modelUsage")]
    pub model_usage: serde_json::Map<String, Value>,
    #[serde(default)]
    pub num_turns: u64,
    #[serde(default)]
    pub permission_denials: Vec<Denial>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Tokens {
    input_tokens: u64,
    output_tokens: u64,
    cache_read_input_tokens: u64,
    cache_creation_input_tokens: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Denial {
    #[serde(default)]
    tool_name: String,
}

impl RunResult {
    /// Success is this and nothing else. (An API error says `success`, too, with `is_error` set.)
    pub fn is_success(&self) -> bool {
        self.subtype == "success" && !self.is_error && self.stop_reason.as_deref() != Some("tool_deferred")
    }

    /// Whether this is the answer to `--resume` of a session that the CLI does not have: nothing was asked of a model.
    pub fn is_unknown_session(&self) -> bool {
        self.is_error && self.num_turns == 0 && self.errors.iter().any(|e| e.contains("No conversation found"))
    }

    /// Why it was no success.
    pub fn complaint(&self) -> String {
        let said = if self.errors.is_empty() { self.result.clone() } else { Some(self.errors.join("; ")) };
        match (said.filter(|said| !said.is_empty()), self.stop_reason.as_deref()) {
            (Some(said), _) if self.subtype == "success" => said,
            (Some(said), _) => format!("{}: {said}", self.subtype),
            (None, Some("tool_deferred")) => "the agent put off a tool call and did not finish".into(),
            (None, _) => self.subtype.clone(),
        }
    }

    /// Tools that the agent was not allowed to use, each once.
    pub fn denied_tools(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.permission_denials.iter().map(|denial| denial.tool_name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }

    /// What the turn used. The CLI reckons the cost of the whole session, so what it cost before is taken off.
    pub fn usage(&self, cost_before: f64, model: Option<&str>) -> Usage {
        let dearest = self.model_usage.iter().max_by(|(_, a), (_, b)| {
            let cost = |usage: &Value| usage["costUSD"].as_f64().unwrap_or_default();
            cost(a).total_cmp(&cost(b))
        });
        let since = self.total_cost_usd - cost_before;
        Usage {
            input_tokens: self.usage.input_tokens,
            output_tokens: self.usage.output_tokens,
            cache_read_tokens: self.usage.cache_read_input_tokens,
            cache_write_tokens: self.usage.cache_creation_input_tokens,
            model: dearest.map(|(name, _)| name.clone()).or_else(|| model.map(Into::into)),
            // Less than before: the CLI has begun to count anew.
            cost_usd: Some(if since < 0.0 { self.total_cost_usd } else { since }),
        }
    }
}

/// What the stream has said so far.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub session_id: Option<String>,
    pub model: Option<String>,
    /// Why the last request to the model was repeated; the likeliest reason of a run that has to be ended.
    pub last_retry: Option<String>,
    pub result: Option<RunResult>,
    said_text: bool,
    /// The next text begins a paragraph.
    new_text: bool,
}

impl Stream {
    /// Takes one line; gives the events that it means.
    pub fn line(&mut self, line: &[u8]) -> Vec<EventBody> {
        match serde_json::from_slice(line) {
            Ok(Line::System(system)) => self.system(system),
            // A subagent's partial messages are not the answer.
            Ok(Line::StreamEvent(partial)) if partial.parent_tool_use_id.is_none() => self.partial(&partial.event),
            Ok(Line::Assistant(whole)) => blocks(whole, tool_call),
            Ok(Line::User(whole)) => blocks(whole, tool_result),
            Ok(Line::Result(result)) => {
                self.result = Some(*result);
                Vec::new()
            }
            Ok(_) | Err(_) => Vec::new(),
        }
    }

    fn partial(&mut self, event: &Value) -> Vec<EventBody> {
        if event["content_block"]["type"] == "text" {
            self.new_text = self.said_text;
        }
        let delta = &event["delta"];
        let body = match delta["type"].as_str() {
            Some("text_delta") => delta["text"].as_str().filter(|text| !text.is_empty()).map(|text| {
                // What is said after a tool call, or again after a broken connection, is a paragraph of its own.
                let gap = if std::mem::take(&mut self.new_text) { "\n\n" } else { "" };
                self.said_text = true;
                EventBody::MessageDelta { text: format!("{gap}{text}") }
            }),
            Some("thinking_delta") => {
                delta["thinking"].as_str().map(|text| EventBody::ThinkingDelta { text: text.to_owned() })
            }
            _ => None,
        };
        body.into_iter().collect()
    }

    fn system(&mut self, system: System) -> Vec<EventBody> {
        match system.subtype.as_str() {
            "init" => {
                self.session_id = system.session_id.or(self.session_id.take());
                self.model = system.model.or(self.model.take());
            }
            "api_retry" => {
                let what = match system.error {
                    Some(Value::String(text)) => text,
                    Some(other) => other.to_string(),
                    None => "an error".into(),
                };
                let status = system.error_status.map(|status| format!(" ({status})")).unwrap_or_default();
                self.last_retry = Some(what + &status);
            }
            _ => {}
        }
        Vec::new()
    }
}

fn blocks(whole: Whole, body: fn(Value) -> Option<EventBody>) -> Vec<EventBody> {
    match whole.message.content {
        Value::Array(blocks) => blocks.into_iter().filter_map(body).collect(),
        _ => Vec::new(),
    }
}

fn tool_call(mut block: Value) -> Option<EventBody> {
    if block["type"] != "tool_use" {
        return None;
    }
    Some(EventBody::ToolCall {
        tool: block["name"].as_str()?.to_owned(),
        call_id: block["id"].as_str()?.to_owned(),
        args: block["input"].take(),
    })
}

fn tool_result(block: Value) -> Option<EventBody> {
    if block["type"] != "tool_result" {
        return None;
    }
    let summary = match &block["content"] {
        Value::String(text) => text.clone(),
        Value::Array(parts) => parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n"),
        _ => String::new(),
    };
    let ok = block["is_error"] != true;
    Some(EventBody::ToolResult { call_id: block["tool_use_id"].as_str()?.to_owned(), ok, summary })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn play(fixture: &str) -> (Stream, Vec<EventBody>) {
        let mut stream = Stream::default();
        let events = fixture.lines().flat_map(|line| stream.line(line.as_bytes())).collect();
        (stream, events)
    }

    macro_rules! play {
        ($name:literal) => {
            play(include_str!(concat!("fixtures/claude-", $name, ".jsonl")))
        };
    }

    fn texts(events: &[EventBody]) -> String {
        events
            .iter()
            .filter_map(|e| if let EventBody::MessageDelta { text } = e { Some(text.as_str()) } else { None })
            .collect()
    }

    #[test]
    fn a_turn_with_a_tool() {
        let (stream, events) = play!("write");
        assert_eq!(stream.session_id.as_deref(), Some("3b7c0c6e-5f0a-4f0e-9d6b-0d8f3c1a2b34"));
        assert_eq!(texts(&events), "I will write it.\n\nI wrote notes.md about reaping.");
        let kinds: Vec<_> = events.iter().map(EventBody::name).collect();
        assert_eq!(kinds[..5], ["thinking-delta", "message-delta", "message-delta", "tool-call", "tool-result"]);
        let EventBody::ToolCall { tool, args, call_id } = &events[3] else { panic!("no call") };
        assert_eq!((tool.as_str(), &args["file_path"]), ("Write", &"/workspace/notes.md".into()));
        let EventBody::ToolResult { call_id: answered, ok: true, summary } = &events[4] else { panic!("no answer") };
        assert_eq!(answered, call_id);
        assert!(summary.starts_with("File created"), "{summary}");
        let result = stream.result.unwrap();
        assert!(result.is_success());
        assert_eq!(result.result.as_deref(), Some("I wrote notes.md about reaping."));
        let usage = result.usage(0.0, None);
        assert_eq!((usage.input_tokens, usage.output_tokens, usage.cache_read_tokens), (200, 40, 14));
        assert_eq!(usage.model.as_deref(), Some("claude-opus-5-5"));
    }

    #[test]
    fn the_cost_of_a_resumed_turn_is_the_difference() {
        let before = play!("write").0.result.unwrap().total_cost_usd;
        let result = play!("resume").0.result.unwrap();
        let cost = result.usage(before, None).cost_usd.unwrap();
        assert!((cost - 0.000_801_4).abs() < 1e-9, "{cost}");
        assert_eq!(result.usage(1.0, None).cost_usd, Some(result.total_cost_usd), "counted anew");
    }

    #[test]
    fn what_is_no_success() {
        for (fixture, says) in [
            (play!("api-error"), "API Error: 400"),
            (play!("budget"), "error_max_budget_usd: Reached maximum budget"),
            (play!("max-turns"), "error_max_turns: Reached maximum number of turns"),
            (play!("resume-unknown"), "No conversation found"),
        ] {
            let result = fixture.0.result.unwrap();
            assert!(!result.is_success(), "{says}");
            assert!(result.complaint().contains(says), "{}", result.complaint());
            assert_eq!(result.is_unknown_session(), says.starts_with("No conv"), "{says}");
        }
        let deferred =
            RunResult { subtype: "success".into(), stop_reason: Some("tool_deferred".into()), ..Default::default() };
        assert!(!deferred.is_success());
        assert!(deferred.complaint().contains("put off"));
    }

    #[test]
    fn a_schemas_answer_is_kept_apart() {
        let (stream, _) = play!("structured");
        let result = stream.result.unwrap();
        assert!(result.is_success());
        assert_eq!(result.structured_output, Some(serde_json::json!({"answer": 42})));
    }

    #[test]
    fn denials_and_retries_are_known() {
        let (stream, events) = play!("denied");
        assert_eq!(stream.result.unwrap().denied_tools(), ["Write"]);
        assert!(events.iter().any(|e| matches!(e, EventBody::ToolResult { ok: false, .. })));
        let (stream, _) = play!("retry-midstream");
        assert!(stream.last_retry.is_some());
        assert!(stream.result.unwrap().is_success());
    }

    #[test]
    fn a_run_that_was_ended_has_no_result() {
        let (stream, _) = play!("sigterm");
        assert!(stream.result.is_none());
        assert!(stream.session_id.is_some());
    }

    #[test]
    fn strange_lines_are_ignored() {
        let mut stream = Stream::default();
        for line in [
            &b"not json"[..],
            b"\xff\xfe",
            b"{}",
            b"[]",
            br#"{"type":"tomorrow","x":1}"#,
            br#"{"type":"assistant","message":{"content":"text"}}"#,
            br#"{"type":"assistant","message":{"content":[{"type":"tool_use"}]}}"#,
            br#"{"type":"stream_event","event":7,"parent_tool_use_id":null}"#,
            br#"{"type":"stream_event","event":{"delta":{"type":"text_delta","text":"sub"}},"parent_tool_use_id":"t"}"#,
        ] {
            assert_eq!(stream.line(line), [], "{}", String::from_utf8_lossy(line));
        }
    }
}
