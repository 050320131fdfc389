//! `GET /v1/pool`: the caller's part of the warm pool, and how often it was warm.

use std::collections::BTreeMap;

use axum::extract::State;
use contract::{UnitId, UnitName};
use ledger::{Hits, PoolCounts, PoolUnit, UnitState};
use schemars::JsonSchema;
use serde::Serialize;

use super::large;
use super::problem::Answer;
use super::views::time;
use crate::address::shown_name;
use crate::app::App;
use crate::auth::{Caller, Scope};

/// Units that have a worker, and how warm turns were served.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Pool {
    /// The caller's units that have a worker.
    units: Vec<PoolMember>,
    /// How warm the caller's turns were served, ever.
    hits: HitCounts,
    /// Most units of one owner that have a worker at once.
    live_per_owner: u64,
    /// All owners that have a worker; only for callers with the scope `units:admin`.
    #[serde(skip_serializing_if = "Option::is_none")]
    owners: Option<BTreeMap<String, OwnerCounts>>,
}

/// A unit that has a worker.
#[derive(Debug, Serialize, JsonSchema)]
pub struct PoolMember {
    /// What routes take.
    name: UnitName,
    /// Its key everywhere else.
    uid: UnitId,
    /// `starting`, `busy`, `idle` or `draining`; `waiting` for a place in the total.
    state: &'static str,
    /// Since when it has been starting or live (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// Since when it idles.
    #[serde(skip_serializing_if = "Option::is_none")]
    idle_since: Option<String>,
    /// When it is ended if nothing comes; of a busy one, when its lifetime is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

/// Turns by how warm their worker was.
#[derive(Debug, Serialize, JsonSchema)]
pub struct HitCounts {
    /// It was there.
    warm: u64,
    /// It was a prewarmed slot.
    prewarmed: u64,
    /// It was started for them.
    cold: u64,
}

/// An owner's units that have a worker.
#[derive(Debug, Serialize, JsonSchema)]
pub struct OwnerCounts {
    /// Starting, live or draining.
    live: u64,
    /// Live without a turn.
    idle: u64,
}

/// The caller's part; with the scope `units:admin` also how many each owner has.
pub async fn get(State(app): State<App>, caller: Caller) -> Answer {
    let ledger = app.ledger()?;
    let room = large::room(&app, &caller.owner).await?;
    let units = ledger.pool(&caller.owner).await?;
    let Hits { warm, prewarmed, cold } = ledger.hits(&caller.owner).await?;
    let owners = match caller.may(Scope::Admin) {
        false => None,
        true => {
            let shown = |PoolCounts { live, idle }| OwnerCounts { live, idle };
            Some(ledger.pool_counts().await?.into_iter().map(|(owner, counts)| (owner, shown(counts))).collect())
        }
    };
    let pool = Pool {
        units: units.into_iter().map(member).collect(),
        hits: HitCounts { warm, prewarmed, cold },
        live_per_owner: app.settings.limits.live_per_owner,
        owners,
    };
    large::json(&app, &caller.owner, room, &pool).await
}

fn member(unit: PoolUnit) -> PoolMember {
    let state = match unit.state {
        UnitState::Cold => "waiting",
        UnitState::Live { .. } if unit.idle_since_ms.is_some() => "idle",
        UnitState::Live { .. } => "busy",
        other => other.as_str(),
    };
    PoolMember {
        name: shown_name(&unit.name, &unit.owner),
        uid: unit.uid,
        state,
        since: unit.since_ms.and_then(time),
        idle_since: unit.idle_since_ms.and_then(time),
        until: unit.until_ms.and_then(time),
    }
}
