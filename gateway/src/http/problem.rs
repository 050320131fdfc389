//! The one error type of the HTTP edge: an RFC 9457 problem document and the headers that go with it.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use contract::{ErrorCode, ParseError, Problem, Source, TurnId};
use http::{HeaderName, HeaderValue, StatusCode, header};
use ledger::LedgerError;
use runtimes::RuntimeError;
use serde_json::{Map, Value};

/// Media type of problem documents.
pub const PROBLEM_JSON: &str = "application/problem+json";

/// What a handler answers, or why not.
pub type Answer = Result<Response, Failure>;

/// Why a call was not served. Boxed: it is the rare arm of every `Result` here.
#[derive(Debug)]
pub struct Failure(Box<Inner>);

#[derive(Debug)]
struct Inner {
    problem: Problem,
    /// Members that only some problems have, such as `reason` and `turn_url` (RFC 9457 §3.2).
    extensions: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Failure {
    /// A problem of this code; `detail` says what went wrong this time and what to do about it.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self(Box::new(Inner { problem: Problem::new(code, detail), extensions: Map::new(), headers: Vec::new() }))
    }

    /// 404 with the same words whether there is no such thing or it is somebody else's.
    pub fn not_found(what: &str) -> Self {
        Self::new(ErrorCode::NotFound, format!("you have no such {what}"))
    }

    /// A document that is refused, with the JSON pointer of the offender.
    pub fn invalid(pointer: &str, detail: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidDocument, detail).at(pointer)
    }

    /// Names the offender by JSON pointer (RFC 6901).
    #[must_use]
    pub fn at(mut self, pointer: &str) -> Self {
        self.0.problem.pointer = Some(pointer.into());
        self
    }

    /// Names the turn that it is about, and where that is told of.
    #[must_use]
    pub fn of_turn(mut self, turn: &TurnId) -> Self {
        self.0.problem.turn_id = Some(turn.to_string());
        self.with("turn_url", format!("/v1/turns/{turn}"))
    }

    /// Says whose fault it was, where the code alone does not.
    #[must_use]
    pub fn by(mut self, source: Source) -> Self {
        self.0.problem.source = source;
        self
    }

    /// Answers with another status than the code's own, where HTTP has one that says more.
    #[must_use]
    pub fn status_of(mut self, status: StatusCode) -> Self {
        self.0.problem.status = status.as_u16();
        self
    }

    /// Adds an extension member.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.extensions.insert(name.into(), value.into());
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Says when to try again: whole seconds, at least one (RFC 9110 §10.2.3).
    #[must_use]
    pub fn retry_after(self, after: Duration) -> Self {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        self.header(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)))
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = self.status();
        let Inner { problem, extensions, headers } = *self.0;
        let mut document = serde_json::to_value(&problem).unwrap_or_default();
        if let Value::Object(members) = &mut document {
            members.extend(extensions);
        }
        let mut response = (status, [(header::CONTENT_TYPE, PROBLEM_JSON)], document.to_string()).into_response();
        for (name, value) in headers {
            response.headers_mut().append(name, value);
        }
        // A 429 or 503 without it leaves the caller to guess.
        let asks_for_patience = matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        if asks_for_patience && !response.headers().contains_key(header::RETRY_AFTER) {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<ParseError> for Failure {
    fn from(error: ParseError) -> Self {
        let problem = Problem::from(error);
        Self(Box::new(Inner { problem, extensions: Map::new(), headers: Vec::new() }))
    }
}

impl From<LedgerError> for Failure {
    fn from(error: LedgerError) -> Self {
        match (error.retry_after(), &error) {
            (Some(after), LedgerError::Full(_)) => {
                tracing::warn!(error = chain(&error), "the ledger is full");
                let detail = "the ledger (Redis) has reached its memory's bound and takes nothing new; what was accepted goes on. \
                              Erase units that nobody needs, or try again later";
                Self::new(ErrorCode::LedgerFull, detail).retry_after(after)
            }
            (Some(after), _) => {
                tracing::warn!(error = chain(&error), "the ledger does not answer");
                Self::new(ErrorCode::Unavailable, "the ledger (Redis) does not answer; try again").retry_after(after)
            }
            (None, _) => {
                tracing::error!(error = chain(&error), "the ledger refuses");
                Self::new(ErrorCode::Internal, "the ledger could not do this; the gateway's log says why")
            }
        }
    }
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        tracing::warn!(error = chain(&error), "the runtime could not do this");
        match error {
            RuntimeError::Refused { problem } if problem.status == StatusCode::CONFLICT => {
                Self::new(ErrorCode::Conflict, problem.detail.unwrap_or(problem.title))
            }
            _ => Self::new(ErrorCode::Unavailable, "the runtime does not answer; try again")
                .retry_after(Duration::from_secs(2)),
        }
    }
}

/// An error with everything behind it, on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text.push_str(": ");
        text.push_str(&source.to_string());
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    async fn shown(failure: Failure) -> (http::response::Parts, Value) {
        let (parts, body) = failure.into_response().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (parts, serde_json::from_slice(&bytes).unwrap())
    }

    #[tokio::test]
    async fn a_failure_is_a_problem_document_with_its_extensions() {
        let turn = TurnId::new(1_700_000_000_000, 1);
        let failure = Failure::new(ErrorCode::TurnFailed, "the worker was lost")
            .by(Source::Platform)
            .of_turn(&turn)
            .with("reason", "worker_lost");
        let (parts, document) = shown(failure).await;
        assert_eq!(parts.status, 502);
        assert_eq!(parts.headers[header::CONTENT_TYPE], PROBLEM_JSON);
        assert_eq!(
            document,
            serde_json::json!({
                "type": "urn:rekindle:error:turn-failed", "title": "The turn failed", "status": 502,
                "detail": "the worker was lost", "source": "platform", "turn_id": turn.as_str(),
                "turn_url": format!("/v1/turns/{turn}"), "reason": "worker_lost",
            })
        );
    }

    #[tokio::test]
    async fn patience_is_always_asked_for_in_seconds() {
        let (parts, _) = shown(Failure::new(ErrorCode::Unavailable, "x")).await;
        assert_eq!(parts.headers[header::RETRY_AFTER], "1");
        let late = Failure::new(ErrorCode::TooMany, "x").retry_after(Duration::from_millis(2100));
        assert_eq!(shown(late).await.0.headers[header::RETRY_AFTER], "3");
    }

    #[tokio::test]
    async fn a_refused_document_names_the_offender() {
        let error = contract::parse::<contract::InvokeBody>(br#"{"prompt":"x","extra":1}"#).unwrap_err();
        let (parts, document) = shown(error.into()).await;
        assert_eq!((parts.status.as_u16(), document["pointer"].as_str()), (400, Some("/extra")));
    }
}
