//! `runtime.v1` from the caller's side, as the gateway and the reaper use it.

use std::time::Duration;

use bytes::Bytes;
use contract::{
    InspectAnswer, InspectRequest, Problem, StopReason, UnitId, WorkloadId, WorkloadSpec, WorkloadStatus, WorkspaceId,
};
use http::{Method, StatusCode, header};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use crate::error::RuntimeError;
use crate::http_call::{Answer, CallError, Endpoint, call, request};
use crate::leftovers::Leftovers;
use crate::service::Health;
use crate::tombstones::StaleProblem;

/// Longest line of a watch.
const LINE_MAX_BYTES: usize = 1 << 20;
/// A start may wait for an image, a stop for its grace period; the service answers both before this.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// Speaks `runtime.v1`. Cheap to clone; every call has a connection of its own, so a restarted runtime is simply there.
#[derive(Debug, Clone)]
pub struct RuntimeClient {
    endpoint: Endpoint,
    token: Option<String>,
}

impl RuntimeClient {
    /// For a runtime at `unix:///path` or `http://host:port`. Nothing is connected yet.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`] when the URL is neither.
    pub fn new(url: &str, token: Option<String>) -> Result<Self, RuntimeError> {
        match Endpoint::parse(url) {
            Some((endpoint, _)) => Ok(Self { endpoint, token }),
            None => Err(RuntimeError::refused(
                contract::ErrorCode::InvalidParameter,
                format!("`{url}` is no runtime URL: it must be unix:///path or http://host:port"),
            )),
        }
    }

    /// Starts a workload; its status is returned as soon as it runs or has failed to, or, while an image is still being
    /// pulled, as `starting`. Repeating it while it is alive changes nothing.
    ///
    /// # Errors
    /// See [`RuntimeError`]. A start that failed is not an error: its status is `stopped` with `start_failed`.
    pub async fn start(&self, spec: &WorkloadSpec) -> Result<WorkloadStatus, RuntimeError> {
        let body = serde_json::to_vec(spec).map_err(|e| RuntimeError::invalid("", e.to_string()))?;
        read(self.call(Method::POST, "/workloads", Some(body)).await?)
    }

    /// The status of one workload.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`] when it never was or is destroyed; else see [`RuntimeError`].
    pub async fn get(&self, id: &WorkloadId) -> Result<WorkloadStatus, RuntimeError> {
        read(self.call(Method::GET, &format!("/workloads/{id}"), None).await?)
    }

    /// All workloads that are not destroyed.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub async fn list(&self) -> Result<Vec<WorkloadStatus>, RuntimeError> {
        read(self.call(Method::GET, "/workloads", None).await?)
    }

    /// Ends a workload: TERM, grace, KILL. Returns when it is stopped.
    ///
    /// # Errors
    /// See [`RuntimeError`]; after [`RuntimeError::Unavailable`] the workload may still be stopping.
    pub async fn stop(&self, id: &WorkloadId, reason: Option<StopReason>) -> Result<WorkloadStatus, RuntimeError> {
        let body = serde_json::json!({ "reason": reason }).to_string().into_bytes();
        read(self.call(Method::POST, &format!("/workloads/{id}/stop"), Some(body)).await?)
    }

    /// Reclaims everything of a workload. Returns only when nothing of it is left. Destroying what is not there is no error.
    ///
    /// # Errors
    /// See [`RuntimeError`]; after any of them something of it may be left.
    pub async fn destroy(&self, id: &WorkloadId) -> Result<(), RuntimeError> {
        self.call(Method::DELETE, &format!("/workloads/{id}"), None).await.map(drop)
    }

    /// Moves a workspace's folder into the trash; idempotent.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`] while a live workload has it mounted; else see [`RuntimeError`].
    pub async fn trash_workspace(&self, id: &WorkspaceId) -> Result<(), RuntimeError> {
        self.call(Method::DELETE, &format!("/workspaces/{id}"), None).await.map(drop)
    }

    /// Moves a unit's state folder into the trash; idempotent.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`] while the unit has a live workload; else see [`RuntimeError`].
    pub async fn trash_state(&self, uid: &UnitId) -> Result<(), RuntimeError> {
        self.call(Method::DELETE, &format!("/states/{uid}"), None).await.map(drop)
    }

    /// What lies in the store and belongs to nothing that is.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub async fn leftovers(&self) -> Result<Leftovers, RuntimeError> {
        read(self.call(Method::GET, "/leftovers", None).await?)
    }

    /// Removes an entry of the trash for ever; idempotent. A large one goes on being removed when this is not waited for.
    ///
    /// # Errors
    /// See [`RuntimeError`]; after any of them a part of it may be left, which is still listed.
    pub async fn remove_trash(&self, id: &str) -> Result<(), RuntimeError> {
        self.call(Method::DELETE, &format!("/trash/{id}"), None).await.map(drop)
    }

    /// Looks into a workspace; nothing is changed.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`] when there is no such workspace, or nothing of that name in it; [`RuntimeError::Refused`] when
    /// it cannot be looked at this way; [`RuntimeError::Unavailable`] also when too many look at once or it took too long.
    pub async fn inspect(&self, request: &InspectRequest) -> Result<InspectAnswer, RuntimeError> {
        let body = serde_json::to_vec(request).map_err(|e| RuntimeError::invalid("", e.to_string()))?;
        read(self.call(Method::POST, "/inspect", Some(body)).await?)
    }

    /// Whether the substrate answers, and what it isolates.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] with the substrate's own words when it does not.
    pub async fn health(&self) -> Result<Health, RuntimeError> {
        read(self.call(Method::GET, "/health", None).await?)
    }

    /// All workloads, and then every change of one (a destroyed one's last status says so). After the stream has ended,
    /// call it again: it begins with all of them anew.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub async fn watch(&self) -> Result<Watch, RuntimeError> {
        let request = request(&self.endpoint, Method::GET, "/workloads?watch", self.token.as_deref(), None)?;
        let stream = self.endpoint.connect().await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(CallError::from)?;
        let driver = AbortOnDropHandle::new(tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a watch's connection ended");
            }
        }));
        let response = sender.send_request(request).await.map_err(CallError::from)?;
        if !response.status().is_success() {
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(CallError::from)?.to_bytes();
            return Err(failure(Answer { status: parts.status, headers: parts.headers, body }));
        }
        let (changes, receiver) = mpsc::channel(64);
        let lines = AbortOnDropHandle::new(tokio::spawn(read_lines(response.into_body(), changes)));
        Ok(Watch { changes: receiver, _driver: driver, _lines: lines })
    }

    async fn call(&self, method: Method, path: &str, body: Option<Vec<u8>>) -> Result<Answer, RuntimeError> {
        let request = request(&self.endpoint, method, path, self.token.as_deref(), body)?;
        let answer = tokio::time::timeout(CALL_TIMEOUT, call(&self.endpoint, request))
            .await
            .map_err(|_| RuntimeError::unavailable(format!("the runtime at {} does not answer", self.endpoint)))??;
        if answer.status.is_success() { Ok(answer) } else { Err(failure(answer)) }
    }
}

/// A stream of statuses, from [`RuntimeClient::watch`]. Dropping it closes the connection.
#[derive(Debug)]
pub struct Watch {
    changes: mpsc::Receiver<WorkloadStatus>,
    _driver: AbortOnDropHandle<()>,
    _lines: AbortOnDropHandle<()>,
}

impl Watch {
    /// The next status; none when the connection has ended and the watch must be begun again.
    pub async fn next(&mut self) -> Option<WorkloadStatus> {
        self.changes.recv().await
    }
}

async fn read_lines(mut body: hyper::body::Incoming, changes: mpsc::Sender<WorkloadStatus>) {
    let mut pending: Vec<u8> = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        let Ok(data) = frame.into_data() else { continue };
        pending.extend_from_slice(&data);
        while let Some(end) = pending.iter().position(|b| *b == b'\n') {
            let line: Vec<u8> = pending.drain(..=end).collect();
            if line.trim_ascii().is_empty() {
                continue; // a sign of life
            }
            match contract::parse(&line) {
                Ok(status) => {
                    if changes.send(status).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the runtime sent a line that is no status; watching anew");
                    return;
                }
            }
        }
        if pending.len() > LINE_MAX_BYTES {
            tracing::warn!("the runtime sent a line without an end; watching anew");
            return;
        }
    }
}

impl From<CallError> for RuntimeError {
    fn from(error: CallError) -> Self {
        Self::unavailable(format!("the runtime does not answer: {error}"))
    }
}

fn read<T: DeserializeOwned>(answer: Answer) -> Result<T, RuntimeError> {
    serde_json::from_slice(&answer.body)
        .map_err(|e| RuntimeError::unavailable(format!("the runtime's answer is not understood: {e}")))
}

fn failure(answer: Answer) -> RuntimeError {
    if let Ok(stale) = serde_json::from_slice::<StaleProblem>(&answer.body) {
        return RuntimeError::Stale { highest: stale.highest };
    }
    let problem: Option<Problem> = serde_json::from_slice(&answer.body).ok();
    match (answer.status, problem) {
        (StatusCode::NOT_FOUND, Some(_)) => RuntimeError::NotFound,
        (StatusCode::INSUFFICIENT_STORAGE, Some(problem)) => {
            RuntimeError::NoRoom { detail: problem.detail.unwrap_or(problem.title) }
        }
        (status, Some(problem)) if status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS => {
            RuntimeError::Refused { problem: Box::new(problem) }
        }
        (status, problem) => {
            let text = problem.and_then(|p| p.detail).unwrap_or_else(|| lossy(&answer.body));
            let seconds = answer.headers.get(header::RETRY_AFTER).and_then(|v| v.to_str().ok()?.parse().ok());
            RuntimeError::Unavailable {
                detail: format!("the runtime answered {status}: {text}"),
                retry_after: Duration::from_secs(seconds.unwrap_or(1)),
            }
        }
    }
}

fn lossy(body: &Bytes) -> String {
    String::from_utf8_lossy(&body[..body.len().min(500)]).into_owned()
}
