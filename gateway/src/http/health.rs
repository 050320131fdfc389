//! Whether the gateway lives, and whether it can do its work.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::IntoResponse;
use contract::ErrorCode;
use schemars::JsonSchema;
use serde::Serialize;
use tokio::time::timeout;

use super::problem::{Answer, Failure, chain};
use crate::app::App;

/// Each part has this long to answer.
const BOUND: Duration = Duration::from_secs(2);
const NO_ANSWER: &str = "no answer within 2 s";

/// Whether something answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Part {
    ok: bool,
    /// What it said instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

impl From<Result<(), String>> for Part {
    fn from(answer: Result<(), String>) -> Self {
        Self { ok: answer.is_ok(), detail: answer.err() }
    }
}

/// What the gateway needs.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Ready {
    /// `ok`.
    status: &'static str,
    /// Redis.
    ledger: Part,
    /// The runtime service.
    runtime: Part,
}

/// `GET /healthz`: the process answers.
pub async fn healthz() -> Answer {
    Ok(Json(serde_json::json!({ "status": "ok" })).into_response())
}

/// `GET /readyz`: the ledger and the runtime answer too; else 503 with which of them does not.
pub async fn readyz(State(app): State<App>) -> Answer {
    if app.closing.is_cancelled() {
        return Err(Failure::new(ErrorCode::Unavailable, "the gateway shuts down"));
    }
    let (ledger, runtime) = tokio::join!(ledger(&app), runtime(&app));
    let (ledger, runtime) = (Part::from(ledger), Part::from(runtime));
    let who = match (ledger.ok, runtime.ok) {
        (true, true) => return Ok(Json(Ready { status: "ok", ledger, runtime }).into_response()),
        (false, true) => "the ledger (Redis) does not answer",
        (true, false) => "the runtime does not answer",
        (false, false) => "the ledger (Redis) and the runtime do not answer",
    };
    let json = |part| serde_json::to_value(part).unwrap_or_default();
    Err(Failure::new(ErrorCode::Unavailable, who).with("ledger", json(ledger)).with("runtime", json(runtime)))
}

async fn ledger(app: &App) -> Result<(), String> {
    let ledger = app.ledger().map_err(|_| "Redis was not reached yet")?;
    let answer = timeout(BOUND, ledger.ping()).await.map_err(|_| NO_ANSWER)?;
    answer.map_err(|error| unwell("ledger", &error))
}

async fn runtime(app: &App) -> Result<(), String> {
    let answer = timeout(BOUND, app.runtime.health()).await.map_err(|_| NO_ANSWER)?;
    answer.map(drop).map_err(|error| unwell("runtime", &error))
}

/// Anybody may ask for health, so addresses and paths stay in the log.
fn unwell(part: &'static str, error: &dyn std::error::Error) -> String {
    tracing::warn!(part, error = chain(error), "not ready");
    "it does not answer; the gateway's log says what it said instead".into()
}

/// `GET /metrics`: figures in the OpenMetrics text format.
pub async fn metrics(State(app): State<App>) -> Answer {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(http::header::CONTENT_TYPE, kind)], app.metrics.text()).into_response())
}
