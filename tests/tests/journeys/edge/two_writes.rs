//! Answers that come before the body: a client that sends head and body in two writes reads every one of them.

use std::process::Stdio;

use serde_json::{Value, json};
use tests::paths;
use tests::stack::Stack;
use tokio::io::AsyncWriteExt as _;

/// Larger than what is read for nobody.
const LARGE: usize = 8 << 20;

/// What is refused before its body is read, by the status of the refusal.
fn early(token: &str) -> Vec<(u16, Value)> {
    let call = |method: &str, path: &str, headers: Value| json!({"method": method, "path": path, "headers": headers});
    let named = |more: Value| {
        let mut headers = json!({"authorization": format!("Bearer {token}"), "content-type": "application/json"});
        headers.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        headers
    };
    vec![
        (401, call("POST", "/v1/units/demo/invoke", json!({"content-type": "application/json"}))),
        (404, call("POST", "/v1/nowhere", named(json!({})))),
        (405, call("POST", "/healthz", named(json!({})))),
        (415, call("POST", "/v1/units/demo/invoke", named(json!({"content-encoding": "gzip"})))),
    ]
}

async fn called(stack: &Stack, calls: &[Value]) -> Vec<Value> {
    let mut python = tokio::process::Command::from(paths::command(paths::tool("python3", "python3")))
        .args(["-c", include_str!("../../../fixtures/two_writes.py")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("start python3");
    let asked = json!({"address": stack.address, "calls": calls}).to_string();
    let mut input = python.stdin.take().expect("its input");
    input.write_all(asked.as_bytes()).await.expect("say what to call");
    drop(input);
    let output = python.wait_with_output().await.expect("its end");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"))
}

/// For the edge's journey.
pub(super) async fn are_all_answered(stack: &Stack, token: &str) {
    let (mut calls, mut wanted) = (Vec::new(), Vec::new());
    for (status, call) in early(token) {
        for delay in [0.0, 0.05] {
            for bytes in [2, 60 << 10] {
                let mut call = call.clone();
                call["bytes"] = json!(bytes);
                call["delay"] = json!(delay);
                calls.push(call);
                wanted.push(status);
            }
        }
    }
    let said = called(stack, &calls).await;
    assert_eq!(said.len(), wanted.len());
    for ((call, status), said) in calls.iter().zip(wanted).zip(said) {
        assert_eq!(said, json!({"status": status, "closes": false, "next": 200}), "{call}");
    }
}

/// The head of the answer to a body that is too large to be read for nobody.
pub(super) async fn announce_the_close(stack: &Stack, token: &str) {
    let head = format!(
        "POST /v1/units/demo/invoke HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {LARGE}\r\n\r\n"
    );
    let heard =
        super::wire::say(&stack.address, head.as_bytes(), super::wire::Pace::AtOnce, crate::support::MINUTE).await;
    assert_eq!(heard.statuses(), [413], "{}", heard.text());
    assert!(heard.text().to_ascii_lowercase().contains("\r\nconnection: close\r\n"), "{}", heard.text());
    assert!(heard.ended);
}
