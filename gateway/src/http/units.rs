//! Units: list, inspect, stop, erase.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use contract::{ErrorCode, UnitId, UnitName};
use http::{HeaderMap, StatusCode};
use ledger::{Cursor, Erase, Ledger, LedgerError, UnitRecord, UnitState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::large::{self, PAGE_BYTES};
use super::preferences::{PREFERENCE_APPLIED, Preferences};
use super::problem::{Answer, Failure};
use super::query::Query;
use super::unit_path::UnitPath;
use super::views::UnitView;
use crate::app::App;
use crate::auth::Caller;

const PAGE: usize = 50;
const PAGE_MAX: usize = 200;
/// How long an erasure waits for the worker's end when the caller does not say: a grace period and then some.
pub(super) const ERASE_WAIT: Duration = Duration::from_secs(30);
/// Between two looks at a unit that drains.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Which units.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    cursor: Option<UnitName>,
    limit: Option<usize>,
}

/// The caller's units by full name. A page may have fewer units than were asked for: `next` says whether there are more.
#[derive(Debug, Serialize, JsonSchema)]
pub struct UnitList {
    units: Vec<UnitView>,
    /// `?cursor=` of the next page; null on the last one.
    next: Option<UnitName>,
}

/// Size of a page.
///
/// # Errors
/// 400 outside of 1 to 200.
pub fn limit(asked: Option<usize>) -> Result<usize, Failure> {
    match asked.unwrap_or(PAGE) {
        limit @ 1..=PAGE_MAX => Ok(limit),
        _ => Err(Failure::new(ErrorCode::InvalidParameter, format!("limit must be 1 to {PAGE_MAX}"))),
    }
}

/// `GET /v1/units`: the caller's own, paged.
pub async fn list(State(app): State<App>, caller: Caller, Query(which): Query<Which>) -> Answer {
    let limit = limit(which.limit)?;
    let room = large::room(&app, &caller.owner).await?;
    let (units, next) = app.ledger()?.units(&caller.owner, which.cursor.map(Cursor), limit, PAGE_BYTES).await?;
    let units = units.into_iter().map(UnitView::from).collect();
    let list = UnitList { units, next: next.map(|Cursor(name)| name) };
    large::json(&app, &caller.owner, room, &list).await
}

/// `GET /v1/units/{unit}`.
pub async fn get(State(app): State<App>, path: UnitPath) -> Answer {
    Ok(Json(UnitView::from(path.record(&app).await?)).into_response())
}

/// `POST /v1/units/{unit}/stop`: ends the worker. 200 when it is gone, 202 while it drains; `Prefer: wait=N` waits for it.
/// A turn that runs goes back to the head and is run by the next generation.
pub async fn stop(State(app): State<App>, path: UnitPath, headers: HeaderMap) -> Answer {
    let unit = path.record(&app).await?;
    let ledger = app.ledger()?;
    ledger.drain_unit(&unit.uid).await?;
    let preferences = Preferences::of(&headers);
    let wait = preferences.wait.unwrap_or_default();
    let unit = until_gone(ledger, &unit, Instant::now() + wait).await?;
    let Some(unit) = unit else {
        return Err(Failure::not_found("unit"));
    };
    let status = if drains(&unit) { StatusCode::ACCEPTED } else { StatusCode::OK };
    let mut response: Response = (status, Json(UnitView::from(unit))).into_response();
    if let Some(applied) = preferences.applied() {
        response.headers_mut().insert(PREFERENCE_APPLIED, applied);
    }
    Ok(response)
}

fn drains(unit: &UnitRecord) -> bool {
    matches!(unit.state, UnitState::Draining { .. })
}

/// The unit when the generation that it has now is gone, or as it is at the deadline.
async fn until_gone(ledger: &Ledger, unit: &UnitRecord, deadline: Instant) -> Result<Option<UnitRecord>, LedgerError> {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = ledger.unit(&unit.uid).await?;
        let gone = now.as_ref().is_none_or(|now| !drains(now));
        if gone || Instant::now() >= deadline {
            return Ok(now);
        }
        look.tick().await;
    }
}

/// What to erase.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    #[serde(default)]
    keep_workspace: bool,
}

/// `DELETE /v1/units/{unit}`: drains it, has the runtime put its state and its own workspace into the trash, and forgets it.
/// When it cannot end in time, it stays marked and takes no turns; the same call goes on from there.
pub async fn erase(State(app): State<App>, path: UnitPath, Query(keep): Query<Keep>, headers: HeaderMap) -> Answer {
    let unit = path.record(&app).await?;
    let wait = Preferences::of(&headers).wait.unwrap_or(ERASE_WAIT);
    let deadline = Instant::now() + wait;
    // In a task of its own: a caller that leaves must not leave the folders of a unit that is forgotten next.
    let erasing = app.tasks.spawn(finish(app.clone(), unit.uid, keep.keep_workspace, deadline));
    match erasing.await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!(%error, "an erasure ended badly");
            Err(Failure::new(ErrorCode::Internal, "the erasure ended badly; repeat the call"))
        }
    }
}

async fn finish(app: App, uid: UnitId, keep_workspace: bool, deadline: Instant) -> Answer {
    let ledger = app.ledger()?;
    let keep_workspace = match cold(ledger, &uid, keep_workspace, deadline).await? {
        Erase::Begun { keep_workspace } => keep_workspace,
        Erase::Unknown => return Ok(StatusCode::NO_CONTENT.into_response()),
        Erase::Draining => {
            let detail = "the unit takes no more turns, but its worker has not ended yet; repeat the call to go on";
            return Err(Failure::new(ErrorCode::Conflict, detail).retry_after(Duration::from_secs(1)));
        }
    };
    // The folders first: a unit that is forgotten with its folders there would come back with them.
    app.runtime.trash_state(&uid).await?;
    if !keep_workspace {
        app.runtime.trash_workspace(&uid.own_workspace()).await?;
    }
    ledger.forget(&uid).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Asks until the unit does not drain any more, or the deadline has passed.
async fn cold(ledger: &Ledger, uid: &UnitId, keep_workspace: bool, deadline: Instant) -> Result<Erase, LedgerError> {
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        let erase = ledger.erase(uid, keep_workspace).await?;
        if erase != Erase::Draining || Instant::now() >= deadline {
            return Ok(erase);
        }
    }
}
