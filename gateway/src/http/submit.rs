//! The three answers to a submission: JSON when it is settled, events as they happen, or 202 at once.

use std::time::Duration;

use axum::Json;
use axum::response::{IntoResponse, Response};
use contract::{ErrorCode, Start, TurnId, UnitId, UnitName};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use ledger::{Entry, Share, StoredBound, StreamId, Submission, Submitted, Subscription, TurnRecord};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::{Instant, interval, timeout_at};

use super::outcome::{self, REKINDLE_START, Timing};
use super::preferences::{PREFERENCE_APPLIED, Preferences, wants_events};
use super::problem::{Answer, Failure};
use super::stream::{self, Head};
use crate::address::shown_name;
use crate::app::App;
use crate::auth::Caller;

/// How often a waiting call looks at the turn itself, for what was trimmed before it was read.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Submits, and answers as the headers ask.
///
/// # Errors
/// What the ledger refuses, as problems; 502 for a turn that failed, 504 for one that goes on.
pub async fn answer(app: &App, caller: &Caller, headers: &HeaderMap, submission: Submission) -> Answer {
    let preferences = Preferences::of(headers);
    let owner = submission.owner.clone();
    let shown = shown_name(&submission.name, &owner);
    let requested = submission.shape.workspaces.clone();
    let accepted = match app.submit(submission).await? {
        Submitted::Accepted { turn, uid, position, after, start, deliver } => {
            let start = if deliver.is_some() { Some(Start::Warm) } else { start.map(|_| Start::Cold) };
            Accepted { turn, uid, after, position: Some(position), start }
        }
        Submitted::Replayed { turn, uid, after } => Accepted { turn, uid, after, position: None, start: None },
        Submitted::KeyReused => {
            let detail = "this Idempotency-Key was used for another request; take a new one";
            return Err(Failure::new(ErrorCode::IdempotencyMismatch, detail));
        }
        Submitted::WorkspaceNotFound(id) => {
            let index = requested.iter().position(|at| at.id == id).unwrap_or_default();
            return Err(Failure::not_found(&format!("workspace `{id}`")).at(&format!("/workspaces/{index}/id")));
        }
        Submitted::WorkspaceReadOnly(id) => {
            let index = requested.iter().position(|at| at.id == id).unwrap_or_default();
            let detail = format!("workspace `{id}` was granted to you read only; ask for it with the mode `ro`");
            let pointer = format!("/workspaces/{index}/mode");
            return Err(Failure::new(ErrorCode::Forbidden, detail).at(&pointer));
        }
        Submitted::QueueFull { retry_after } => {
            let detail = "too many turns wait in this unit; try again when some are done";
            return Err(Failure::new(ErrorCode::TooMany, detail).retry_after(retry_after));
        }
        Submitted::OwnerQueueFull { retry_after } => {
            let detail = "too many turns wait in this owner's units; try again when some are done";
            return Err(Failure::new(ErrorCode::TooMany, detail).retry_after(retry_after));
        }
        Submitted::AllFull { retry_after } => {
            let detail = "too many turns of all owners wait or run; try again when some are done";
            return Err(Failure::new(ErrorCode::TooMany, detail).retry_after(retry_after));
        }
        Submitted::Stored(bound) => return Err(stored(bound)),
        Submitted::WorkspaceErasing(id) => {
            let detail =
                format!("workspace `{id}` is being erased; repeat DELETE /v1/workspaces/{id} until it is gone");
            return Err(Failure::new(ErrorCode::Conflict, detail));
        }
        Submitted::Erasing => {
            let detail = "the unit is being erased; try again when it is gone";
            return Err(Failure::new(ErrorCode::Conflict, detail).retry_after(Duration::from_secs(1)));
        }
    };
    // Routes read names as the caller's own; somebody else's unit has its uid.
    let in_routes = if caller.owner == owner { shown.to_string() } else { accepted.uid.to_string() };
    let events_url = format!("/v1/units/{in_routes}/events?from={}", accepted.after);
    let call = Call { app, preferences, shown, events_url, accepted };
    if preferences.respond_async && preferences.wait.is_none() {
        return Ok(call.accepted_answer());
    }
    if wants_events(headers) {
        let share = app.shares.of(&caller.owner);
        let subscription = app.fanout()?.subscribe(&call.accepted.uid, call.accepted.after, &share).await?;
        return Ok(call.with_known_start(stream::of_turn(app, subscription, share, call.accepted.turn.clone())));
    }
    call.wait().await
}

/// Says what to delete so that there is room again.
fn stored(bound: StoredBound) -> Failure {
    let detail = match bound {
        StoredBound::Bytes(most) => format!(
            "you have as much stored as you may, {} MiB (limits.stored_mb_per_owner, and a quarter of the ledger's memory at the most): erase units with \
             DELETE /v1/units/{{unit}}; the prompts and events of ended turns go by themselves (limits.detail_ttl_sec)",
            most >> 20
        ),
        StoredBound::Units(most) => format!(
            "you have {most} units, which is all (limits.units_per_owner): erase some with DELETE /v1/units/{{unit}}"
        ),
        StoredBound::Workspaces(most) => format!(
            "you have named {most} workspaces, which is all (limits.workspaces_per_owner): GET /v1/workspaces lists \
             them, DELETE /v1/workspaces/{{id}} erases one"
        ),
    };
    Failure::new(ErrorCode::StoredTooMuch, detail)
}

/// The answer when the caller does not wait for the turn.
#[derive(Debug, Serialize, JsonSchema)]
pub struct AcceptedTurn {
    turn_id: TurnId,
    /// Its unit, as routes take it.
    unit: UnitName,
    /// Its unit's key.
    uid: UnitId,
    /// `queued`.
    status: &'static str,
    /// How many turns are before it; absent for a repeated request.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// Tells what came of it.
    turn_url: String,
    /// Tells what happens.
    events_url: String,
}

struct Accepted {
    turn: TurnId,
    uid: UnitId,
    after: StreamId,
    position: Option<u64>,
    /// How warm its worker is, where that is known already.
    start: Option<Start>,
}

struct Call<'a> {
    app: &'a App,
    preferences: Preferences,
    shown: UnitName,
    events_url: String,
    accepted: Accepted,
}

impl Call<'_> {
    /// 202: where to look.
    fn accepted_answer(&self) -> Response {
        let turn_url = format!("/v1/turns/{}", self.accepted.turn);
        let body = AcceptedTurn {
            turn_id: self.accepted.turn.clone(),
            unit: self.shown.clone(),
            uid: self.accepted.uid.clone(),
            status: "queued",
            position: self.accepted.position,
            turn_url: turn_url.clone(),
            events_url: self.events_url.clone(),
        };
        let response = (StatusCode::ACCEPTED, [(header::LOCATION, turn_url)], Json(body)).into_response();
        self.with_applied(self.with_known_start(response))
    }

    fn with_known_start(&self, mut response: Response) -> Response {
        if let Some(start) = self.accepted.start {
            response.headers_mut().insert(REKINDLE_START, HeaderValue::from_static(start.as_str()));
        }
        response
    }

    fn with_applied(&self, mut response: Response) -> Response {
        if let Some(applied) = self.preferences.applied() {
            response.headers_mut().insert(PREFERENCE_APPLIED, applied);
        }
        response
    }

    /// The turn's result; when the wait is over first, 504, or 202 for who asked for that as well.
    async fn wait(&self) -> Answer {
        let subscription = self.subscribe(self.accepted.after).await?;
        let limits = &self.app.settings.limits;
        let wait = self.preferences.wait.unwrap_or(Duration::from_secs(limits.default_wait_sec));
        let settled = tokio::select! {
            settled = timeout_at(Instant::now() + wait, self.settled(subscription)) => settled.ok().transpose()?,
            () = self.app.ended.cancelled() => None,
        };
        // A wait of no time at all still sees what is settled already.
        let settled = match settled {
            None => self.look().await?,
            settled => settled,
        };
        let Some(record) = settled else {
            if self.preferences.respond_async {
                return Ok(self.accepted_answer());
            }
            let detail = "the turn goes on; `turn_url` tells what came of it, `events_url` what happens";
            let failure = Failure::new(ErrorCode::StillRunning, detail).of_turn(&self.accepted.turn);
            return Err(failure.with("events_url", self.events_url.as_str()));
        };
        outcome::count(&self.app.metrics, &record);
        let mut response = match outcome::result(&record, &self.shown, &self.events_url) {
            Ok(result) => Json(result).into_response(),
            Err(failure) => failure.into_response(),
        };
        Timing::of(&record).put(response.headers_mut());
        Ok(self.with_applied(response))
    }

    /// Its own share: what it reads it drops at once, and readers that are slow do not keep it waiting.
    async fn subscribe(&self, from: StreamId) -> Result<Subscription, Failure> {
        let share = Share::new(self.app.settings.limits.event_bytes.saturating_mul(4));
        Ok(self.app.fanout()?.subscribe(&self.accepted.uid, from, &share).await?)
    }

    /// Waits for the turn's last event, and looks at the turn itself now and then: that event may have been trimmed before
    /// it was read (a retry long after, a gap).
    async fn settled(&self, mut subscription: Subscription) -> Result<TurnRecord, Failure> {
        let turn = &self.accepted.turn;
        let mut seen = self.accepted.after;
        let mut look = interval(LOOK_EVERY);
        if self.accepted.position.is_some() {
            // Only a retry finds something at once.
            look.tick().await;
        }
        loop {
            let look_now = tokio::select! {
                entry = subscription.next() => match entry {
                    Some(Entry::Event { id, json }) => {
                        seen = id;
                        Head::of(&json).settles(turn)
                    }
                    Some(Entry::Gap { .. }) => true,
                    None => {
                        subscription = self.subscribe(seen).await?;
                        true
                    }
                },
                _ = look.tick() => true,
            };
            if !look_now {
                continue;
            }
            if let Some(record) = self.look().await? {
                return Ok(record);
            }
        }
    }

    /// The turn, if it is settled.
    async fn look(&self) -> Result<Option<TurnRecord>, Failure> {
        let turn = &self.accepted.turn;
        match outcome::settled(self.app.ledger()?, turn).await {
            Ok(Some(settled)) => Ok(settled),
            Ok(None) => Err(Failure::not_found("turn any more: its unit was erased").of_turn(turn)),
            // The turn is safe; the next look may succeed.
            Err(error) if error.retry_after().is_some() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
