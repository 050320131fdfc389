//! Who else may use a workspace, decided by its owner.

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::response::IntoResponse;
use contract::{ErrorCode, Mode, Owner, WorkspaceId};
use http::StatusCode;
use http::request::Parts;
use ledger::{Grant, Granting};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::body::JsonBody;
use super::problem::{Answer, Failure};
use crate::app::App;
use crate::auth::Caller;

/// How a workspace is granted.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantBody {
    /// `ro` or `rw`.
    mode: Mode,
}

/// A workspace's grants.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GrantList {
    /// By owner.
    grants: Vec<GrantView>,
}

/// A grant.
#[derive(Debug, Serialize, JsonSchema)]
pub struct GrantView {
    /// To whom: its `sub`.
    owner: Owner,
    /// How.
    mode: Mode,
}

/// The `{id}` of a route, and its `{owner}` where it has one.
#[derive(Debug)]
pub struct GrantPath {
    caller: Caller,
    workspace: WorkspaceId,
    to: Option<Owner>,
}

#[derive(Debug, Deserialize)]
struct Segments {
    id: String,
    owner: Option<String>,
}

impl FromRequestParts<App> for GrantPath {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let wrong = |detail: String| Failure::new(ErrorCode::InvalidParameter, detail);
        let Path(Segments { id, owner }) =
            Path::from_request_parts(parts, app).await.map_err(|rejection| wrong(rejection.body_text()))?;
        let workspace = WorkspaceId::parse(id).map_err(|e| wrong(format!("the workspace in the path: {e}")))?;
        let to = owner.map(Owner::parse).transpose().map_err(|e| wrong(format!("the owner in the path: {e}")))?;
        Ok(Self { caller, workspace, to })
    }
}

impl GrantPath {
    fn to(&self) -> Result<&Owner, Failure> {
        self.to.as_ref().ok_or_else(|| Failure::new(ErrorCode::InvalidParameter, "no owner in the path"))
    }
}

/// `GET /v1/workspaces/{id}/grants`.
pub async fn list(State(app): State<App>, path: GrantPath) -> Answer {
    let grants = app.ledger()?.grants(&path.workspace, &path.caller.owner).await?;
    let grants = grants.ok_or_else(|| Failure::not_found("workspace"))?;
    let shown = |Grant { to, mode }| GrantView { owner: to, mode };
    Ok(Json(GrantList { grants: grants.into_iter().map(shown).collect() }).into_response())
}

/// `PUT /v1/workspaces/{id}/grants/{owner}`.
pub async fn grant(State(app): State<App>, path: GrantPath, body: JsonBody) -> Answer {
    let GrantBody { mode } = body.parse()?;
    let to = path.to()?;
    if *to == path.caller.owner {
        return Err(Failure::new(ErrorCode::InvalidParameter, "a workspace is its owner's without a grant"));
    }
    let most = app.settings.limits.grants_per_workspace;
    let granted = app.ledger()?.grant(&path.workspace, &path.caller.owner, to, mode, most).await?;
    answer(granted, most)
}

/// `DELETE /v1/workspaces/{id}/grants/{owner}`.
pub async fn revoke(State(app): State<App>, path: GrantPath) -> Answer {
    let revoked = app.ledger()?.revoke_grant(&path.workspace, &path.caller.owner, path.to()?).await?;
    answer(revoked, 0)
}

fn answer(granting: Granting, most: u32) -> Answer {
    match granting {
        Granting::Done => Ok(StatusCode::NO_CONTENT.into_response()),
        Granting::NoWorkspace => Err(Failure::not_found("workspace")),
        Granting::NoGrant => Err(Failure::not_found("grant")),
        Granting::Stored => {
            let detail = "you have as much stored as you may (limits.stored_mb_per_owner): erase units, or end grants";
            Err(Failure::new(ErrorCode::StoredTooMuch, detail))
        }
        Granting::Full => {
            let detail = format!("the workspace is granted to {most} owners, which is all; end one of these first");
            Err(Failure::new(ErrorCode::Conflict, detail))
        }
    }
}
