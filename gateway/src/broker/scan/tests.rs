//! Answers as the public documentation of both APIs shows them, and as nobody should send them.

use http::HeaderValue;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn scanner(api: Api, kind: &'static str) -> Scanner {
    let headers = [(header::CONTENT_TYPE, HeaderValue::from_static(kind))].into_iter().collect();
    Scanner::new(api, &headers)
}

fn read(api: Api, kind: &'static str, text: &str) -> Seen {
    let mut scanner = scanner(api, kind);
    scanner.feed(text.as_bytes());
    scanner.seen().clone()
}

fn stream(events: &[serde_json::Value]) -> String {
    let event = |event: &serde_json::Value| match event["type"].as_str() {
        Some(kind) => format!("event: {kind}\ndata: {event}\n\n"),
        None => format!("data: {event}\n\n"),
    };
    events.iter().map(event).collect()
}

fn messages() -> String {
    let usage = json!({"input_tokens": 100, "cache_creation_input_tokens": 50, "cache_read_input_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30}, "output_tokens": 1});
    stream(&[
        json!({"type": "message_start", "message": {"id": "m", "model": "claude-x-1", "content": [], "usage": usage}}),
        json!({"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "input": {}}}),
        json!({"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta",
            "partial_json": "{\"usage\":{\"output_tokens\":9000}}\\\"", "usage": {"output_tokens": 8000}}}),
        json!({"type": "ping"}),
        json!({"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 20}}),
        json!({"type": "message_stop"}),
    ])
}

const MESSAGES: Tokens =
    Tokens { input: 100, output: 20, cache_read: 7, cache_write_5m: 20, cache_write_1h: 30, reasoning: 0 };

#[test]
fn a_stream_of_messages() {
    let seen = read(Api::Anthropic, "text/event-stream; charset=utf-8", &messages());
    assert_eq!((seen.tokens(), seen.model.as_deref()), (MESSAGES, Some("claude-x-1")));
    assert!(seen.complete);
    assert_eq!(seen.events, 6);
    // Cut before the end: what was seen, and that it is not all.
    let cut = messages();
    let seen = read(Api::Anthropic, "text/event-stream", cut.split("event: message_delta").next().unwrap());
    assert_eq!(seen.tokens(), Tokens { output: 1, ..MESSAGES });
    assert!(!seen.complete);
}

#[test]
fn a_whole_message() {
    let usage = json!({"input_tokens": 3, "output_tokens": 4, "cache_creation_input_tokens": 5});
    let text = json!({"model": "claude-x", "content": [{"usage": {"input_tokens": 9}}], "usage": usage}).to_string();
    let seen = read(Api::Anthropic, "application/json", &text);
    let tokens = Tokens { input: 3, output: 4, cache_write_5m: 5, ..Tokens::default() };
    assert_eq!((seen.tokens(), seen.complete), (tokens, true));
    // What counts tokens uses none.
    assert_eq!(read(Api::Anthropic, "application/json", r#"{"input_tokens": 9}"#).tokens(), Tokens::default());
}

#[test]
fn responses_and_chat_completions() {
    let usage = json!({"input_tokens": 100, "input_tokens_details": {"cached_tokens": 40}, "output_tokens": 30,
        "output_tokens_details": {"reasoning_tokens": 10}, "total_tokens": 130});
    let tokens = Tokens { input: 60, output: 30, cache_read: 40, reasoning: 10, ..Tokens::default() };
    let events = stream(&[
        json!({"type": "response.created", "response": {"model": "gpt-x", "usage": null}}),
        json!({"type": "response.output_text.delta", "delta": "hi"}),
        json!({"type": "response.completed", "response": {"model": "gpt-x", "usage": usage}}),
    ]);
    let seen = read(Api::OpenAi, "text/event-stream", &events);
    assert_eq!((seen.tokens(), seen.model.as_deref(), seen.complete), (tokens, Some("gpt-x"), true));
    let whole = json!({"model": "gpt-x", "usage": usage}).to_string();
    assert_eq!(read(Api::OpenAi, "application/json", &whole).tokens(), tokens);

    let usage = json!({"prompt_tokens": 100, "completion_tokens": 30, "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 10}});
    let mut chat = stream(&[
        json!({"model": "gpt-x", "choices": [{"delta": {"content": "hi"}}], "usage": null}),
        json!({"model": "gpt-x", "choices": [], "usage": usage}),
    ]);
    chat.push_str("data: [DONE]\n\n");
    let seen = read(Api::OpenAi, "text/event-stream", &chat);
    assert_eq!((seen.tokens(), seen.complete, seen.events), (tokens, true, 3));
    let without = stream(&[json!({"model": "gpt-x", "choices": []})]);
    assert!(!read(Api::OpenAi, "text/event-stream", &without).complete);
}

#[test]
fn what_is_not_plain_is_not_read() {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CONTENT_ENCODING, HeaderValue::from_static("gzip")),
    ];
    let mut scanner = Scanner::new(Api::Anthropic, &headers.into_iter().collect());
    scanner.feed(br#"{"usage":{"output_tokens":3}}"#);
    assert_eq!(scanner.seen().tokens(), Tokens::default());
    assert_eq!(scanner.seen().bytes, 29);
}

proptest! {
    #[test]
    fn pieces_do_not_matter(cuts in proptest::collection::vec(1usize..40, 0..200), line_ends in 0usize..3, which in 0usize..2) {
        let text = messages().replace('\n', ["\n", "\r\n", "\r"][line_ends]);
        let (kind, text) = match which {
            0 => ("text/event-stream", text),
            _ => ("application/json", json!({"model": "a", "usage": {"input_tokens": 12, "output_tokens": 3.0}}).to_string()),
        };
        let whole = read(Api::Anthropic, kind, &text);
        let mut scanner = scanner(Api::Anthropic, kind);
        let mut rest = text.as_bytes();
        for cut in cuts {
            let (piece, more) = rest.split_at(cut.min(rest.len()));
            scanner.feed(piece);
            rest = more;
        }
        scanner.feed(rest);
        prop_assert_eq!(scanner.seen(), &whole);
        prop_assert!(whole.complete);
    }

    #[test]
    fn any_bytes_in_any_pieces_are_read_the_same(text in "[\\[\\]{}\",:a0\\\\\n\r ]{0,300}|(data: ?[{}\"a:,\\[\\]]{0,20}\r?\n){0,20}", at in 0usize..300) {
        for kind in ["text/event-stream", "application/json"] {
            let whole = read(Api::OpenAi, kind, &text);
            let mut scanner = scanner(Api::OpenAi, kind);
            let (one, two) = text.as_bytes().split_at(at.min(text.len()));
            scanner.feed(one);
            scanner.feed(two);
            prop_assert_eq!(scanner.seen(), &whole);
        }
    }
}
