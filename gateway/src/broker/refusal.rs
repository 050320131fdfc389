//! Errors of the broker itself, in the shape in which the provider's clients expect them.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use serde_json::json;

use super::Body;

/// What kind of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Nothing is served there.
    NotFound,
    /// There is no provider, or no key for it.
    NoKey,
    /// The provider does not answer.
    Unreachable,
}

/// A request that was not passed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) kind: Kind,
    pub(super) message: String,
}

impl Refusal {
    pub(super) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    pub(super) fn no_key(message: impl Into<String>) -> Self {
        Self::new(Kind::NoKey, message)
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let (status, kind, retry) = match self.kind {
            Kind::NotFound => (StatusCode::NOT_FOUND, "not_found_error", false),
            // Asking again does not bring a key; without the header the clients' SDK would, for minutes.
            Kind::NoKey => (StatusCode::SERVICE_UNAVAILABLE, "api_error", false),
            Kind::Unreachable => (StatusCode::BAD_GATEWAY, "api_error", true),
        };
        let error = json!({"type": "error", "error": {"type": kind, "message": self.message}});
        let body = Full::new(Bytes::from(error.to_string()));
        let mut response = Response::new(body.map_err(|never| match never {}).boxed());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let retry = if retry { "true" } else { "false" };
        headers.insert("x-should-retry", HeaderValue::from_static(retry));
        response
    }
}
