//! `POST /internal/runtime-events`: what the runtime says about its workloads. It repeats each until it gets a 2xx, which it
//! gets when the ledger has it.

use axum::extract::{FromRequestParts, State};
use axum::response::IntoResponse;
use contract::{ErrorCode, RuntimeEvent, StopReason, WorkloadState};
use http::StatusCode;
use http::request::Parts;
use ledger::{DrainReason, Exit, StartFailed};

use super::body::JsonBody;
use super::problem::{Answer, Failure};
use crate::app::App;
use crate::auth::bearer;

/// Takes note of a workload's transition. Only ends matter here: that a worker is ready is its own word.
pub async fn runtime_events(State(app): State<App>, _: FromRuntime, body: JsonBody) -> Answer {
    let event: RuntimeEvent = body.parse()?;
    if !event.state.is_alive() {
        ended(&app, event).await?;
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The request shows the runtime's token. Looked at before the body: strangers' bytes are not worth keeping.
#[derive(Debug)]
pub struct FromRuntime;

impl FromRequestParts<App> for FromRuntime {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Failure> {
        match same(bearer(&parts.headers)?.as_bytes(), app.runtime_token.as_bytes()) {
            true => Ok(Self),
            false => Err(Failure::new(ErrorCode::Unauthenticated, "this is not the runtime's token")),
        }
    }
}

/// A workload ended: a start that failed, or a generation whose worker is gone. Either drains it, so that the reaper has it
/// destroyed and then reports it gone. Of a generation that drains already, nothing is changed.
async fn ended(app: &App, event: RuntimeEvent) -> Result<(), Failure> {
    let ledger = app.ledger()?;
    let (uid, generation) = (&event.workload_id.uid, event.workload_id.generation);
    let reason = event.stop_reason.unwrap_or(StopReason::Failed);
    tracing::info!(%uid, %generation, reason = reason.as_str(), exit_code = event.exit_code, "a workload ended");
    let detail = describe(&event, reason);
    let failed = ledger.start_failed(uid, generation, &detail, true).await?;
    if failed == StartFailed::Over {
        let exit = Exit { reason, exit_code: event.exit_code, detail: event.detail.clone() };
        ledger.begin_drain(uid, generation, drain_reason(reason), Some(exit)).await?;
    }
    // Not before: what a worker said last may still be on its way through the relay.
    if event.state == WorkloadState::Destroyed {
        app.links.close_generation(uid, generation);
    }
    Ok(())
}

/// Why a start failed, in the substrate's words where it has any.
fn describe(event: &RuntimeEvent, reason: StopReason) -> String {
    match (&event.detail, event.exit_code) {
        (Some(detail), _) => detail.clone(),
        (None, Some(code)) => format!("the worker ended with status {code} before it was ready"),
        (None, None) => format!("the workload ended before it was ready: {}", reason.as_str()),
    }
}

fn drain_reason(reason: StopReason) -> DrainReason {
    match reason {
        StopReason::Stopped => DrainReason::Stopped,
        StopReason::IdleTimeout => DrainReason::Idle,
        StopReason::MaxLifetime => DrainReason::MaxLifetime,
        StopReason::Oom => DrainReason::Oom,
        StopReason::StartFailed => DrainReason::StartFailed,
        // A worker that ends by itself while its unit is live is a failure, whatever its status.
        StopReason::Completed | StopReason::Failed => DrainReason::Failed,
    }
}

/// Compares in a time that depends on the lengths only.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (x, y)| difference | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_compared_whole() {
        assert!(same(b"abc", b"abc"));
        for other in [&b"abd"[..], b"ab", b"abcd", b""] {
            assert!(!same(b"abc", other));
        }
    }
}
