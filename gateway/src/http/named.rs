//! Workspaces that a caller named: which there are, and how one becomes nobody's.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use contract::{ErrorCode, Owner, WorkspaceId};
use http::{HeaderMap, StatusCode};
use ledger::EraseWorkspace;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::preferences::Preferences;
use super::problem::{Answer, Failure};
use super::units::{ERASE_WAIT, LOOK_EVERY};
use super::workspaces::WorkspaceAt;
use crate::app::App;
use crate::auth::Caller;

/// The caller's named workspaces, at most `limits.workspaces_per_owner`.
#[derive(Debug, Serialize, JsonSchema)]
pub struct WorkspaceList {
    /// By name.
    workspaces: Vec<WorkspaceId>,
}

/// `GET /v1/workspaces`.
pub async fn list(State(app): State<App>, caller: Caller) -> Answer {
    let mut workspaces = app.ledger()?.workspaces(&caller.owner).await?;
    workspaces.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    Ok(Json(WorkspaceList { workspaces }).into_response())
}

/// `DELETE /v1/workspaces/{id}`: ends the idle workers that mount it, has the runtime put its folder into the trash, and gives up
/// the name. When that cannot end in time it stays marked, no turn may name it, and the same call goes on from there.
pub async fn erase(State(app): State<App>, at: WorkspaceAt, headers: HeaderMap) -> Answer {
    let wait = Preferences::of(&headers).wait.unwrap_or(ERASE_WAIT);
    let (owner, id) = at.names();
    // In a task of its own: a caller that leaves must not leave the name with a folder that is gone.
    let erasing = app.tasks.spawn(finish(app.clone(), id, owner, Instant::now() + wait));
    match erasing.await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!(%error, "an erasure ended badly");
            Err(Failure::new(ErrorCode::Internal, "the erasure ended badly; repeat the call"))
        }
    }
}

async fn finish(app: App, id: WorkspaceId, owner: Owner, deadline: Instant) -> Answer {
    let ledger = app.ledger()?;
    let conflict = |detail: &str| Failure::new(ErrorCode::Conflict, detail).retry_after(Duration::from_secs(1));
    let mut look = interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        match ledger.erase_workspace(&id, &owner).await? {
            EraseWorkspace::Begun => break,
            EraseWorkspace::Draining if Instant::now() < deadline => {}
            EraseWorkspace::Draining => {
                let detail = "no turn may name the workspace any more, but a worker that mounts it has not ended yet; repeat the call";
                return Err(conflict(detail));
            }
            EraseWorkspace::Busy => {
                return Err(conflict("turns that name the workspace wait or run; cancel them first"));
            }
            EraseWorkspace::OfUnit => {
                let detail = "the workspace is a unit's own; it goes with the unit (DELETE /v1/units/{unit})";
                return Err(Failure::new(ErrorCode::Conflict, detail));
            }
            EraseWorkspace::Unknown => return Err(Failure::not_found("workspace")),
        }
    }
    // The folder first: whoever takes the name next must not find it.
    app.runtime.trash_workspace(&id).await?;
    ledger.forget_workspace(&id, &owner).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
