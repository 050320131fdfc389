//! What became of a turn, as an invoke is answered: the result, or a problem that says whose fault it was.

use std::time::Duration;

use contract::{ErrorCode, FailReason, Source, Start, TurnId, UnitId, UnitName, Usage};
use http::{HeaderMap, HeaderName, HeaderValue};
use ledger::{Ledger, LedgerError, TurnRecord, TurnStatus};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};

use super::problem::Failure;
use crate::metrics::Metrics;

const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");
/// `cold`, `prewarmed` or `warm`.
pub const REKINDLE_START: HeaderName = HeaderName::from_static("rekindle-start");

/// Where a turn's time went.
///
/// A generation's number is Redis' time in milliseconds when its start began, so a cold turn's wait divides there: before
/// it the turn was queued, after it its worker started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// How warm its worker was.
    pub start: Option<Start>,
    /// Until its delivery, or until the start that was made for it.
    pub queue: Duration,
    /// From that start to its delivery.
    pub starting: Duration,
    /// From its delivery to its settlement.
    pub turn: Duration,
}

impl Timing {
    /// Of a turn; what has not happened yet takes no time.
    pub fn of(record: &TurnRecord) -> Self {
        let submitted = record.submitted_ms;
        let settled = record.settled_ms.unwrap_or(submitted);
        let taken = record.taken_ms.unwrap_or(settled).max(submitted);
        let generation = record.result.as_ref().and_then(|done| done["generation"].as_u64());
        let begun = match (record.start, generation) {
            (Some(Start::Cold | Start::Prewarmed), Some(begun)) => begun.clamp(submitted, taken),
            _ => taken,
        };
        Self {
            start: record.start,
            queue: Duration::from_millis(begun - submitted),
            starting: Duration::from_millis(taken - begun),
            turn: Duration::from_millis(settled.saturating_sub(taken)),
        }
    }

    /// The value of `Server-Timing` (<https://www.w3.org/TR/server-timing/>).
    pub fn header(&self) -> String {
        let (queue, start, turn) = (self.queue.as_millis(), self.starting.as_millis(), self.turn.as_millis());
        format!("queue;dur={queue}, start;dur={start}, turn;dur={turn}")
    }

    /// Puts `Server-Timing` and `Rekindle-Start` on an answer.
    pub fn put(&self, headers: &mut HeaderMap) {
        if let Ok(value) = HeaderValue::try_from(self.header()) {
            headers.insert(SERVER_TIMING, value);
        }
        if let Some(start) = self.start {
            headers.insert(REKINDLE_START, HeaderValue::from_static(start.as_str()));
        }
    }
}

/// The turn and what came of it, if it is settled. Asked often: nothing that may be large is read before, and no prompt ever.
///
/// # Errors
/// As the ledger's.
pub async fn settled(ledger: &Ledger, turn: &TurnId) -> Result<Option<Option<TurnRecord>>, LedgerError> {
    match ledger.turn_status(turn).await? {
        Some(status) if status.is_settled() => Ok(ledger.outcome(turn).await?.map(Some)),
        status => Ok(status.map(|_| None)),
    }
}

/// Counts a settled turn.
pub fn count(metrics: &Metrics, record: &TurnRecord) {
    let outcome = match record.status {
        TurnStatus::Completed => "completed",
        _ => record.reason.unwrap_or(FailReason::Error).as_str(),
    };
    let Timing { start, queue, starting, turn } = Timing::of(record);
    metrics.turn(outcome, start.map(Start::as_str), queue, starting, turn);
}

/// The answer to an invoke or a dispatch whose turn is settled, well.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct TurnResult {
    /// The turn.
    pub turn_id: TurnId,
    /// Its unit, as routes take it.
    pub unit: UnitName,
    /// Its unit's key.
    pub uid: UnitId,
    /// `completed`.
    pub status: &'static str,
    /// The answer.
    pub reply: String,
    /// The structured answer, where a schema was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub output: Option<Value>,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The agent CLI's session.
    pub session_id: Option<String>,
    /// What it used of a model, as in `done`.
    #[schemars(with = "Usage")]
    pub usage: Value,
    /// Its `commit` events.
    pub commits: Vec<Value>,
    /// How warm its worker was.
    pub start: Option<Start>,
    /// From its delivery.
    pub duration_ms: u64,
    /// Where its events are.
    pub events_url: String,
}

/// The answer of a settled turn: its result, or 502 with whose fault it was.
///
/// # Errors
/// The problem of a failed turn.
pub fn result(record: &TurnRecord, unit: &UnitName, events_url: &str) -> Result<TurnResult, Failure> {
    let done = record.result.as_ref().unwrap_or(&Value::Null);
    if record.status != TurnStatus::Completed {
        return Err(failed(record, done, events_url));
    }
    let text = |field: &str| done[field].as_str().map(str::to_owned);
    Ok(TurnResult {
        turn_id: record.turn.clone(),
        unit: unit.clone(),
        uid: record.uid.clone(),
        status: "completed",
        reply: text("reply").unwrap_or_default(),
        output: done.get("output").filter(|v| !v.is_null()).cloned(),
        detail: text("detail"),
        session_id: text("sessionId"),
        usage: done.get("usage").cloned().unwrap_or_else(|| json!(Usage::default())),
        commits: record.commits.clone(),
        start: record.start,
        duration_ms: millis(Timing::of(record).turn),
        events_url: events_url.into(),
    })
}

fn failed(record: &TurnRecord, done: &Value, events_url: &str) -> Failure {
    let reason = record.reason.unwrap_or(FailReason::Error);
    let ours = record.detail.as_deref().filter(|text| !text.is_empty());
    let said = ours.or(done["detail"].as_str()).filter(|text| !text.is_empty());
    let detail = said.map_or_else(|| explain(reason).to_owned(), |said| format!("{}: {said}", explain(reason)));
    let mut failure = Failure::new(ErrorCode::TurnFailed, detail)
        .by(at_fault(reason))
        .of_turn(&record.turn)
        .with("reason", reason.as_str())
        .with("attempts", record.attempt)
        .with("events_url", events_url);
    if let Some(reply) = done["reply"].as_str().filter(|text| !text.is_empty()) {
        failure = failure.with("reply", reply);
    }
    if !record.commits.is_empty() {
        failure = failure.with("commits", record.commits.clone());
    }
    failure
}

/// Whose fault a failed turn is.
pub fn at_fault(reason: FailReason) -> Source {
    match reason {
        FailReason::StartFailed | FailReason::WorkerLost | FailReason::Dead | FailReason::Erased => Source::Platform,
        FailReason::Error
        | FailReason::Timeout
        | FailReason::Cancelled
        | FailReason::Oom
        | FailReason::Flooded
        | FailReason::WorkspaceUnusable => Source::Function,
    }
}

fn explain(reason: FailReason) -> &'static str {
    match reason {
        FailReason::Error => "the runner failed",
        FailReason::Timeout => "the turn ran for longer than its profile allows",
        FailReason::Cancelled => "the turn was cancelled",
        FailReason::Oom => "memory ran out during the turn",
        FailReason::Flooded => "the turn said more than `limits` of the deployment allow, and its worker was ended",
        FailReason::WorkerLost => "the worker was lost and no other could be asked what came of the turn",
        FailReason::Dead => "the turn is out of attempts: each worker was lost while it ran",
        FailReason::StartFailed => "no worker could be started",
        FailReason::WorkspaceUnusable => "a workspace cannot be used as a git repository",
        FailReason::Erased => "the unit was erased",
    }
}

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "outcome_tests.rs"]
mod tests;
