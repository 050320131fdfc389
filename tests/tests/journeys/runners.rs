//! Programs that behave badly, behind the `exec` runner.

use serde_json::json;
use tests::stack::{Backend, Options, Stack};

use crate::support::{MINUTE, exec_profile, find};

async fn deployment(more: &str) -> (Stack, tests::api::Api) {
    let stack = Stack::start(Options::new(Backend::Process).settings(&exec_profile("sh -s", more))).await;
    let api = stack.api("ann");
    (stack, api)
}

#[tokio::test]
async fn floods_and_garbage_are_bounded_and_kept_readable() {
    let (_stack, api) = deployment("").await;
    let mut stream =
        api.invoke_streaming("flood", &json!({"prompt": "yes 0123456789abcdef | head -c 100000000"})).await;
    let events = stream.until("turn-complete", MINUTE).await;
    let bytes: usize = events.iter().map(|e| e.data.to_string().len()).sum();
    assert!(bytes < 8 << 20, "{bytes} bytes of events for 100 MB of output");
    let done = &find(&events, "done").data;
    assert_eq!(done["ok"], true);
    assert!(done["detail"].as_str().unwrap_or_default().contains("cut"), "it says that output was cut: {done:#}");

    let answer = api.invoke("garbage", "printf 'a\\377\\376b\\n'").await.expect(200).json();
    assert_eq!(answer["reply"].as_str().unwrap().trim_end(), "a\u{fffd}\u{fffd}b");

    // Events of its own, and the exit code decides whatever was printed.
    let script = r#"echo '{"type":"tool-call","tool":"t","args":{"x":1},"callId":"c1"}'
        echo '{"type":"tool-result","callId":"c1","ok":true,"summary":"s"}'
        echo '{"type":"turn-complete","duration_ms":1}'
        echo '{"type":"result","reply":"fine","output":{"n":1}}'"#;
    let events = api.invoke_streaming("json", &json!({ "prompt": script })).await.until("turn-complete", MINUTE).await;
    assert_eq!(find(&events, "tool-call").data["args"], json!({"x": 1}));
    assert_eq!(find(&events, "tool-result").data["ok"], true);
    let done = &find(&events, "done").data;
    assert_eq!((&done["reply"], &done["output"]), (&json!("fine"), &json!({"n": 1})));
    assert_eq!(
        events.iter().filter(|e| e.kind() == "turn-complete").count(),
        1,
        "what it prints is data, never control"
    );
}

#[tokio::test]
async fn a_runner_that_never_ends_runs_into_its_timeout_and_the_worker_stays_warm() {
    let (_stack, api) = deployment("turn_timeout_sec = 1").await;
    let answer = api.invoke("slow", "trap '' INT TERM; while :; do sleep 1; done").await.expect(502).json();
    assert_eq!((&answer["reason"], &answer["source"]), (&json!("timeout"), &json!("function")), "{answer:#}");
    assert_eq!(api.invoke("slow", "echo back").await.expect(200).header("rekindle-start"), "warm");
}

#[tokio::test]
async fn a_running_turn_can_be_cancelled_and_the_worker_stays_warm() {
    let (_stack, api) = deployment("").await;
    let mut stream = api.invoke_streaming("demo", &json!({"prompt": "echo begun; sleep 600"})).await;
    let begun = stream.until("message-delta", MINUTE).await;
    let turn = find(&begun, "turn-accepted").data["turn_id"].as_str().unwrap().to_owned();
    let cancel = format!("/v1/turns/{turn}/cancel");
    assert!(api.post(&cancel, &json!({})).await.status.is_success());
    let rest = stream.until("turn-failed", MINUTE).await;
    assert_eq!(find(&rest, "turn-failed").data["reason"], "cancelled");
    assert!(api.post(&cancel, &json!({})).await.status.is_success(), "it is idempotent");
    assert_eq!(api.invoke("demo", "echo back").await.expect(200).header("rekindle-start"), "warm");
}

#[tokio::test]
async fn a_worker_that_is_killed_in_a_turn_is_replaced_and_the_turn_runs_again() {
    let (stack, api) = deployment("").await;
    let script =
        "if [ -e /rekindle/state/mark ]; then echo second; else : > /rekindle/state/mark; echo first; sleep 600; fi";
    let mut stream = api.invoke_streaming("demo", &json!({ "prompt": script })).await;
    stream.until("message-delta", MINUTE).await;
    let uid = crate::support::uid(&api, "demo").await;
    let inner = std::fs::read_dir(stack.store().join("generations"))
        .unwrap()
        .map(|e| e.unwrap().path().join("inner.json"))
        .find(|p| p.display().to_string().contains(&uid) && p.exists())
        .expect("the shim wrote down what it runs");
    let inner: serde_json::Value = serde_json::from_slice(&std::fs::read(inner).unwrap()).unwrap();
    let pid = i32::try_from(inner["pid"].as_i64().unwrap()).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();

    let events = stream.until("turn-complete", MINUTE).await;
    let accepted = &find(&events, "turn-accepted").data;
    assert_eq!((&accepted["attempt"], &accepted["start"]), (&json!(2), &json!("cold")));
    assert_eq!(find(&events, "done").data["reply"].as_str().unwrap().trim(), "second");
    assert_eq!(events.iter().filter(|e| e.kind() == "turn-complete").count(), 1);
}

/// What is longer than an event may be never keeps a turn from its end: here it would be retried until its time is over.
#[tokio::test]
async fn a_result_that_could_not_be_told_is_cut_and_the_turn_ends() {
    let (_stack, api) = deployment("").await;
    let many = |n: usize, what: &str| format!("head -c {n} /dev/zero | tr '\\0' '{what}'");
    let of = |field: &str, n: usize| {
        let begin = format!("printf '{{\"type\":\"result\",\"reply\":\"fine\",\"{field}\":\"'");
        format!("{begin}; {}; printf '\"}}\\n'", many(n, "s"))
    };
    let planted = r#"printf '{"threads":{"demo":{"runner":"exec","session_id":"' > "$REKINDLE_STATE/session.json"; "#;
    let planted = format!(
        "({planted} {} >> \"$REKINDLE_STATE/session.json\"; printf '\"}}}}}}' >> \"$REKINDLE_STATE/session.json\"; echo fine)",
        many(600_000, "s")
    );
    for (script, reply, says) in [
        (of("session_id", 600_000), Some("fine"), "the session id that was named is longer than 512 bytes"),
        (of("detail", 600_000), Some("fine"), "sss…"),
        // As JSON this is six times as long.
        (many(300_000, "\\001"), None, "cut to 352 KiB of JSON"),
        (planted, Some("fine"), ""),
        // What was planted is looked at by the next turn.
        ("echo fine".into(), Some("fine"), "the session id that was named is longer than 512 bytes"),
        ("echo \"fine$REKINDLE_SESSION\"".into(), Some("fine"), ""),
    ] {
        let mut stream = api.invoke_streaming("demo", &json!({ "prompt": script })).await;
        let events = stream.until("turn-complete", MINUTE).await;
        assert_eq!(find(&events, "turn-accepted").data["attempt"], 1, "{script:.60}");
        let done = &find(&events, "done").data;
        assert!(done["detail"].as_str().unwrap_or_default().contains(says), "{script:.60}: {:.300}", done["detail"]);
        assert!(done.to_string().len() <= contract::EVENT_BYTES && done["ok"] == true, "{script:.60}");
        match reply {
            Some(reply) => assert_eq!(done["reply"].as_str().map(str::trim), Some(reply), "{script:.60}"),
            None => assert!(done["reply"].as_str().unwrap().len() > 50_000),
        }
    }
    // Names of tools, and of their calls.
    let script = format!(
        "printf '{{\"type\":\"tool-call\",\"args\":{{}},\"callId\":\"c\",\"tool\":\"'; {}; printf '\"}}\\n'",
        many(600_000, "t")
    );
    let events = api.invoke_streaming("demo", &json!({ "prompt": script })).await.until("turn-complete", MINUTE).await;
    assert!(find(&events, "tool-call").data["tool"].as_str().unwrap().ends_with("tt…"), "it is told, cut");
}
