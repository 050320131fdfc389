//! A unit's conversation, one turn of it, and its end before its time.

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use contract::TurnId;
use ledger::Cancel;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::large::{self, PAGE_BYTES};
use super::problem::{Answer, Failure};
use super::query::Query;
use super::unit_path::{TurnPath, UnitPath};
use super::units::limit;
use super::views::TurnView;
use crate::app::App;

/// Which turns of a unit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    before: Option<TurnId>,
    limit: Option<usize>,
}

/// Turns of a unit, the newest first, with the beginnings of their texts. A page may have fewer turns than were asked for:
/// `next` says whether there are more.
#[derive(Debug, Serialize, JsonSchema)]
pub struct TurnList {
    turns: Vec<TurnView>,
    /// `?before=` of the next page; null on the last one.
    next: Option<TurnId>,
}

/// What a cancel came to.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Cancelled {
    turn_id: TurnId,
    /// `cancelled` when it had not begun, `cancelling` while its worker is told, else what became of it before.
    status: &'static str,
}

/// `GET /v1/units/{unit}/turns`: the conversation, the newest turn first.
pub async fn list(State(app): State<App>, path: UnitPath, Query(which): Query<Which>) -> Answer {
    let limit = limit(which.limit)?;
    let unit = path.record(&app).await?;
    let room = large::room(&app, &path.caller.owner).await?;
    let (turns, more) = app.ledger()?.turns(&unit.uid, which.before, limit, PAGE_BYTES).await?;
    let next = turns.last().filter(|_| more).map(|turn| turn.turn.clone());
    let list = TurnList { turns: turns.into_iter().map(TurnView::from).collect(), next };
    large::json(&app, &path.caller.owner, room, &list).await
}

/// `GET /v1/turns/{turn}`: its prompt, status and result.
pub async fn get(State(app): State<App>, path: TurnPath) -> Answer {
    let room = large::room(&app, &path.caller.owner).await?;
    // First whose it is: nobody reads megabytes of another owner's.
    path.record(&app).await?;
    let whole = app.ledger()?.turn(&path.turn).await?.ok_or_else(|| Failure::not_found("turn"))?;
    large::json(&app, &path.caller.owner, room, &TurnView::from(whole)).await
}

/// `POST /v1/turns/{turn}/cancel`: idempotent; the worker stays warm.
pub async fn cancel(State(app): State<App>, path: TurnPath) -> Answer {
    let record = path.record(&app).await?;
    let ledger = app.ledger()?;
    let status = match ledger.cancel(&path.turn).await? {
        Cancel::Unknown => return Err(Failure::not_found("turn")),
        Cancel::Settled => "cancelled",
        Cancel::AlreadySettled => record.status.as_str(),
        Cancel::Flagged { deliver } => {
            let unit = ledger.unit(&record.uid).await?;
            let generation = unit.and_then(|unit| unit.state.generation());
            if let (Some(link), Some(generation)) = (deliver, generation) {
                app.links.cancel(&record.uid, generation, link.connection, path.turn.clone());
            }
            "cancelling"
        }
    };
    Ok(Json(Cancelled { turn_id: path.turn, status }).into_response())
}
