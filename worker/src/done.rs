//! What came of a turn: its `done`, its record, and the order in which it is told.

use contract::{EventBody, FailReason, TurnId};
use serde_json::Value;
use workspace::{CommitInfo, PreparedCommit, Record, Recovered, Reverted, WorkspaceError, crash_point};

use crate::bounds::{OUTPUT_BYTES, fit};
use crate::events::Sink;
use crate::runners::Outcome;

/// What came of a turn.
#[derive(Debug)]
pub struct Result {
    outcome: Outcome,
    reverted: Vec<Reverted>,
    /// Hash of the walk cache that this turn leaves.
    pub cache: Option<String>,
}

impl Result {
    /// Of an outcome, with what was put back.
    pub fn of(mut outcome: Outcome, reverted: Vec<Reverted>) -> Self {
        if outcome.output.as_ref().is_some_and(|output| output.to_string().len() > OUTPUT_BYTES) {
            outcome.output = None;
            outcome.ok = false;
            outcome.reason = Some(FailReason::Error);
            outcome.say("the structured answer is larger than 128 KiB");
        }
        Self { outcome, reverted, cache: None }
    }

    /// With more to say.
    pub fn noting(mut self, notices: Vec<String>) -> Self {
        for notice in notices {
            self.outcome.say(&notice);
        }
        self
    }

    /// As it is when the record could not be written.
    pub fn unrecorded(mut self, error: &WorkspaceError) -> Self {
        self.outcome.ok = false;
        self.outcome.reason = Some(reason(error));
        self.outcome.say(&format!("nothing was committed, since the record cannot be written: {}", error.chain()));
        self.reverted.clear();
        self
    }

    /// The record of it.
    pub fn record(&self, turn: &TurnId, commits: Vec<PreparedCommit>) -> Record {
        let outcome = match (self.outcome.ok, self.outcome.reason) {
            (true, _) => workspace::Outcome::Completed,
            (false, Some(FailReason::Cancelled)) => workspace::Outcome::Cancelled,
            (false, _) => workspace::Outcome::Failed,
        };
        let mut result = serde_json::to_value(self.done()).unwrap_or_default();
        if let Value::Object(fields) = &mut result {
            fields.remove("type");
        }
        let events = self.policy_reverted().and_then(|event| serde_json::to_value(event).ok());
        Record { turn: turn.clone(), outcome, result, commits, events: events.into_iter().collect() }
    }

    fn policy_reverted(&self) -> Option<EventBody> {
        if self.reverted.is_empty() {
            return None;
        }
        let (paths, reasons) = self.reverted.iter().map(|r| (r.path.clone(), r.reason.clone())).unzip();
        let mut event = EventBody::PolicyReverted { paths, reasons };
        fit(&mut event);
        Some(event)
    }

    fn done(&self) -> EventBody {
        let mut done = EventBody::Done {
            ok: self.outcome.ok,
            reply: self.outcome.reply.clone(),
            output: self.outcome.output.clone(),
            session_id: self.outcome.session_id.clone(),
            usage: self.outcome.usage.clone(),
            detail: self.outcome.detail.clone(),
            reason: (!self.outcome.ok).then(|| self.outcome.reason.unwrap_or(FailReason::Error)),
            cache: self.cache.clone(),
        };
        fit(&mut done);
        done
    }
}

/// Why a turn fails when a workspace does.
pub fn reason(error: &WorkspaceError) -> FailReason {
    match error {
        WorkspaceError::Unusable { .. } => FailReason::WorkspaceUnusable,
        _ => FailReason::Error,
    }
}

/// What to say of having cleaned up after an earlier turn.
pub fn recovery_notices(recovered: Vec<Recovered>) -> Vec<String> {
    let mut notices = Vec::new();
    for recovered in recovered {
        notices.extend(recovered.kept.map(|kept| format!("what an unfinished turn left is kept on {kept}")));
        notices.extend(recovered.refused);
        notices.extend(recovered.notices);
    }
    notices
}

/// Tells a turn's end: what was put back, what was committed, and `done` last.
pub async fn tell(sink: &Sink, result: Result, moved: Vec<CommitInfo>) {
    if let Some(event) = result.policy_reverted() {
        sink.tell(event).await;
    }
    tell_commits(sink, moved).await;
    crash_point("commits-told");
    sink.tell(result.done()).await;
}

/// Tells from the record what came of a turn that is delivered once more.
pub async fn tell_again(sink: &Sink, record: Record, recovered: Vec<Recovered>) {
    // One is what we write.
    for event in record.events.into_iter().take(1) {
        match serde_json::from_value(event) {
            Ok(event @ EventBody::PolicyReverted { .. }) => sink.tell(event).await,
            // Whoever can write to the state folder can lie about this turn, and about nothing else.
            _ => tracing::warn!("the record has an event that is none"),
        }
    }
    let mut notices = Vec::new();
    for recovered in recovered {
        tell_commits(sink, recovered.commits).await;
        notices.extend(recovered.refused);
    }
    crash_point("commits-told");
    let mut fields = record.result;
    if let Value::Object(fields) = &mut fields {
        fields.insert("type".into(), "done".into());
        if !notices.is_empty() {
            let said = fields.get("detail").and_then(Value::as_str).map(|said| format!("{said}; ")).unwrap_or_default();
            fields.insert("detail".into(), (said + &notices.join("; ")).into());
        }
    }
    let done = match serde_json::from_value(fields) {
        Ok(done @ EventBody::Done { .. }) => done,
        _ => Result::of(Outcome::failed("the record of this turn is damaged; it was not run again"), Vec::new()).done(),
    };
    sink.tell(done).await;
}

async fn tell_commits(sink: &Sink, commits: Vec<CommitInfo>) {
    for CommitInfo { workspace, sha, files, insertions, deletions, .. } in commits {
        sink.tell(EventBody::Commit { workspace, sha, files, insertions, deletions }).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_what_done_says() {
        let outcome = Outcome { ok: true, reply: "r".into(), session_id: Some("s".into()), ..Outcome::default() };
        let reverted = vec![Reverted { path: "kg/entities/a.md".into(), reason: "no title".into() }; 203];
        let result = Result::of(outcome, reverted).noting(vec!["one".into(), "two".into()]);
        let turn = TurnId::new(1, 2);
        let record = result.record(&turn, Vec::new());
        assert_eq!(record.outcome, workspace::Outcome::Completed);
        assert_eq!(record.result["sessionId"], "s");
        assert_eq!(record.result["detail"], "one; two");
        assert_eq!(record.result.get("type"), None);
        let paths = record.events[0]["paths"].as_array().unwrap();
        assert_eq!((paths.len(), &record.events[0]["reasons"][200]), (201, &"and 3 more".into()));
        let mut fields = record.result;
        fields["type"] = "done".into();
        assert_eq!(serde_json::from_value::<EventBody>(fields).unwrap(), result.done());
    }

    #[tokio::test]
    async fn what_somebody_planted_in_the_record_is_told_within_bounds() {
        let event =
            EventBody::PolicyReverted { paths: vec!["\u{1}".repeat(9_000); 100_000], reasons: vec![String::new(); 3] };
        let event = serde_json::to_value(event).unwrap();
        let record = Record {
            turn: TurnId::new(1, 2),
            outcome: workspace::Outcome::Completed,
            result: serde_json::json!({"ok": true, "reply": "\u{1}".repeat(1 << 20), "sessionId": "s".repeat(600_000),
                "usage": {"model": "m".repeat(1 << 20)}, "detail": "d".repeat(1 << 20), "output": "o".repeat(1 << 20)}),
            commits: Vec::new(),
            events: vec![event; 3],
        };
        let (events, seen) = crate::link::Events::collected();
        let sink = Sink::new(events, TurnId::new(1, 2));
        tell_again(&sink, record, Vec::new()).await;
        drop(sink);
        let seen = seen.await.unwrap();
        assert_eq!(seen.iter().map(EventBody::name).collect::<Vec<_>>(), ["policy-reverted", "done"]);
        for event in &seen {
            let bytes = serde_json::to_string(event).unwrap().len();
            assert!(bytes + 200 <= contract::EVENT_BYTES, "{bytes} bytes of {}", event.name());
        }
        let EventBody::Done { ok: true, session_id: None, detail: Some(detail), .. } = &seen[1] else {
            panic!("no end")
        };
        assert!(
            detail.starts_with("the reply was cut; the structured answer") && detail.ends_with("dd…"),
            "{detail:.100}"
        );
    }

    #[test]
    fn failures_have_a_reason_and_bounded_details() {
        let result = Result::of(Outcome::default(), Vec::new()).noting(vec!["x".repeat(16 << 10)]);
        let EventBody::Done { ok: false, reason: Some(FailReason::Error), detail: Some(detail), .. } = result.done()
        else {
            panic!("{:?}", result.done())
        };
        assert_eq!(detail.len(), 8 << 10);
        let large = Outcome { ok: true, output: Some("x".repeat(OUTPUT_BYTES).into()), ..Outcome::default() };
        assert!(!Result::of(large, Vec::new()).outcome.ok);
    }
}
