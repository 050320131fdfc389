//! `POST /v1/units/{unit}/invoke`: sugar for a `message` dispatch of the caller with `context.session = {unit}`.

use axum::extract::{Extension, State};
use contract::{Entrypoint, InvokeBody, StartWith, UnitName};
use http::HeaderMap;

use super::body::JsonBody;
use super::checks;
use super::intake::{Intake, profile};
use super::large::PAGE_BYTES;
use super::problem::{Answer, Failure};
use super::submit;
use super::trace::Traceparent;
use super::unit_path::UnitPath;
use crate::address::{Address, conversation, own_workspace, session_of};
use crate::app::App;

/// Runs one turn of the named unit, which need not exist yet when it is named by a name.
pub async fn invoke(
    State(app): State<App>,
    path: UnitPath,
    Extension(trace): Extension<Traceparent>,
    headers: HeaderMap,
    body: JsonBody,
) -> Answer {
    let invoke: InvokeBody = body.parse()?;
    // Here it is `prompt`; further down it would be called by a dispatch's name.
    checks::prompt_text(&invoke.prompt, "/prompt", &app.settings.limits)?;
    let profile_name = invoke.profile.as_deref().unwrap_or("default");
    let profile = profile(&app, profile_name)?;
    let Target { owner, name, thread } = target(&app, &path).await?;

    let mut dispatch = conversation(&owner, &thread);
    dispatch.identity.launcher = contract::Launcher::user(path.caller.owner.as_str());
    dispatch.runner = invoke.runner.unwrap_or(profile.runner);
    dispatch.workspaces =
        invoke.workspaces.unwrap_or_else(|| own_workspace(&path.uid(), dispatch.trigger.default_mode()));
    dispatch.tools = invoke.tools.unwrap_or_default();
    dispatch.start = StartWith::Entrypoint(Entrypoint { inline: Some(invoke.prompt), path: None });

    let intake = Intake {
        request: &[b"invoke", name.as_str().as_bytes(), &body.0],
        thread: thread.to_string(),
        owner,
        name: name.clone(),
        profile: profile_name,
        options: invoke.options,
        trace: &trace,
        headers: &headers,
    };
    let submission = intake.submission(&app, dispatch)?;
    submit::answer(&app, &path.caller, &headers, submission).await
}

struct Target {
    owner: contract::Owner,
    name: UnitName,
    thread: UnitName,
}

/// The unit that the route names and the thread that goes on in it.
async fn target(app: &App, path: &UnitPath) -> Result<Target, Failure> {
    let owner = &path.caller.owner;
    let session = match &path.address {
        Address::Short(session) => Some(session.clone()),
        Address::Full(name) => session_of(name, owner),
        Address::Uid(_) => None,
    };
    if let Some(thread) = session {
        let name = crate::address::full_name(owner, &thread);
        return Ok(Target { owner: owner.clone(), name, thread });
    }
    // A unit that a dispatch made: it must be there, and the conversation goes on in its last thread.
    let unit = path.record(app).await?;
    let thread = match session_of(&unit.name, &unit.owner) {
        Some(session) => Some(session),
        None => {
            let last = app.ledger()?.turns(&unit.uid, None, 1, PAGE_BYTES).await?.0.pop();
            last.and_then(|turn| UnitName::parse(turn.thread).ok())
        }
    };
    let thread = thread.map_or_else(main_thread, Ok)?;
    Ok(Target { owner: unit.owner, name: unit.name, thread })
}

fn main_thread() -> Result<UnitName, Failure> {
    UnitName::parse("main").map_err(|e| Failure::new(contract::ErrorCode::Internal, e.to_string()))
}
