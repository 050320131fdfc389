//! Requests as clients send them, and as somebody would who wants more than an answer.

mod written;

use serde_json::{Value as Any, json};

use super::*;

fn read_bytes(bytes: &[u8], allow: &[&str]) -> Result<Option<String>, Unasked> {
    let mut asked = Asked::new(Allowed(allow.iter().map(|word| (*word).to_owned()).collect()));
    asked.feed(bytes, true)?;
    Ok(asked.model().cloned())
}

fn read(body: &Any, allow: &[&str]) -> Result<(), Unasked> {
    read_bytes(body.to_string().as_bytes(), allow).map(drop)
}

/// The word in `allow` that a refusal names.
fn word(refused: Result<(), Unasked>) -> Option<String> {
    match refused {
        Err(Unasked::Stored { kind, .. } | Unasked::AtProvider { kind, .. }) => Some(kind),
        _ => None,
    }
}

/// As Claude Code and Codex send them, with everything in its place that is refused elsewhere.
fn plain() -> Vec<Any> {
    let words = json!({"type": "web_search", "file_id": "f", "url": "http://x", "background": true, "store": true,
        "previous_response_id": "r", "tools": [{"type": "mcp"}], "source": {"url": "x"}, "content": [{"file_id": "f"}]});
    let schema = json!({"type": "object", "properties": words, "required": ["file_id"]});
    let said = format!("use {words} and \"background\": true");
    vec![
        json!({"model": "claude-x", "max_tokens": 9, "stream": true, "system": [{"type": "text", "text": said}],
            "metadata": words, "thinking": {"type": "enabled"}, "mcp_servers": [], "container": null,
            "tool_choice": {"type": "tool", "name": "web_search"}, "context_management": {"edits": [words]},
            "tools": [
                {"name": "Read", "input_schema": schema, "cache_control": {"type": "ephemeral"}},
                {"type": "custom", "name": "web_search", "input_schema": schema}, {"type": null, "name": "x"},
                {"type": "bash_20250124", "name": "bash"}, {"type": "text_editor_20250728", "name": "e"},
                {"type": "computer_20251124", "name": "computer"}, {"type": "memory_20250818", "name": "memory"},
                {"type": "tool_search_tool_bm25_20251119", "name": "s"},
            ],
            "messages": [
                {"role": "user", "content": said},
                {"role": "assistant", "content": [
                    {"type": "thinking", "thinking": said, "signature": "x"},
                    {"type": "tool_use", "id": "t", "name": "web_search", "input": words}]},
                {"role": "user", "content": [
                    {"type": "tool_result", "tool_use_id": "t", "content": [
                        {"type": "text", "text": said},
                        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}},
                        {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": said}]}},
                        {"type": "search_result", "source": "https://example.com", "title": "t", "content": []}]}]}]}),
        json!({"model": "gpt-x", "store": false, "background": false, "previous_response_id": null, "instructions": said,
            "prompt_cache_key": "k", "include": ["reasoning.encrypted_content"], "text": {"format": {"schema": schema}},
            "tools": [{"type": "function", "name": "f", "parameters": schema}, {"type": "local_shell"},
                {"type": "custom", "name": "apply_patch", "format": {"type": "grammar"}}, {"type": "computer_use_preview"},
                {"type": "namespace", "name": "n", "tools": [{"type": "function", "name": "g", "parameters": schema}]}],
            "input": [
                {"role": "user", "content": said},
                {"type": "message", "role": "user", "content": [{"type": "input_text", "text": said},
                    {"type": "input_image", "image_url": format!("data:image/png;base64,{}", "A".repeat(3000))},
                    {"type": "input_file", "file_data": "data:x", "file_url": null, "file_id": null}]},
                {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x".repeat(3000)},
                {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": words.to_string()},
                {"type": "function_call_output", "call_id": "c", "output": said},
                {"type": "custom_tool_call", "call_id": "d", "name": "p", "input": said},
                {"type": "local_shell_call", "call_id": "e", "action": {"type": "exec", "command": ["x"]}}]}),
        json!({"model": "gpt-x", "store": null, "response_format": {"json_schema": {"schema": schema}},
            "audio": {"voice": "v", "format": "wav"}, "tools": [{"type": "function", "function": {"parameters": schema}}],
            "messages": [{"role": "user", "content": [{"type": "text", "text": said},
                    {"type": "image_url", "image_url": {"url": "DATA:image/png;base64,AA"}},
                    {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
                    {"type": "file", "file": {"file_data": "data:x", "filename": "x"}}]},
                {"role": "assistant", "content": null, "tool_calls": [{"id": "t", "function": {"arguments": said}}]},
                {"role": "tool", "tool_call_id": "t", "content": said}]}),
    ]
}

/// What is refused, with the word that opens it.
fn refused() -> Vec<(&'static str, Any)> {
    let tool = |kind: &str| json!({"tools": [{"type": "function"}, {"type": kind, "name": "x"}]});
    let said = |block: Any| json!({"messages": [{"role": "user", "content": [{"type": "text", "text": "x"}, block]}]});
    let item = |item: Any| json!({"input": [{"role": "user", "content": "x"}, item]});
    vec![
        ("store", json!({"store": true})),
        ("store", json!({"store": 1})),
        ("previous_response_id", json!({"previous_response_id": "resp_1"})),
        ("conversation", json!({"conversation": "conv_1"})),
        ("conversation", json!({"conversation": {"id": "conv_1"}})),
        ("prompt", json!({"prompt": {"id": "pmpt_1"}})),
        ("container", json!({"container": "container_1"})),
        ("container", json!({"container": {"skills": []}})),
        ("mcp", json!({"mcp_servers": [{"type": "url", "url": "https://evil.example"}]})),
        ("web_search", json!({"web_search_options": {}})),
        ("web_search", tool("web_search_20250305")),
        ("web_search", tool("web_search")),
        ("web_search", tool("web_search_preview_2025_03_11")),
        ("web_fetch", tool("web_fetch_20250910")),
        ("code_execution", tool("code_execution_20250825")),
        ("file_search", tool("file_search")),
        ("code_interpreter", tool("code_interpreter")),
        ("image_generation", tool("image_generation")),
        ("mcp", tool("mcp")),
        ("mcp", tool("mcp_toolset")),
        ("shell", tool("shell")),
        ("tomorrow", tool("tomorrow_20300101")),
        ("web_search", json!({"tools": {"type": "web_search"}})),
        ("web_search", json!({"tools": ["web_search"]})),
        ("web_search", json!({"tools": [[{"type": "web_search"}]]})),
        ("web_search", json!({"tools": [{"type": "namespace", "tools": [{"type": "web_search"}]}]})),
        ("vector_store_ids", json!({"tools": [{"name": "x", "vector_store_ids": ["vs_1"]}]})),
        ("container", json!({"tools": [{"name": "x", "container": "cntr_1"}]})),
        ("file_ids", json!({"tools": [{"name": "x", "container": {"type": "auto", "file_ids": ["f"]}}]})),
        ("file_id", json!({"tools": [{"name": "x", "input_image_mask": {"file_id": "f"}}]})),
        ("file_id", said(json!({"type": "container_upload", "file_id": "f"}))),
        ("file_id", said(json!({"type": "image", "source": {"type": "file", "file_id": "f"}}))),
        ("file_id", said(json!({"type": "tool_result", "content": [{"type": "image", "source": {"file_id": "f"}}]}))),
        ("file_id", said(json!({"type": "document", "source": {"content": [{"source": {"file_id": "f"}}]}}))),
        ("file_id", said(json!({"type": "file", "file": {"file_id": "f"}}))),
        ("url", said(json!({"type": "image", "source": {"type": "url", "url": "https://evil.example/?x"}}))),
        ("url", said(json!({"type": "image_url", "image_url": {"url": "https://evil.example/?x"}}))),
        ("url", json!({"messages": {"role": "user", "content": {"source": {"url": "https://evil.example/?x"}}}})),
        ("audio", json!({"messages": [{"role": "assistant", "audio": {"id": "audio_1"}}]})),
        ("file_id", item(json!({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}))),
        (
            "url",
            item(json!({"role": "user", "content": [{"type": "input_image", "image_url": "https://evil.example"}]})),
        ),
        ("url", item(json!({"role": "user", "content": [{"type": "input_file", "file_url": "https://evil.example"}]}))),
        ("file_id", item(json!({"type": "computer_call_output", "output": {"file_id": "f"}}))),
        ("item_reference", item(json!({"type": "item_reference", "id": "msg_1"}))),
        ("item_reference", item(json!({"id": "msg_1"}))),
        ("item_reference", item(json!({"id": "msg_1", "type": null}))),
        ("item_reference", item(json!({"type": "reasoning", "id": "rs_1", "summary": []}))),
        ("item_reference", item(json!({"type": "reasoning", "id": "rs_1", "encrypted_content": null}))),
        ("image_generation", item(json!({"type": "image_generation_call", "id": "ig_1"}))),
        ("code_interpreter", item(json!({"type": "code_interpreter_call", "container_id": null}))),
        ("container", item(json!({"type": "shell_call", "environment": {"container_id": "c"}}))),
        ("mcp", item(json!({"type": "mcp_approval_response", "approve": true}))),
    ]
}

#[test]
fn what_agent_clis_send_passes() {
    for body in plain() {
        assert_eq!(read(&body, &[]), Ok(()), "{body:#}");
    }
}

#[test]
fn each_refusal_names_the_word_that_opens_it_and_nothing_else() {
    let mut words: Vec<_> = refused().into_iter().map(|(word, _)| word).collect();
    for (opens, body) in refused() {
        assert_eq!(word(read(&body, &[])).as_deref(), Some(opens), "{body:#}");
        let others: Vec<_> = words.iter().copied().filter(|word| *word != opens).collect();
        assert_eq!(word(read(&body, &others)).as_deref(), Some(opens), "{body:#}");
        assert_ne!(word(read(&body, &[opens])).as_deref(), Some(opens), "{body:#}");
    }
    words.sort_unstable();
    words.dedup();
    // What is below something that is allowed has to be allowed by itself.
    for (_, body) in refused() {
        assert_eq!(read(&body, &words), Ok(()), "{body:#}");
    }
    let shell = json!({"tools": [{"type": "shell", "environment": {"container_id": "c"}}]});
    assert_eq!(word(read(&shell, &["shell"])).as_deref(), Some("container"));
    assert_eq!(word(read(&shell, &["container"])).as_deref(), Some("shell"));
    let prompt = json!({"prompt": {"id": "p", "variables": {"x": {"type": "input_file", "file_id": "f"}}}});
    assert_eq!(word(read(&prompt, &["prompt"])).as_deref(), Some("file_id"));
}

#[test]
fn anything_but_false_and_null_is_for_the_background() {
    for value in ["1", "0", "-1", "1.5", "\"true\"", "\"false\"", "\"\"", "true", "{}", "[]", "[false]", "[true]"] {
        for name in ["background", "back\\u0067round", "BACKGROUND", "Bac\\u212Aground", "\\u0062ackground"] {
            let text = format!("{{\"model\":\"m\", \"{name}\" : {value}}}");
            assert_eq!(read_bytes(text.as_bytes(), &["background"]), Err(Unasked::Background), "{text}");
        }
    }
    for value in ["false", "null"] {
        let text = format!("{{\"model\":\"gpt x\",\"background\":{value}}}");
        assert_eq!(read_bytes(text.as_bytes(), &[]), Ok(Some("gpt_x".into())));
    }
}

#[test]
fn a_member_that_means_something_stands_once() {
    for (text, member) in [
        (r#"{"background":false,"background":false}"#, "background"),
        (r#"{"background":null,"x":1,"back\u0067round":null}"#, "background"),
        (r#"{"model":"a","Model":"b"}"#, "model"),
        (r#"{"tools":[],"tools":[]}"#, "tools"),
        (r#"{"tools":[{"type":"custom","type":"custom"}]}"#, "type"),
        (r#"{"messages":[{"content":"","content":""}]}"#, "content"),
        ("{\"messages\":[],\"me\u{17f}\u{17f}ages\":[]}", "messages"),
    ] {
        assert_eq!(read_bytes(text.as_bytes(), &[]), Err(Unasked::Twice(member)), "{text}");
    }
    let twice = r#"{"metadata":{"type":1,"type":2},"x":1,"x":2,"tools":[{"input_schema":{"a":1,"a":2}}]}"#;
    assert_eq!(read_bytes(twice.as_bytes(), &[]), Ok(None), "what means nothing may");
}

#[test]
fn what_is_not_one_json_object_in_utf_8_is_refused() {
    let text = r#"{"model":"m","background":true}"#;
    let wide = |to: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(to).collect::<Vec<u8>>();
    let marked = |mark: &[u8], rest: Vec<u8>| [mark, &rest].concat();
    let wider = text.chars().flat_map(|c| u32::from(c).to_le_bytes()).collect();
    let mut bodies = vec![
        wide(u16::to_le_bytes),
        wide(u16::to_be_bytes),
        marked(b"\xff\xfe", wide(u16::to_le_bytes)),
        marked(b"\xfe\xff", wide(u16::to_be_bytes)),
        wider,
        marked(b"\xef\xbb\xbf", b"{}".to_vec()),
        b"{\"a\":\"\xe4\"}".to_vec(),
        b"{\"a\":\"\xc0\xaf\"}".to_vec(),
        b"{\"a\":\"\xed\xa0\x80\"}".to_vec(),
        b"{\"a\":\"\xe2\x82".to_vec(),
    ];
    for text in [
        "",
        " ",
        "[]",
        "1",
        "null",
        "\"x\"",
        "[{\"background\":true}]",
        "{",
        "{}}",
        "{} {}",
        "{}x",
        "{\"a\":1",
        "{\"a\":}",
        "{\"a\" 1}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1,}",
        "{,}",
        "{\"a\":[1,]}",
        "{\"a\":[,1]}",
        "{\"a\":[1}}",
        "{\"a\":{]}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":-}",
        "{\"a\":01}",
        "{\"a\":1.}",
        "{\"a\":.5}",
        "{\"a\":0x1}",
        "{\"a\":True}",
        "{\"a\":truex}",
        "{\"a\":tru}",
        "{\"a\":\"\u{1}\"}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12g4\"}",
        "{\"a\":1 /* */}",
        "// x\n{}",
        "{}\0",
        "\0{}",
        "{\u{a0}}",
        "{\"a\":1\u{b}}",
        "{\"\\ud800background\":true}",
        "{\"tools\":[{\"\\udc00type\":1}]}",
    ] {
        bodies.push(text.into());
    }
    bodies.push(format!("{{\"a\":{}1{}}}", "[".repeat(127), "]".repeat(127)).into());
    for body in bodies {
        assert_eq!(read_bytes(&body, &[]), Err(Unasked::NotJson), "{}", String::from_utf8_lossy(&body));
    }
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(126), "]".repeat(126));
    assert_eq!(read_bytes(deep.as_bytes(), &[]), Ok(None));
    assert!(serde_json::from_str::<Any>(&deep).is_ok());
    for (text, member) in [(r#"{"tools":[{"type":1}]}"#, "type"), (r#"{"tools":[{"type":["web_search"]}]}"#, "type")] {
        assert_eq!(read_bytes(text.as_bytes(), &[]), Err(Unasked::Type(member)));
    }
    let long = json!({"tools": [{"type": format!("custom{}", "_1".repeat(200))}]});
    assert_eq!(read(&long, &[]), Err(Unasked::Type("type")));
}
