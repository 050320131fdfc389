use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use contract::EventBody;
use tokio::time::timeout;

use super::super::testing::{Place, texts};
use super::super::{Resume, new_uuid};
use super::*;
use crate::settings::RunnerKind;

/// Stands in for the CLI where only its output matters: notes how it was called, plays what the real one printed.
fn recorded(place: Place, script: &str) -> Place {
    let bin = place.dir.path().join("claude");
    let notes = place.dir.path().display().to_string();
    let fixtures = concat!(env!("CARGO_MANIFEST_DIR"), "/src/runners/fixtures");
    let text = format!(
        "#!/bin/sh\nN={notes}; F={fixtures}\nprintf '%s\\n' \"$@\" >>$N/argv; cat >>$N/stdin; env >$N/env\n{script}\n"
    );
    std::fs::write(&bin, text).unwrap();
    std::fs::set_permissions(&bin, std::fs::Permissions::from_mode(0o755)).unwrap();
    place.command(&[bin.to_str().unwrap()])
}

async fn run(place: &Place) -> (Outcome, Vec<EventBody>) {
    timeout(Duration::from_secs(30), place.run(RunnerKind::ClaudeCode)).await.expect("the runner hangs")
}

fn note(place: &Place, name: &str) -> String {
    std::fs::read_to_string(place.dir.path().join(name)).unwrap()
}

#[tokio::test]
async fn a_first_turn() {
    let place = recorded(Place::new("write \"notes\""), "cat $F/claude-write.jsonl");
    let (outcome, events) = run(&place).await;
    assert!(outcome.ok, "{outcome:?}");
    assert_eq!(outcome.reply, "I wrote notes.md about reaping.");
    assert_eq!(outcome.session_id.as_deref(), Some("3b7c0c6e-5f0a-4f0e-9d6b-0d8f3c1a2b34"));
    assert_eq!(outcome.usage.cost_usd, outcome.cost_usd_total);
    assert!(texts(&events).ends_with("about reaping."));
    let argv = note(&place, "argv");
    assert!(argv.starts_with("-p\n--input-format\nstream-json\n"), "{argv}");
    assert!(argv.contains("--session-id=") && argv.contains("--permission-mode=bypassPermissions"), "{argv}");
    let message: serde_json::Value = serde_json::from_str(&note(&place, "stdin")).unwrap();
    assert_eq!(message["message"]["content"], "write \"notes\"");
    let env = note(&place, "env");
    for line in [
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC=1",
        "DISABLE_AUTOUPDATER=1",
        "IS_SANDBOX=1",
        "ANTHROPIC_API_KEY=rekindle",
    ] {
        assert!(env.lines().any(|l| l == line), "{line}: {env}");
    }
    assert!(env.contains(&format!("CLAUDE_CONFIG_DIR={}/state/claude\n", place.dir.path().display())));
}

#[tokio::test]
async fn a_turn_with_every_option() {
    let mut place = recorded(Place::new("x"), "cat $F/claude-structured.jsonl");
    place.session = Some(Resume { session_id: "sid".into(), cost_usd_total: 0.25 });
    place.turn.tools = vec!["Bash".into(), "Read".into()];
    place.turn.options = serde_json::from_str(
        r#"{"model":"m","max_turns":3,"max_budget_usd":0.5,"append_system_prompt":"--be brief","output_schema":{"type":"object"}}"#,
    )
    .unwrap();
    let (outcome, _) = run(&place).await;
    assert_eq!(outcome.output, Some(serde_json::json!({"answer": 42})));
    let argv = note(&place, "argv");
    for word in [
        "--resume=sid",
        "--model=m",
        "--max-turns=3",
        "--max-budget-usd=0.5",
        "--append-system-prompt=--be brief",
        r#"--json-schema={"type":"object"}"#,
        "--permission-mode=dontAsk",
        "--allowedTools=Bash,Read,StructuredOutput",
    ] {
        assert!(argv.lines().any(|line| line == word), "{word}: {argv}");
    }
}

#[tokio::test]
async fn an_unknown_conversation_is_begun_anew_once_and_told() {
    let script =
        "case \"$*\" in *--resume=*) cat $F/claude-resume-unknown.jsonl; exit 1;; *) cat $F/claude-write.jsonl;; esac";
    let mut place = recorded(Place::new("x"), script);
    place.session = Some(Resume { session_id: "gone".into(), cost_usd_total: 9.0 });
    let (outcome, _) = run(&place).await;
    assert!(outcome.ok);
    assert!(outcome.detail.unwrap().contains("conversation gone is not known"));
    assert_eq!(outcome.usage.cost_usd, outcome.cost_usd_total, "the lost conversation's cost is not taken off");
    assert_eq!(note(&place, "argv").matches("--session-id=").count(), 1);
}

#[tokio::test]
async fn what_is_no_success_says_why() {
    for (script, says) in [
        ("cat $F/claude-api-error.jsonl; exit 1", "API Error: 400"),
        ("cat $F/claude-max-turns.jsonl; exit 1", "maximum number of turns"),
        ("cat $F/claude-sigterm.jsonl; exit 143", "ended without a result: exit status 143"),
        ("echo 'unknown option' >&2; exit 1", "ended without a result: exit status 1: unknown option"),
        ("head -c 20000000 /dev/zero | tr '\\0' x; exit 0", "ended without a result: exit status 0"),
    ] {
        let (outcome, _) = run(&recorded(Place::new("x"), script)).await;
        assert_eq!((outcome.ok, outcome.reason), (false, Some(FailReason::Error)), "{says}");
        assert!(outcome.detail.as_deref().unwrap().contains(says), "{outcome:?}");
    }
}

#[tokio::test]
async fn an_answer_that_misses_the_schema_is_a_failure() {
    let mut place = recorded(Place::new("x"), "cat $F/claude-write.jsonl");
    place.turn.options.output_schema = Some(serde_json::json!({"type": "object"}));
    let (outcome, _) = run(&place).await;
    assert!(!outcome.ok && outcome.detail.unwrap().contains("output_schema"));
}

#[tokio::test]
async fn the_turn_ends_at_the_result_though_the_cli_lives_on() {
    let (outcome, _) = run(&recorded(Place::new("x"), "cat $F/claude-write.jsonl; exec sleep 1000")).await;
    assert!(outcome.ok, "{outcome:?}");
}

#[tokio::test]
async fn an_absent_cli_is_told_with_what_to_do() {
    let place = Place::new("x").command(&["no-such-claude"]);
    let (outcome, _) = run(&place).await;
    let detail = outcome.detail.unwrap();
    assert!(detail.contains("`no-such-claude` is not in this sandbox") && detail.contains("worker/image"), "{detail}");
}

#[test]
fn uuids_are_of_version_4() {
    let uuid = new_uuid().unwrap();
    let parts: Vec<_> = uuid.split('-').map(str::len).collect();
    assert_eq!(parts, [8, 4, 4, 4, 12]);
    assert_eq!(&uuid[14..15], "4");
    assert!(matches!(&uuid[19..20], "8" | "9" | "a" | "b"));
    assert_ne!(uuid, new_uuid().unwrap());
}
