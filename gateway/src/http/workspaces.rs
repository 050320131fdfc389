//! Workspaces, read only, through the runtime's `inspect`: files as they are now, commits, differences.

use std::time::Duration;

use axum::Json;
use axum::extract::{FromRequestParts, Path, State};
use axum::response::{IntoResponse, Response};
use contract::{CommitSha, ErrorCode, InspectAnswer, InspectRequest, Look, Owner, WorkspaceId, WorkspacePath};
use data_encoding::BASE64;
use http::request::Parts;
use http::{HeaderName, HeaderValue, header};
use runtimes::RuntimeError;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::problem::{Answer, Failure};
use super::query::Query;
use crate::app::App;
use crate::auth::Caller;

/// Looks that an owner may have at one time.
const LOOKS_PER_OWNER: usize = 2;
/// How long one more waits for its turn.
const WAIT: Duration = Duration::from_secs(5);
/// Bytes of the whole file, of which the body may be the first part.
const SIZE: HeaderName = HeaderName::from_static("rekindle-size");
/// Whether the body is only the first part.
const TRUNCATED: HeaderName = HeaderName::from_static("rekindle-truncated");

/// No owner takes all the places that the runtime has.
async fn admit(app: &App, owner: &Owner) -> Result<OwnedSemaphorePermit, Failure> {
    let places = app.looks.of(owner, || Semaphore::new(LOOKS_PER_OWNER));
    match tokio::time::timeout(WAIT, places.acquire_owned()).await {
        Ok(Ok(place)) => Ok(place),
        _ => {
            let detail = format!("at most {LOOKS_PER_OWNER} looks into workspaces at one time; try again");
            Err(Failure::new(ErrorCode::TooMany, detail).retry_after(Duration::from_secs(1)))
        }
    }
}

/// A workspace that the caller named, and the rest of the path where the route has one.
#[derive(Debug)]
pub struct WorkspaceAt {
    caller: Caller,
    id: WorkspaceId,
    path: WorkspacePath,
}

#[derive(Debug, Deserialize)]
struct Segments {
    id: String,
    #[serde(default)]
    path: String,
}

impl FromRequestParts<App> for WorkspaceAt {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        let caller = Caller::from_request_parts(parts, app).await?;
        let wrong = |detail: String| Failure::new(ErrorCode::InvalidParameter, detail);
        let Path(Segments { id, path }) =
            Path::from_request_parts(parts, app).await.map_err(|rejection| wrong(rejection.body_text()))?;
        let id = WorkspaceId::parse(id).map_err(|e| wrong(format!("the workspace in the path: {e}")))?;
        let path = WorkspacePath::parse(path).map_err(|e| wrong(format!("the file in the path: {e}")))?;
        Ok(Self { caller, id, path })
    }
}

impl WorkspaceAt {
    /// Who calls, and for which workspace.
    pub(super) fn names(self) -> (Owner, WorkspaceId) {
        (self.caller.owner, self.id)
    }

    /// Looks, if the workspace is the caller's (it is its who used it first) or was granted to it. What is nobody's yet is not
    /// there for anybody.
    async fn look(self, app: &App, look: Look) -> Result<InspectAnswer, Failure> {
        let access = app.ledger()?.workspace_access(&self.id, &self.caller.owner).await?;
        let seen = access.filter(|access| access.granted.is_some() || self.caller.may_see(&access.owner));
        seen.ok_or_else(|| Failure::not_found("workspace"))?;
        // Who looks pays for it, not who shared.
        let _place = admit(app, &self.caller.owner).await?;
        let request = InspectRequest { workspace: self.id, look, deadline_sec: None };
        app.runtime.inspect(&request).await.map_err(|error| match error {
            RuntimeError::NotFound => {
                Failure::new(ErrorCode::NotFound, "the workspace has nothing of that name, or no turn has made it yet")
            }
            RuntimeError::Refused { problem } if problem.status == ErrorCode::InvalidParameter.status() => {
                Failure::new(ErrorCode::InvalidParameter, problem.detail.unwrap_or(problem.title))
            }
            other => other.into(),
        })
    }
}

/// `GET /v1/workspaces/{id}/files` and `…/files/{path}`: a file's bytes as they are; a folder or a link as JSON.
pub async fn files(State(app): State<App>, at: WorkspaceAt) -> Answer {
    let look = Look::Files { path: at.path.clone() };
    match at.look(&app, look).await? {
        InspectAnswer::File { content, size, truncated, .. } => raw(&content, size, truncated),
        other => Ok(Json(other).into_response()),
    }
}

/// Never shown as a page of this site, whatever is in it.
fn raw(content: &str, size: u64, truncated: bool) -> Answer {
    let bytes = BASE64.decode(content.as_bytes()).map_err(|error| {
        tracing::error!(%error, "the runtime's answer is not base64");
        Failure::new(ErrorCode::Internal, "the file could not be read; the gateway's log says why")
    })?;
    let mut response = Response::new(bytes.into());
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_DISPOSITION, "attachment"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox"),
        (header::CACHE_CONTROL, "no-store"),
        (TRUNCATED, if truncated { "true" } else { "false" }),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.insert(SIZE, HeaderValue::from(size));
    Ok(response)
}

/// Which commits.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Which {
    limit: Option<u32>,
    before: Option<CommitSha>,
}

/// `GET /v1/workspaces/{id}/log`: commits of the present branch, the newest first.
pub async fn log(State(app): State<App>, at: WorkspaceAt, Query(which): Query<Which>) -> Answer {
    let look = Look::Log { limit: which.limit, before: which.before };
    Ok(Json(at.look(&app, look).await?).into_response())
}

/// Between which commits.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Between {
    from: Option<CommitSha>,
    to: Option<CommitSha>,
}

/// `GET /v1/workspaces/{id}/diff`: what differs between two commits; of the last one if none is named.
pub async fn diff(State(app): State<App>, at: WorkspaceAt, Query(between): Query<Between>) -> Answer {
    let look = Look::Diff { from: between.from, to: between.to };
    Ok(Json(at.look(&app, look).await?).into_response())
}
