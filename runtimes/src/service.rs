//! `runtime.v1` over HTTP, on a Unix socket of mode 0600 or on TCP with a bearer token.

use std::convert::Infallible;
use std::io;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Path, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use bytes::Bytes;
use contract::{
    Backend, ErrorCode, InspectAnswer, InspectRequest, Problem, StopReason, UnitId, WorkloadId, WorkloadSpec,
    WorkloadStatus, WorkspaceId,
};
use http::{HeaderValue, StatusCode, Uri, header};
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::broadcast::error::RecvError;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::backend::Isolation;
use crate::error::RuntimeError;
use crate::leftovers::Leftovers;
use crate::room::Room;
use crate::runtime::Runtime;
use crate::tombstones::StaleProblem;

const BODY_MAX_BYTES: usize = 2 << 20;
/// A watch without news says that it is alive.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// `GET /health` of a runtime that can work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// What runs workloads.
    pub backend: Backend,
    /// What stands between them and the host.
    pub isolation: Isolation,
    /// The deployment whose workloads these are.
    pub deployment: String,
    /// How full the disk with the store is.
    pub room: Room,
}

/// Where the service listens.
#[derive(Debug)]
pub enum Listener {
    /// A Unix socket, mode 0600: who may open it is decided by the file.
    Unix(UnixListener, PathBuf),
    /// TCP: a bearer token is needed.
    Tcp(TcpListener),
}

impl Listener {
    /// Listens on `unix:///path` or `http://host:port`. A socket file that nobody listens on is replaced.
    ///
    /// # Errors
    /// With the address, when it is in use or cannot be had.
    pub async fn bind(url: &str) -> io::Result<Self> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("cannot listen on {url}: {e}"));
        if let Some(path) = url.strip_prefix("unix://").filter(|p| p.starts_with('/')) {
            return Self::bind_unix(PathBuf::from(path)).await.map_err(named);
        }
        match url.strip_prefix("http://") {
            Some(address) => TcpListener::bind(address.trim_end_matches('/')).await.map(Self::Tcp).map_err(named),
            None => {
                Err(named(io::Error::new(io::ErrorKind::InvalidInput, "it must be unix:///path or http://host:port")))
            }
        }
    }

    async fn bind_unix(path: PathBuf) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        match std::fs::symlink_metadata(&path) {
            Ok(there) if !there.file_type().is_socket() => {
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is a file that is no socket"));
            }
            Ok(_) if tokio::net::UnixStream::connect(&path).await.is_ok() => {
                return Err(io::Error::new(io::ErrorKind::AddrInUse, "another runtime listens there"));
            }
            _ => {}
        }
        // Bound beside and renamed, so that it never has a wider mode under its own name.
        let fresh = path.with_extension(format!("new{}", std::process::id()));
        crate::files::remove_if_there(&fresh)?;
        let listener = UnixListener::bind(&fresh)?;
        std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&fresh, &path)?;
        Ok(Self::Unix(listener, path))
    }
}

/// Serves until cancelled, then ends what is open. Ends no workload.
///
/// # Errors
/// When TCP is served without a token, or the listener fails.
pub async fn serve(
    runtime: Runtime,
    listener: Listener,
    token: Option<String>,
    stop: CancellationToken,
) -> io::Result<()> {
    let routes = routes(runtime, stop.clone());
    let ended = stop.cancelled_owned();
    match listener {
        Listener::Unix(listener, _) => axum::serve(listener, routes).with_graceful_shutdown(ended).await,
        Listener::Tcp(listener) => {
            let Some(token) = token.filter(|t| !t.is_empty()) else {
                let detail = "runtime.v1 on TCP needs a token: set runtime.token_file";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, detail));
            };
            let guarded = routes.layer(middleware::from_fn(move |request: Request, next: Next| {
                let allowed = bears(&request, &token);
                async move {
                    if allowed {
                        next.run(request).await
                    } else {
                        problem(Problem::new(
                            ErrorCode::Unauthenticated,
                            "send `Authorization: Bearer <runtime token>`",
                        ))
                    }
                }
            }));
            axum::serve(listener, guarded).with_graceful_shutdown(ended).await
        }
    }
}

fn bears(request: &Request, token: &str) -> bool {
    let given = request.headers().get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()?.strip_prefix("Bearer "));
    let Some(given) = given else { return false };
    // Compared in a time that does not tell how much of it was right.
    given.len() == token.len() && given.bytes().zip(token.bytes()).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

#[derive(Debug, Clone)]
struct Shared {
    runtime: Runtime,
    stop: CancellationToken,
}

fn routes(runtime: Runtime, stop: CancellationToken) -> Router {
    Router::new()
        .route("/workloads", post(start).get(list))
        .route("/workloads/{id}", get(status).delete(destroy))
        .route("/workloads/{id}/stop", post(end))
        .route("/workspaces/{id}", delete(trash_workspace))
        .route("/states/{uid}", delete(trash_state))
        .route("/units/{uid}", delete(trash_unit))
        .route("/inspect", post(inspect))
        .route("/leftovers", get(leftovers))
        .route("/trash/{id}", delete(remove_trash))
        .route("/health", get(health))
        .fallback(async |uri: Uri| problem(Problem::new(ErrorCode::NotFound, format!("there is no {}", uri.path()))))
        .method_not_allowed_fallback(async || problem(Problem::new(ErrorCode::MethodNotAllowed, "see runtime.v1")))
        .layer(DefaultBodyLimit::max(BODY_MAX_BYTES))
        .with_state(Shared { runtime, stop })
}

type Answer<T> = Result<T, Failure>;

async fn start(State(shared): State<Shared>, body: Bytes) -> Answer<(StatusCode, Json<WorkloadStatus>)> {
    let spec: WorkloadSpec = parse(&body)?;
    Ok((StatusCode::CREATED, Json(shared.runtime.start(spec).await?)))
}

async fn list(State(shared): State<Shared>, uri: Uri) -> Answer<Response> {
    // Before the substrate was looked at, what is missing in the table would pass for gone.
    shared.runtime.inner.when_ready().await?;
    let watch =
        uri.query().unwrap_or_default().split('&').any(|q| matches!(q, "watch" | "watch=" | "watch=true" | "watch=1"));
    Ok(if watch { watched(shared).await } else { Json(shared.runtime.list().await).into_response() })
}

async fn status(State(shared): State<Shared>, Path(id): Path<String>) -> Answer<Json<WorkloadStatus>> {
    Ok(Json(shared.runtime.get(&workload(&id)?).await?))
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct StopBody {
    reason: Option<StopReason>,
}

async fn end(State(shared): State<Shared>, Path(id): Path<String>, body: Bytes) -> Answer<Json<WorkloadStatus>> {
    let body: StopBody = if body.is_empty() { StopBody::default() } else { parse(&body)? };
    Ok(Json(shared.runtime.stop(&workload(&id)?, body.reason).await?))
}

async fn destroy(State(shared): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    shared.runtime.destroy(&workload(&id)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn trash_workspace(State(shared): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    shared.runtime.trash_workspace(&WorkspaceId::parse(id).map_err(parameter)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn trash_state(State(shared): State<Shared>, Path(uid): Path<String>) -> Answer<StatusCode> {
    shared.runtime.trash_state(&UnitId::parse(uid).map_err(parameter)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn trash_unit(State(shared): State<Shared>, Path(uid): Path<String>) -> Answer<StatusCode> {
    shared.runtime.trash_unit(&UnitId::parse(uid).map_err(parameter)?).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn leftovers(State(shared): State<Shared>) -> Answer<Json<Leftovers>> {
    Ok(Json(shared.runtime.leftovers().await?))
}

async fn remove_trash(State(shared): State<Shared>, Path(id): Path<String>) -> Answer<StatusCode> {
    shared.runtime.remove_trash(&id).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn inspect(State(shared): State<Shared>, body: Bytes) -> Answer<Json<InspectAnswer>> {
    let request: InspectRequest = parse(&body)?;
    match shared.runtime.inspect(request).await {
        // In its own words: the others are about workloads.
        Err(RuntimeError::NotFound) => {
            let detail = "there is no such workspace, or nothing of that name in it";
            Err(Failure::Problem(Box::new(Problem::new(ErrorCode::NotFound, detail))))
        }
        answer => Ok(Json(answer?)),
    }
}

async fn health(State(shared): State<Shared>) -> Answer<Json<Health>> {
    Ok(Json(shared.runtime.health().await?))
}

/// JSON lines: all statuses, then every change; an empty line is a sign of life.
async fn watched(shared: Shared) -> Response {
    let (sender, lines) = tokio::sync::mpsc::channel::<Result<Bytes, Infallible>>(64);
    // Ends with its reader or with the service; a reader who is too slow is told everything anew.
    let tasks = shared.runtime.inner.tasks.clone();
    tasks.spawn(async move {
        'anew: loop {
            let (all, mut changes) = shared.runtime.watch().await;
            for status in all {
                if sender.send(Ok(line(&status))).await.is_err() {
                    return;
                }
            }
            loop {
                let next = tokio::select! {
                    () = shared.stop.cancelled() => return,
                    () = sender.closed() => return,
                    next = tokio::time::timeout(SIGN_OF_LIFE, changes.recv()) => next,
                };
                let bytes = match next {
                    Ok(Ok(status)) => line(&status),
                    Ok(Err(RecvError::Lagged(_))) => continue 'anew,
                    Ok(Err(RecvError::Closed)) => return,
                    Err(_) => Bytes::from_static(b"\n"),
                };
                if sender.send(Ok(bytes)).await.is_err() {
                    return;
                }
            }
        }
    });
    let body = Body::from_stream(ReceiverStream::new(lines));
    ([(header::CONTENT_TYPE, "application/jsonl")], body).into_response()
}

fn line(status: &WorkloadStatus) -> Bytes {
    // A status has only texts, numbers and maps with text keys, which JSON can always say.
    let mut text = serde_json::to_vec(status).unwrap_or_default();
    text.push(b'\n');
    text.into()
}

fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Answer<T> {
    contract::parse(body).map_err(|e| Failure::Problem(Box::new(e.into())))
}

fn workload(id: &str) -> Answer<WorkloadId> {
    WorkloadId::parse(id).map_err(parameter)
}

fn parameter(error: contract::IdError) -> Failure {
    Failure::Problem(Box::new(Problem::new(ErrorCode::InvalidParameter, error.to_string())))
}

enum Failure {
    Runtime(RuntimeError),
    Problem(Box<Problem>),
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        Self::Runtime(error)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Self::Problem(document) => problem(*document),
            Self::Runtime(RuntimeError::Refused { problem: document }) => problem(*document),
            Self::Runtime(RuntimeError::NotFound) => {
                problem(Problem::new(ErrorCode::NotFound, "no such workload; it never was or it is destroyed"))
            }
            Self::Runtime(error @ RuntimeError::Stale { highest }) => {
                let document = Problem::new(ErrorCode::StaleGeneration, error.to_string());
                respond(document.status, &StaleProblem { problem: document, highest })
            }
            Self::Runtime(RuntimeError::NoRoom { detail }) => problem(Problem::new(ErrorCode::NoRoom, detail)),
            Self::Runtime(RuntimeError::Unavailable { detail, retry_after }) => {
                tracing::warn!(detail, "unavailable");
                let mut response = problem(Problem::new(ErrorCode::Unavailable, detail));
                let seconds = HeaderValue::from(retry_after.as_secs().max(1));
                response.headers_mut().insert(header::RETRY_AFTER, seconds);
                response
            }
        }
    }
}

fn problem(document: Problem) -> Response {
    respond(document.status, &document)
}

fn respond(status: u16, document: &impl Serialize) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, Json(document)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    response
}
