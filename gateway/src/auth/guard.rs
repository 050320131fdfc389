//! The layer before every route for callers: credential, open calls, rate, scope.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use contract::ErrorCode;
use http::request::Parts;
use http::{HeaderValue, header};
use ledger::Paced;
use settings::{Auth, Limits};

use super::authenticator::Caller;
use super::error::AuthError;
use super::failures::Failures;
use super::open_calls::{OpenCall, OpenCalls};
use super::scope::Scope;
use crate::app::App;
use crate::http::problem::Failure;
use crate::rates::{Late, Rates};

/// What this gateway counts of callers.
#[derive(Debug)]
pub struct Gate {
    failures: Failures,
    rates: Rates,
    calls: OpenCalls,
}

impl Gate {
    /// With the configured bounds.
    pub fn new(auth: &Auth, limits: &Limits) -> Self {
        Self {
            failures: Failures::new(auth.failures_per_min),
            rates: Rates::new(Paced::Calls, limits.requests_per_sec, limits.request_burst),
            calls: OpenCalls::default(),
        }
    }
}

/// Lets a caller with this scope through, as an extension of the request.
pub(crate) async fn guard(State((app, scope)): State<(App, Scope)>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    match admit(&app, scope, &parts).await {
        Ok((caller, call)) => {
            parts.extensions.insert(caller);
            call.answered(next.run(Request::from_parts(parts, body)).await)
        }
        Err(failure) => failure.into_response(),
    }
}

async fn admit(app: &App, scope: Scope, parts: &Parts) -> Result<(Caller, OpenCall), Failure> {
    let caller = authenticate(app, parts).await?;
    let most = app.settings.limits.open_calls_per_owner;
    let Some(call) = app.gate.calls.open(&caller.owner, most) else {
        let detail = format!("{most} calls of this owner are open on this gateway; end some of them");
        return Err(Failure::new(ErrorCode::TooMany, detail).retry_after(Duration::from_secs(1)));
    };
    // Without a ledger nothing is done for anybody, and each route says so itself.
    if let Ok(ledger) = app.ledger() {
        app.gate.rates.pass(ledger, &caller.owner).await?.map_err(too_many)?;
    }
    if caller.may(scope) { Ok((caller, call)) } else { Err(lacks(scope)) }
}

fn too_many(Late { per_sec, wait }: Late) -> Failure {
    let detail = format!("more than {per_sec} requests a second of this owner's; try again later");
    Failure::new(ErrorCode::TooMany, detail).retry_after(wait)
}

async fn authenticate(app: &App, parts: &Parts) -> Result<Caller, AuthError> {
    let address = address(parts);
    let failures = &app.gate.failures;
    let curious = address.is_none_or(|address| failures.allow(address));
    let result = app.auth.caller(&parts.headers, app.ledger().ok(), curious).await;
    if let (Err(error), Some(address)) = (&result, address)
        && error.is_bad_credential()
    {
        failures.count(address);
        // Good ones still pass: many callers may come from one address.
        if !curious {
            return Err(AuthError::TooMany);
        }
    }
    result
}

/// Where the connection comes from. Headers that tell another address are anybody's to write.
fn address(parts: &Parts) -> Option<IpAddr> {
    parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip())
}

/// 403 with the challenge of RFC 6750 §3.1.
fn lacks(scope: Scope) -> Failure {
    let scope = scope.as_str();
    let detail = format!("your credential has not the scope `{scope}`, which this needs");
    let failure = Failure::new(ErrorCode::Forbidden, detail).with("scope", scope);
    let challenge = format!(r#"Bearer realm="rekindle", error="insufficient_scope", scope="{scope}""#);
    match HeaderValue::try_from(challenge) {
        Ok(value) => failure.header(header::WWW_AUTHENTICATE, value),
        Err(_) => failure,
    }
}
