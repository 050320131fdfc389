//! Errors of the broker itself, in the shape in which the provider's clients expect them.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use ledger::Spent;
use serde_json::json;
use settings::Api;

use super::Body;
use super::asked::Unasked;
use super::provider::Provider;
use super::upload::Fault;
use crate::rates::Late;

/// What kind of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing is served there.
    NotFound,
    /// The request is not one that is passed on.
    Invalid,
    /// Its body is too large.
    TooLarge,
    /// There is no provider, or no key for it.
    NoKey,
    /// No turn runs that could be charged, or the generation is over.
    Forbidden,
    /// A budget is used up.
    Spent,
    /// There were too many requests in a short time.
    Late,
    /// The ledger does not answer.
    NoLedger,
    /// The provider does not answer.
    Unreachable,
    /// The provider takes too long.
    Slow,
    /// The provider sends elsewhere.
    Redirect,
}

impl Kind {
    /// Status, the type that each API has for it, and whether asking again may help: without the header the clients' SDKs
    /// would ask for a key that is not there, or a budget that is used up, for minutes.
    fn shape(self) -> (StatusCode, &'static str, &'static str, bool) {
        match self {
            Self::NotFound => (StatusCode::NOT_FOUND, "not_found_error", "invalid_request_error", false),
            Self::Invalid => (StatusCode::BAD_REQUEST, "invalid_request_error", "invalid_request_error", false),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "request_too_large", "invalid_request_error", false),
            Self::NoKey => (StatusCode::SERVICE_UNAVAILABLE, "api_error", "server_error", false),
            Self::Forbidden => (StatusCode::FORBIDDEN, "permission_error", "invalid_request_error", false),
            Self::Spent => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "insufficient_quota", false),
            Self::Late => (StatusCode::TOO_MANY_REQUESTS, "rate_limit_error", "rate_limit_exceeded", true),
            Self::NoLedger => (StatusCode::SERVICE_UNAVAILABLE, "api_error", "server_error", true),
            Self::Unreachable => (StatusCode::BAD_GATEWAY, "api_error", "server_error", true),
            Self::Slow => (StatusCode::GATEWAY_TIMEOUT, "api_error", "server_error", true),
            Self::Redirect => (StatusCode::BAD_GATEWAY, "api_error", "server_error", false),
        }
    }

    /// As figures call it.
    pub(super) fn outcome(self) -> &'static str {
        match self {
            Self::Spent => "over_budget",
            Self::Late => "over_rate",
            Self::Unreachable | Self::Slow | Self::Redirect => "unreachable",
            _ => "refused",
        }
    }
}

/// A request that was not passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) kind: Kind,
    pub(super) message: String,
    /// After how long another try may go better.
    pub(super) retry_after: Option<Duration>,
}

impl Refusal {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), retry_after: None }
    }

    pub(super) fn no_key(message: impl Into<String>) -> Self {
        Self::new(Kind::NoKey, message)
    }

    pub(super) fn no_ledger() -> Self {
        let message = "rekindle: the gateway cannot reach the ledger, which counts model requests; try again";
        Self { retry_after: Some(Duration::from_secs(1)), ..Self::new(Kind::NoLedger, message) }
    }

    pub(super) fn late(late: Late) -> Self {
        let Late { per_sec, wait } = late;
        let message = format!(
            "rekindle: more than {per_sec} requests to models a second of this owner's units (limits.model_requests_per_sec)"
        );
        Self { retry_after: Some(wait), ..Self::new(Kind::Late, message) }
    }

    pub(super) fn spent(spent: &Spent) -> Self {
        let Spent { budget, kind, used, most, midnight } = spent;
        let amount = |n: u64| match kind.as_str() {
            "cost" => format!("{:.4}", n as f64 / 1e9),
            _ => n.to_string(),
        };
        let (whose, again) = match budget.as_str() {
            "owner_day" => ("your budget for the day", true),
            "unit_day" => ("this unit's budget for the day", true),
            _ => ("this turn's budget", false),
        };
        let when = match again {
            true => format!("it begins anew at midnight UTC, in {} min", midnight.as_secs().div_ceil(60)),
            false => "the next turn has its own".into(),
        };
        let message = format!(
            "rekindle: {whose} is used up: {} of {} {kind} (budgets.{budget}.{kind}); {when}",
            amount(*used),
            amount(*most)
        );
        Self { retry_after: Some(*midnight), ..Self::new(Kind::Spent, message) }
    }

    /// A body that is not passed on.
    pub(super) fn faulty(provider: &Provider, fault: &Fault) -> Self {
        let kind = if *fault == Fault::TooLarge { Kind::TooLarge } else { Kind::Invalid };
        let name = &provider.name;
        let allow = |kind: &str| format!("to allow it, add to rekindle.toml: [broker.{name}] allow = [\"{kind}\"]");
        let message = match fault {
            Fault::TooLarge | Fault::Broken => fault.to_string(),
            Fault::Unasked(Unasked::NotJson) => {
                "the body of a POST is one JSON object in UTF-8, without a mark of byte order and not \
                 nested more than 127 deep (RFC 8259); nothing else has a body"
                    .into()
            }
            Fault::Unasked(Unasked::Twice(member)) => format!("`{member}` stands twice in one object of the request"),
            Fault::Unasked(Unasked::Type(member)) => {
                format!("`{member}` in the request is not of the type that it has")
            }
            Fault::Unasked(Unasked::Background) => {
                "answers in the background cannot be metered: leave out `background`".into()
            }
            Fault::Unasked(Unasked::Stored { what, kind }) => format!(
                "`{what}` is about what lies with the provider, where all units share one account; {}",
                allow(kind)
            ),
            Fault::Unasked(Unasked::AtProvider { what, kind }) => {
                format!("`{what}` has the provider reach others or run something; {}", allow(kind))
            }
        };
        Self::new(kind, format!("rekindle: {message}"))
    }

    pub(super) fn into_response(self, api: Api) -> Response<Body> {
        let (status, anthropic, openai, retry) = self.kind.shape();
        let error = match api {
            Api::Anthropic => json!({"type": "error", "error": {"type": anthropic, "message": self.message}}),
            Api::OpenAi => {
                let code = matches!(self.kind, Kind::Spent | Kind::Late).then_some(openai);
                json!({"error": {"message": self.message, "type": openai, "param": null, "code": code}})
            }
        };
        let body = Full::new(Bytes::from(error.to_string()));
        let mut response = Response::new(body.map_err(|never| match never {}).boxed());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let retry = if retry { "true" } else { "false" };
        headers.insert("x-should-retry", HeaderValue::from_static(retry));
        if let Some(after) = self.retry_after {
            headers.insert(header::RETRY_AFTER, after.as_secs().max(1).into());
        }
        response
    }
}
