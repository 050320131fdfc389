//! `POST /v1/dispatch`: a raw `unit.v1` envelope.

use axum::extract::{Extension, State};
use contract::{Dispatch, ErrorCode, Options, Owner};
use http::HeaderMap;

use super::body::JsonBody;
use super::intake::Intake;
use super::problem::{Answer, Failure};
use super::submit;
use super::trace::Traceparent;
use crate::app::App;
use crate::auth::{Caller, Scope};

/// Runs one turn of the unit that the envelope addresses.
pub async fn dispatch(
    State(app): State<App>,
    caller: Caller,
    Extension(trace): Extension<Traceparent>,
    headers: HeaderMap,
    body: JsonBody,
) -> Answer {
    let dispatch: Dispatch = body.parse()?;
    let intake = Intake {
        owner: subject(&caller, &dispatch)?,
        name: dispatch.unit_name(),
        thread: dispatch.thread().into(),
        profile: "default",
        options: Options::default(),
        trace: &trace,
        headers: &headers,
        request: &[b"dispatch", &body.0],
    };
    let submission = intake.submission(&app, dispatch)?;
    submit::answer(&app, &caller, &headers, submission).await
}

/// Whose unit it is: the subject, which is the caller itself unless its token may impersonate.
fn subject(caller: &Caller, dispatch: &Dispatch) -> Result<Owner, Failure> {
    let subject = &dispatch.identity.subject;
    let owner = Owner::parse(subject.as_str()).map_err(|e| Failure::invalid("/identity/subject", e.to_string()))?;
    if owner != caller.owner && !caller.may(Scope::Impersonate) {
        let scope = Scope::Impersonate.as_str();
        let detail = format!("identity.subject must be your own `sub` unless your token has the scope {scope}");
        return Err(Failure::new(ErrorCode::Forbidden, detail).at("/identity/subject"));
    }
    Ok(owner)
}
