//! Calls to the gateway's HTTP API.

use std::time::Duration;

use bytes::Bytes;
use contract::{Problem, Source};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::Failure;
use crate::target::Reach;

/// Bound on the body of an answer that is not a stream.
const MOST_BODY_BYTES: usize = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Until the head of an answer; streams send theirs at once.
const HEAD_TIMEOUT: Duration = Duration::from_secs(60);

/// HTTP or HTTPS with the system's roots.
pub type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// A client for `url`; root certificates are only read where they are needed.
///
/// # Errors
/// When the system's root certificates cannot be read.
pub fn http_client(url: &str) -> anyhow::Result<HttpClient> {
    let tls = rustls::ClientConfig::builder_with_provider(rustls::crypto::aws_lc_rs::default_provider().into())
        .with_safe_default_protocol_versions()?;
    let tls = match url.starts_with("https://") {
        true => tls.with_native_roots()?,
        false => tls.with_root_certificates(rustls::RootCertStore::empty()),
    };
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = HttpsConnectorBuilder::new()
        .with_tls_config(tls.with_no_client_auth())
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    Ok(Client::builder(TokioExecutor::new()).build(connector))
}

/// One call.
#[derive(Debug, Clone, Default)]
pub struct Call {
    method: Method,
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Option<Bytes>,
}

impl Call {
    /// `GET` of a path that begins with a slash.
    pub fn get(path: impl Into<String>) -> Self {
        Self { path: path.into(), ..Self::default() }
    }

    /// `POST` of a JSON body.
    pub fn post(path: impl Into<String>, body: &Value) -> Self {
        Self { method: Method::POST, body: Some(body.to_string().into()), ..Self::get(path) }
    }

    /// `PUT` of a JSON body.
    pub fn put(path: impl Into<String>, body: &Value) -> Self {
        Self { method: Method::PUT, ..Self::post(path, body) }
    }

    /// Whether repeating it is only safe with an idempotency key.
    pub fn is_post(&self) -> bool {
        self.method == Method::POST
    }

    /// `DELETE`.
    pub fn delete(path: impl Into<String>) -> Self {
        Self { method: Method::DELETE, ..Self::get(path) }
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// The gateway.
#[derive(Debug, Clone)]
pub struct Api {
    reach: Reach,
    client: HttpClient,
}

impl Api {
    /// A client for this gateway; nothing is connected yet.
    ///
    /// # Errors
    /// As [`http_client`].
    pub fn new(reach: Reach) -> Result<Self, Failure> {
        let client = http_client(&reach.url)?;
        Ok(Self { reach, client })
    }

    /// Makes a call; the answer whatever its status.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] when there is none, [`Failure::Refused`] when the call cannot be written down.
    pub async fn send(&self, call: &Call) -> Result<Response<Incoming>, Failure> {
        let url = format!("{}{}", self.reach.url, call.path);
        let mut request = Request::builder().method(call.method.clone()).uri(&url);
        if let Some(token) = &self.reach.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if call.body.is_some() {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let request = request
            .body(Full::new(call.body.clone().unwrap_or_default()))
            .map_err(|e| Failure::Refused(format!("this call cannot be made: {e}")))?;
        let answer = tokio::time::timeout(HEAD_TIMEOUT, self.client.request(request)).await;
        let unreachable = |why: String| {
            Failure::Unreachable(format!(
                "the gateway at {} does not answer: {why}; is it running? (`rekindle up`, `rekindle doctor`)",
                self.reach.url
            ))
        };
        match answer {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(e)) => Err(unreachable(whole(&e))),
            Err(_) => Err(unreachable("nothing for 60 s".into())),
        }
    }

    /// Makes a call; the body of a 2xx answer.
    ///
    /// # Errors
    /// As [`Self::send`], and what a [`problem`] of the answer is.
    pub async fn json<T: DeserializeOwned>(&self, call: &Call) -> Result<T, Failure> {
        let response = self.send(call).await?;
        let (status, body) = (response.status(), body(response).await?);
        if !status.is_success() {
            return Err(problem(status, &body));
        }
        let text: &[u8] = if body.is_empty() { b"null" } else { &body };
        serde_json::from_slice(text).map_err(|e| {
            Failure::Unreachable(format!("{} answered something else than a gateway would: {e}", self.reach.url))
        })
    }
}

/// A text as one segment of a path (RFC 3986 §2.1).
pub fn segment(text: &str) -> String {
    text.bytes().fold(String::new(), |mut path, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'~' => path.push(char::from(byte)),
            _ => path.push_str(&format!("%{byte:02X}")),
        }
        path
    })
}

/// An error with its causes, in one line.
pub fn whole(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        let next = e.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = e.source();
    }
    text
}

/// Reads a bounded body.
///
/// # Errors
/// [`Failure::Unreachable`] when it breaks off or is too large.
pub async fn body(response: Response<Incoming>) -> Result<Bytes, Failure> {
    match Limited::new(response.into_body(), MOST_BODY_BYTES).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(e) => Err(Failure::Unreachable(format!("the gateway's answer broke off: {e}"))),
    }
}

/// What an answer with an error status means for the one who called.
pub fn problem(status: StatusCode, body: &[u8]) -> Failure {
    let document = serde_json::from_slice::<Problem>(body).ok();
    let functions_fault = document.as_ref().is_some_and(|p| p.source == Source::Function);
    let text = match document {
        Some(problem) => {
            let at = problem.pointer.filter(|p| !p.is_empty()).map(|p| format!(" (at {p})"));
            let detail = problem.detail.filter(|d| !d.is_empty());
            format!("{}{}", detail.unwrap_or(problem.title), at.unwrap_or_default())
        }
        None => format!("the gateway answered {status}"),
    };
    let hint = match status {
        StatusCode::UNAUTHORIZED => "; give a token with --token or REKINDLE_TOKEN (`rekindle token` makes one)",
        _ => "",
    };
    match status.as_u16() {
        _ if functions_fault => Failure::Turn(text),
        504 => Failure::StillRunning(text),
        500.. => Failure::Unreachable(text),
        _ => Failure::Refused(format!("{text}{hint}")),
    }
}

#[cfg(test)]
mod tests {
    use contract::ErrorCode;

    use super::*;

    #[test]
    fn problems_become_failures_with_their_own_words() {
        let mut document = Problem::new(ErrorCode::InvalidDocument, "unknown field `promt`");
        document.pointer = Some("/promt".into());
        let bytes = serde_json::to_vec(&document).unwrap();
        let failure = problem(StatusCode::BAD_REQUEST, &bytes);
        assert_eq!(failure.to_string(), "unknown field `promt` (at /promt)");
        assert_eq!(failure.status(), 2);
        let of = |status: u16| problem(StatusCode::from_u16(status).unwrap(), b"<html>");
        assert_eq!(of(429).status(), 2);
        assert_eq!(of(502).status(), 3);
        let document = Problem::new(ErrorCode::TurnFailed, "x");
        let bytes = serde_json::to_vec(&document).unwrap();
        assert_eq!(problem(StatusCode::BAD_GATEWAY, &bytes).status(), 1);
        assert_eq!(of(503).status(), 3);
        assert_eq!(of(504).status(), 4);
        assert!(of(401).to_string().contains("rekindle token"));
    }
}
