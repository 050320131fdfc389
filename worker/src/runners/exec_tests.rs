use std::time::Duration;

use contract::{EventBody, FailReason};
use tokio::time::timeout;

use super::super::testing::{Place, texts};
use super::*;
use crate::settings::RunnerKind;
use crate::stop::Stop;

const SOON: Duration = Duration::from_secs(30);

async fn run(place: &Place) -> (Outcome, Vec<EventBody>) {
    timeout(SOON, place.run(RunnerKind::Exec)).await.expect("the runner hangs")
}

#[tokio::test]
async fn text_in_text_out() {
    let place = Place::new("hello").script("cat; echo; pwd; printf end");
    let (outcome, events) = run(&place).await;
    let cwd = place.dir.path().join("workspace");
    assert_eq!(outcome.reply, format!("hello\n{}\nend\n", cwd.display()));
    assert_eq!(texts(&events), outcome.reply);
    assert!(outcome.ok && outcome.detail.is_none(), "{outcome:?}");
}

#[tokio::test]
async fn json_lines_are_events_and_anything_else_is_text() {
    let script = r#"cat >/dev/null
echo '{"type":"thinking-delta","text":"hm"}'
echo '{"type":"message-delta","text":"a"}'
echo '{"type":"tool-call","tool":"Bash","args":{"x":1},"callId":"1"}'
echo '{"type":"tool-result","callId":"1","ok":false,"summary":"no"}'
echo '{"type":"done"}'
echo '{not json'
echo '{"type":"result","reply":"R","output":{"n":1},"session_id":"s"}'"#;
    let (outcome, events) = run(&Place::new("x").script(script)).await;
    let mut kinds: Vec<_> = events.iter().map(EventBody::name).collect();
    // Lines that come together are one delta, lines that do not are two: only their text is promised.
    kinds.dedup();
    assert_eq!(kinds, ["thinking-delta", "message-delta", "tool-call", "tool-result", "message-delta"]);
    assert_eq!(texts(&events), "a{\"type\":\"done\"}\n{not json\n");
    assert_eq!(outcome.reply, "R");
    assert_eq!(outcome.output, Some(serde_json::json!({"n": 1})));
    assert_eq!(outcome.session_id.as_deref(), Some("s"));
}

#[tokio::test]
async fn the_exit_status_decides() {
    for (script, says) in [
        ("echo oops >&2; exit 3", "exit status 3: oops"),
        ("exit 137", "exit status 137 (as if by signal 9): it was killed, perhaps for want of memory"),
        ("kill -9 $$", "ended by signal 9: it was killed"),
    ] {
        let (outcome, _) = run(&Place::new("x").script(script)).await;
        assert_eq!((outcome.ok, outcome.reason), (false, Some(FailReason::Error)));
        assert!(outcome.detail.as_deref().unwrap().contains(says), "{outcome:?}");
    }
    let refused = r#"echo '{"type":"result","ok":false,"reply":"r","detail":"why"}'"#;
    let (outcome, _) = run(&Place::new("x").script(refused)).await;
    assert_eq!((outcome.ok, outcome.detail.as_deref()), (false, Some("why")));
}

#[tokio::test]
async fn a_hundred_megabytes_neither_flood_nor_hang() {
    let place = Place::new("x").script("head -c 100000000 /dev/zero | tr '\\0' 'x'; echo; yes | head -c 5000000");
    let (outcome, events) = run(&place).await;
    assert!(outcome.ok);
    assert_eq!(outcome.reply.len(), REPLY_BYTES);
    assert!(said(&events) <= MOST_SAID, "{} bytes", said(&events));
    assert!(events.len() < 200, "{} events", events.len());
    let detail = outcome.detail.unwrap();
    assert!(detail.contains("cut to 256 KiB") && detail.contains("left out"), "{detail}");
}

/// What a turn's events may have as JSON, all together.
const MOST_SAID: usize = (1 << 20) + (64 << 10);

fn said(events: &[EventBody]) -> usize {
    events.iter().map(|event| serde_json::to_string(event).unwrap().len()).sum()
}

#[tokio::test]
async fn every_field_of_every_event_counts() {
    // Nothing of these is a text, an argument or a summary.
    for event in [
        r#"{"type":"tool-call","tool":"NAME","args":0,"callId":"c"}"#,
        r#"{"type":"tool-call","tool":"t","args":0,"callId":"NAME"}"#,
        r#"{"type":"tool-result","callId":"NAME","ok":true,"summary":""}"#,
    ] {
        let line = event.replace("NAME", &"n".repeat(50_000));
        let (outcome, events) = run(&Place::new("x").script(&format!("yes '{line}' | head -n 300; echo end"))).await;
        assert!(outcome.ok, "{outcome:?}");
        assert!(events.len() > 200 && said(&events) <= MOST_SAID, "{} events, {} bytes", events.len(), said(&events));
    }
    let many = r#"{"type":"tool-call","tool":"t","args":0,"callId":"c"}"#;
    let (_, events) = run(&Place::new("x").script(&format!("yes '{many}' | head -n 100000"))).await;
    assert!(events.len() <= 9_000 && said(&events) <= MOST_SAID, "{} events", events.len());
}

#[tokio::test]
async fn what_a_program_says_of_its_session_is_bounded() {
    for (id, kept) in
        [("s".repeat(512), true), ("s".repeat(513), false), ("s".repeat(600_000), false), ("a\\u0000b".into(), false)]
    {
        // By a file: an argument has its own bound.
        let place = Place::new("x").script("cat ../said");
        let said = format!("{{\"type\":\"result\",\"reply\":\"R\",\"session_id\":\"{id}\"}}\n");
        std::fs::write(place.dir.path().join("said"), said).unwrap();
        let (outcome, _) = run(&place).await;
        assert!(outcome.ok && outcome.reply == "R", "{outcome:?}");
        assert_eq!(outcome.session_id.is_some(), kept);
        assert_eq!(outcome.detail.is_some_and(|d| d.contains("cannot be gone on with")), !kept);
    }
}

#[tokio::test]
async fn invalid_utf8_and_a_million_lines() {
    let (outcome, _) = run(&Place::new("x").script("printf 'a\\377b\\n'")).await;
    assert_eq!(outcome.reply, "a\u{fffd}b\n");
    let (outcome, events) = run(&Place::new("x").script("yes | head -n 1000000")).await;
    assert!(outcome.ok && events.len() < 9_000, "{}", events.len());
}

#[tokio::test]
async fn a_background_process_that_holds_the_output_is_not_waited_for() {
    let place = Place::new("x").script("(while :; do echo noise; done) & echo $! >pid; echo started");
    let (outcome, _) = run(&place).await;
    let pid: i32 = std::fs::read_to_string(place.dir.path().join("workspace/pid")).unwrap().trim().parse().unwrap();
    // Ending what is left is step 4 of the turn, not the runner's.
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL).unwrap();
    assert!(outcome.ok && outcome.reply.contains("started"), "{outcome:?}");
}

#[tokio::test]
async fn a_prompt_that_is_not_read_and_a_large_one_that_is() {
    let large = "x".repeat(1 << 20);
    let (outcome, _) = run(&Place::new(&large).script("exec 0<&-; echo ok")).await;
    assert_eq!(outcome.reply, "ok\n");
    let (outcome, _) = run(&Place::new(&large).script("wc -c")).await;
    assert_eq!(outcome.reply.trim(), "1048576");
}

#[tokio::test]
async fn a_stop_ends_the_whole_group_however_stubborn() {
    for (why, script, reason) in [
        (Stop::Cancelled, "echo started; sleep 1000 & wait", FailReason::Cancelled),
        (Stop::Timeout, "trap '' INT TERM; echo started; while :; do sleep 1000; done", FailReason::Timeout),
    ] {
        let place = Place::new("x").script(script);
        let (outcome, events) = {
            let running = run(&place);
            tokio::pin!(running);
            tokio::select! {
                biased;
                _ = &mut running => panic!("ended by itself"),
                () = tokio::time::sleep(Duration::from_millis(300)) => place.stopper.stop(why),
            }
            running.await
        };
        assert_eq!((outcome.ok, outcome.reason), (false, Some(reason)));
        assert_eq!(texts(&events), "started\n", "what it said before is told");
    }
}

#[tokio::test]
async fn the_environment_is_the_list_and_nothing_else() {
    let mut place = Place::new("x").script("env");
    place.config.env.insert("MINE".into(), "1".into());
    let (outcome, _) = run(&place).await;
    let mut names: Vec<_> = outcome.reply.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.retain(|name| !["PWD", "SHLVL", "_", "OLDPWD", "TZ", "LC_ALL", "LC_CTYPE", "TERM", "TMPDIR"].contains(name));
    names.retain(|name| !name.starts_with("SSL_CERT") && *name != "NODE_EXTRA_CA_CERTS");
    names.retain(|name| !name.starts_with("PIP_") && !name.starts_with("GO") && *name != "npm_config_registry");
    names.sort_unstable();
    let want = [
        "ALL_PROXY",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_BASE_URL",
        "HOME",
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "LANG",
        "MINE",
        "NODE_USE_ENV_PROXY",
        "NO_PROXY",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "PATH",
        "REKINDLE_STATE",
        "REKINDLE_THREAD",
        "REKINDLE_TURN",
        "REKINDLE_UNIT",
        "all_proxy",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    ];
    assert_eq!(names, want);
    assert!(outcome.reply.contains("https_proxy=http://127.0.0.1:7070\n"));
    assert!(outcome.reply.contains("NO_PROXY=127.0.0.1,localhost\n"), "the way to the model is direct");
    assert!(outcome.reply.contains("ANTHROPIC_BASE_URL=http://127.0.0.1:7070/broker/anthropic\n"));
}

#[tokio::test]
async fn what_cannot_run_says_what_to_do() {
    let (outcome, _) = run(&Place::new("x")).await;
    assert!(outcome.detail.unwrap().contains("set `command ="));
    let (outcome, _) = run(&Place::new("x").command(&["no-such-program"])).await;
    assert!(outcome.detail.unwrap().contains("`no-such-program` is no program in this sandbox"));
}

#[tokio::test]
async fn echo_answers_with_the_prompt() {
    let (outcome, events) = Place::new("hällo").run(RunnerKind::Echo).await;
    assert_eq!((outcome.ok, outcome.reply.as_str(), texts(&events).as_str()), (true, "hällo", "hällo"));
}
