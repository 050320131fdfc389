//! What a worker writes to its out-stream, made into what the contract says it is.
//!
//! The gateway stamps the generation and lets nothing through that is not a worker's to say. What it writes is the contract's
//! own form: fields that the contract does not have are left out.

use contract::{EventBody, FailReason, Generation, TurnId, UnitEvent, WorkspaceId};
use serde_json::Value;

/// Why an event is not written. The texts go to whoever wrote the worker.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EventError {
    #[error("the event is not JSON: {0}")]
    NotJson(String),
    #[error("the event has {0} bytes; at most {1} are taken (limits.event_bytes)")]
    TooLong(usize, usize),
    #[error("the event is not a JSON object with a text in `type`")]
    NoType,
    #[error("unknown event type `{0}`; it was dropped")]
    Unknown(String),
    #[error("workspace `{0}` is not one that this worker may write to; the event was dropped")]
    NotItsWorkspace(WorkspaceId),
    #[error("an event of type `{0}` lacks a field or has one of a wrong type; it was dropped")]
    Malformed(String),
    #[error("`{0}` is the platform's own word; it was dropped")]
    NotWorkers(String),
    #[error("`{0}` is not a turn id, or `seq` is not a number from 1; the event was dropped")]
    Stamp(String),
}

/// An event that may be written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Said {
    /// Its turn; a foreign worker may leave it out.
    pub(super) turn: Option<TurnId>,
    /// Its number within the turn.
    pub(super) seq: Option<u64>,
    /// Its type.
    pub(super) kind: String,
    /// The workspace that it tells a commit of.
    pub(super) commit_of: Option<WorkspaceId>,
    /// The stamped event.
    pub(super) json: String,
    /// Set when it is the turn's last word.
    pub(super) done: Option<Done>,
}

/// What `settle` needs besides the event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) ok: bool,
    pub(super) reason: Option<FailReason>,
    pub(super) cache: Option<String>,
}

/// Every type that a worker may say, for telling a malformed event from an unknown one.
const WORKERS: &[&str] = &[
    "turn-accepted",
    "message-delta",
    "thinking-delta",
    "tool-call",
    "tool-result",
    "policy-reverted",
    "commit",
    "done",
];

/// Parses, checks and stamps one event.
pub(super) fn parse(bytes: &[u8], generation: Generation, most_bytes: usize) -> Result<Said, EventError> {
    if bytes.len() > most_bytes {
        return Err(EventError::TooLong(bytes.len(), most_bytes));
    }
    let mut value: Value = serde_json::from_slice(bytes).map_err(|e| EventError::NotJson(e.to_string()))?;
    let kind =
        value.get("type").and_then(Value::as_str).ok_or(EventError::NoType)?.chars().take(64).collect::<String>();
    complete(&mut value, &kind);
    let stamp = value.get("turn_id").map(Value::to_string).unwrap_or_default();
    // Types are checked by the body; only `turn_id` and `seq` stand outside of it.
    let mut event: UnitEvent = serde_json::from_value(value).map_err(|_| EventError::Stamp(stamp.clone()))?;
    if event.seq == Some(0) {
        return Err(EventError::Stamp(stamp));
    }
    match &event.body {
        EventBody::Unknown(_) if WORKERS.contains(&kind.as_str()) => {
            return Err(EventError::Malformed(kind));
        }
        body if !body.is_workers() => return Err(EventError::NotWorkers(kind)),
        EventBody::Unknown(_) => return Err(EventError::Unknown(kind)),
        EventBody::Commit { sha, .. } if !is_object(sha) => return Err(EventError::Malformed(kind)),
        _ => {}
    }
    event.generation = generation;
    let commit_of = match &event.body {
        EventBody::Commit { workspace, .. } => Some(workspace.clone()),
        _ => None,
    };
    let done = take_done(&mut event.body);
    let json = serde_json::to_string(&event).map_err(|e| EventError::NotJson(e.to_string()))?;
    Ok(Said { turn: event.turn_id, seq: event.seq, kind, commit_of, json, done })
}

/// Whether it is the whole name of a git object, by either hash.
fn is_object(sha: &str) -> bool {
    matches!(sha.len(), 40 | 64) && sha.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// What a foreign worker may leave out, and what no worker may say of itself.
fn complete(value: &mut Value, kind: &str) {
    let Some(fields) = value.as_object_mut() else {
        return;
    };
    fields.remove("generation");
    if kind == "done" {
        fields.entry("ok").or_insert(Value::Bool(true));
        fields.entry("reply").or_insert_with(|| "".into());
    }
    // `null` is how many languages write an absent field.
    fields.retain(|name, field| !field.is_null() || name == "args");
}

/// Takes off a `done` what is not for readers.
fn take_done(body: &mut EventBody) -> Option<Done> {
    let EventBody::Done { ok, reason, cache, .. } = body else {
        return None;
    };
    let said = reason.take();
    Some(Done {
        ok: *ok,
        reason: said.filter(|reason| !*ok && is_workers(*reason)),
        cache: cache.take().filter(|hash| hash.len() <= 256),
    })
}

/// Whether it is a worker's to find. Where it is not, the ledger gives the reason that it knows, or `error`.
fn is_workers(reason: FailReason) -> bool {
    use FailReason::{Cancelled, Dead, Error, Flooded, Oom, Timeout, WorkspaceUnusable};
    matches!(reason, Error | Timeout | Cancelled | Oom | Flooded | Dead | WorkspaceUnusable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse_value(value: &Value) -> Result<Said, EventError> {
        parse(value.to_string().as_bytes(), Generation(9), 1 << 16)
    }

    #[test]
    fn a_done_of_one_field_is_made_whole() {
        let said = parse_value(&json!({"type": "done", "reply": "hi"})).unwrap();
        let event: Value = serde_json::from_str(&said.json).unwrap();
        assert_eq!(event["ok"], true);
        assert_eq!(event["usage"]["input_tokens"], 0);
        assert_eq!(event["generation"], 9);
        assert_eq!(said.done, Some(Done { ok: true, reason: None, cache: None }));
        assert_eq!((said.turn, said.seq), (None, None));
    }

    #[test]
    fn a_done_is_relieved_of_reason_and_cache() {
        let said = parse_value(&json!({"type": "done", "ok": false, "reply": "", "reason": "timeout", "cache": "0f",
            "turn_id": "01JZ3Y7QK8W9V6X5T4S3R2Q1P0", "seq": 3, "sessionId": null}))
        .unwrap();
        let done = said.done.unwrap();
        assert_eq!((done.reason, done.cache.as_deref()), (Some(FailReason::Timeout), Some("0f")));
        assert!(!said.json.contains("timeout") && !said.json.contains("0f"));
        assert_eq!(said.seq, Some(3));
        for vague in [
            json!({"type": "done", "ok": false, "reply": "", "reason": "erased"}),
            json!({"type": "done", "ok": false, "reply": ""}),
            json!({"type": "done", "ok": true, "reply": "", "reason": "error"}),
        ] {
            assert_eq!(parse_value(&vague).unwrap().done.unwrap().reason, None);
        }
    }

    #[test]
    fn a_worker_cannot_choose_its_generation_or_speak_for_the_platform() {
        let said = parse_value(&json!({"type": "message-delta", "text": "x", "generation": 1, "extra": 1})).unwrap();
        assert_eq!(said.json, r#"{"generation":9,"type":"message-delta","text":"x"}"#);
        for kind in ["worker-ready", "turn-complete", "turn-failed", "queued", "worker-exit", "gap", "egress-denied"] {
            let full = json!({"type": kind, "boot_ms": 1, "duration_ms": 1, "reason": "dead", "attempts": 1, "final": true,
                "position": 1, "from": "x", "host": "h", "setting": "s"});
            assert_eq!(parse_value(&full), Err(EventError::NotWorkers(kind.into())));
        }
    }

    #[test]
    fn other_events_are_refused_with_the_reason() {
        assert_eq!(parse_value(&json!({"type": "dance"})), Err(EventError::Unknown("dance".into())));
        assert_eq!(parse_value(&json!({"type": "message-delta"})), Err(EventError::Malformed("message-delta".into())));
        let commit = |sha: &str| {
            parse_value(
                &json!({"type": "commit", "workspace": "w", "sha": sha, "files": 1, "insertions": 1, "deletions": 0}),
            )
        };
        let named = commit(&"0a".repeat(20)).unwrap();
        assert_eq!(named.commit_of.unwrap().as_str(), "w");
        assert!(commit(&"0a".repeat(32)).is_ok());
        for sha in ["", "abc", &"0A".repeat(20), &"0a".repeat(21), &"x".repeat(40), &"0a".repeat(20_000)] {
            assert_eq!(commit(sha), Err(EventError::Malformed("commit".into())), "{sha:.50}");
        }
        for wrong in [json!([]), json!("x"), json!({}), json!({"type": 1})] {
            assert_eq!(parse_value(&wrong), Err(EventError::NoType));
        }
        for wrong in [
            json!({"type": "message-delta", "text": "x", "turn_id": "../x"}),
            json!({"type": "message-delta", "text": "x", "seq": -1}),
            json!({"type": "message-delta", "text": "x", "seq": 0}),
        ] {
            assert!(matches!(parse_value(&wrong), Err(EventError::Stamp(_))), "{wrong}");
        }
        assert!(matches!(parse(b"{", Generation(1), 100), Err(EventError::NotJson(_))));
        assert!(matches!(parse(b"\xff\0", Generation(1), 100), Err(EventError::NotJson(_))));
        assert!(matches!(parse("[".repeat(100_000).as_bytes(), Generation(1), 1 << 20), Err(EventError::NotJson(_))));
        assert_eq!(parse(&[b' '; 101], Generation(1), 100), Err(EventError::TooLong(101, 100)));
    }
}
