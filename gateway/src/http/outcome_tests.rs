use contract::{Owner, Trigger};
use ledger::StreamId;
use serde_json::json;

use super::*;

fn record(status: TurnStatus) -> TurnRecord {
    let owner = Owner::parse("ann").unwrap();
    let unit = UnitName::parse("agent-ann-chat-demo").unwrap();
    TurnRecord {
        turn: TurnId::new(1_000, 1),
        uid: UnitId::of(&owner, &unit),
        owner,
        unit,
        status,
        prompt: "hi".into(),
        trigger: Trigger::Message,
        thread: "demo".into(),
        attempt: 1,
        submitted_ms: 1_000,
        taken_ms: Some(1_250),
        settled_ms: Some(3_250),
        start: Some(Start::Cold),
        result: Some(json!({
            "type": "done", "generation": 1_010, "ok": true, "reply": "done", "sessionId": "s",
            "usage": {"input_tokens": 1}, "detail": null,
        })),
        cut: false,
        reason: None,
        detail: None,
        commits: vec![json!({"sha": "c0"})],
        first_event: StreamId::ZERO,
        after: StreamId::ZERO,
        last_event: None,
        queued_reason: None,
        queued_position: None,
        cancelled: false,
    }
}

fn demo() -> UnitName {
    UnitName::parse("demo").unwrap()
}

#[test]
fn a_cold_turns_wait_divides_where_its_generation_began() {
    let mut turn = record(TurnStatus::Completed);
    assert_eq!(Timing::of(&turn).header(), "queue;dur=10, start;dur=240, turn;dur=2000");
    turn.start = Some(Start::Warm);
    assert_eq!(Timing::of(&turn).header(), "queue;dur=250, start;dur=0, turn;dur=2000");
    // A generation may be any number that is higher than the last.
    turn.start = Some(Start::Cold);
    turn.result = Some(json!({"generation": 9_999_999}));
    assert_eq!(Timing::of(&turn).header(), "queue;dur=250, start;dur=0, turn;dur=2000");
}

#[test]
fn a_turn_that_was_never_delivered_was_queued_only() {
    let turn = TurnRecord { taken_ms: None, start: None, result: None, ..record(TurnStatus::Failed) };
    assert_eq!(Timing::of(&turn).header(), "queue;dur=2250, start;dur=0, turn;dur=0");
    let mut headers = HeaderMap::new();
    Timing::of(&turn).put(&mut headers);
    assert!(!headers.contains_key(REKINDLE_START));
}

#[test]
fn a_completed_turn_is_its_result() {
    let result = result(&record(TurnStatus::Completed), &demo(), "/e").unwrap();
    let shown = serde_json::to_value(&result).unwrap();
    assert_eq!(shown["status"], "completed");
    assert_eq!(shown["reply"], "done");
    assert_eq!(shown["session_id"], "s");
    assert_eq!(shown["start"], "cold");
    assert_eq!(shown["duration_ms"], 2000);
    assert_eq!(shown["commits"], json!([{"sha": "c0"}]));
    assert!(shown.get("output").is_none() && shown.get("detail").is_none(), "{shown}");
}

#[test]
fn a_failed_turn_says_whose_fault_it_was() {
    for (reason, source) in [(FailReason::Error, Source::Function), (FailReason::StartFailed, Source::Platform)] {
        let turn = TurnRecord {
            reason: Some(reason),
            detail: Some("no such image".into()),
            result: None,
            ..record(TurnStatus::Failed)
        };
        let failure = result(&turn, &demo(), "/e").unwrap_err();
        assert_eq!(failure.status(), 502);
        let shown = format!("{failure:?}");
        assert!(shown.contains("no such image") && shown.contains(&format!("{source:?}")), "{shown}");
    }
}
