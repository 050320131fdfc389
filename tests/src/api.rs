//! The gateway as a caller sees it.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use serde_json::{Value, json};

use crate::http::{self, Answer, Connection, Target};
use crate::sse::Events;

/// How long any single call may take; longer than any turn of a test.
const LIMIT: Duration = Duration::from_secs(120);

/// A caller: a gateway's address and a token.
#[derive(Debug, Clone)]
pub struct Api {
    target: Target,
    token: String,
}

impl Api {
    /// A caller of the gateway at `host:port`; an empty token sends none.
    pub fn new(address: impl Into<String>, token: impl Into<String>) -> Self {
        Self { target: Target::Tcp(address.into()), token: token.into() }
    }

    /// The same gateway with another token.
    pub fn with_token(&self, token: impl Into<String>) -> Self {
        Self { target: self.target.clone(), token: token.into() }
    }

    /// The same caller at another gateway.
    pub fn at(&self, address: impl Into<String>) -> Self {
        Self { target: Target::Tcp(address.into()), token: self.token.clone() }
    }

    /// A request of any kind.
    ///
    /// # Errors
    /// When the gateway cannot be reached, breaks the connection, or takes longer than two minutes.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> anyhow::Result<Answer> {
        let request = self.request(method, path, headers, body);
        tokio::time::timeout(LIMIT, http::send(&self.target, request)).await?
    }

    /// `GET`
    ///
    /// # Panics
    /// When the gateway cannot be reached.
    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Bytes::new()).await.unwrap_or_else(|e| panic!("GET {path}: {e:#}"))
    }

    /// `DELETE`
    ///
    /// # Panics
    /// When the gateway cannot be reached.
    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &[], Bytes::new()).await.unwrap_or_else(|e| panic!("DELETE {path}: {e:#}"))
    }

    /// `POST` of a JSON document.
    ///
    /// # Panics
    /// When the gateway cannot be reached.
    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[], body).await
    }

    /// `POST` of a JSON document with more headers.
    ///
    /// # Panics
    /// When the gateway cannot be reached.
    pub async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        self.send(Method::POST, path, headers, body.to_string().into())
            .await
            .unwrap_or_else(|e| panic!("POST {path}: {e:#}"))
    }

    /// Runs a turn to its end and returns the JSON answer.
    ///
    /// # Panics
    /// When the gateway cannot be reached.
    pub async fn invoke(&self, unit: &str, prompt: &str) -> Answer {
        self.post(&format!("/v1/units/{unit}/invoke"), &json!({ "prompt": prompt })).await
    }

    /// Starts a turn and reads its events as they come.
    ///
    /// # Panics
    /// When the gateway cannot be reached or answers with anything but a stream.
    pub async fn invoke_streaming(&self, unit: &str, body: &Value) -> Events {
        let path = format!("/v1/units/{unit}/invoke");
        self.stream(self.request(Method::POST, &path, &[("accept", "text/event-stream")], body.to_string().into()))
            .await
    }

    /// A unit's events: from now on, or after the one with the given id (`0` for all).
    ///
    /// # Panics
    /// When the gateway cannot be reached or answers with anything but a stream.
    pub async fn events(&self, unit: &str, after: Option<&str>) -> Events {
        let path = format!("/v1/units/{unit}/events");
        let mut headers = vec![("accept", "text/event-stream")];
        headers.extend(after.map(|id| ("last-event-id", id)));
        self.stream(self.request(Method::GET, &path, &headers, Bytes::new())).await
    }

    /// A connection to the gateway that is kept between calls, as a client library does it.
    ///
    /// # Errors
    /// When the gateway cannot be reached.
    pub async fn session(&self) -> anyhow::Result<Session> {
        Ok(Session { api: self.clone(), connection: Connection::open(&self.target).await? })
    }

    /// `GET` whose answer's head is read, and nothing of its body until the caller does.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub async fn open(&self, path: &str) -> anyhow::Result<(Response<Incoming>, Connection)> {
        self.head(self.request(Method::GET, path, &[], Bytes::new())).await
    }

    async fn head(&self, request: Request<Full<Bytes>>) -> anyhow::Result<(Response<Incoming>, Connection)> {
        let opened = async {
            let mut connection = Connection::open(&self.target).await?;
            let response = connection.ask(request).await?;
            Ok((response, connection))
        };
        tokio::time::timeout(LIMIT, opened).await?
    }

    async fn stream(&self, request: Request<Full<Bytes>>) -> Events {
        let path = request.uri().to_string();
        let (response, connection) = self.head(request).await.unwrap_or_else(|e| panic!("{path}: {e:#}"));
        let kind = response.headers().get("content-type").and_then(|v| v.to_str().ok()).unwrap_or("");
        if !response.status().is_success() || !kind.starts_with("text/event-stream") {
            let status = response.status();
            let body =
                http_body_util::BodyExt::collect(response.into_body()).await.map(|b| b.to_bytes()).unwrap_or_default();
            panic!("{path}: {status} instead of a stream: {}", String::from_utf8_lossy(&body));
        }
        Events::new(response.into_body(), Some(connection))
    }

    fn invoke_request(&self, unit: &str, prompt: &str, accept: &str) -> Request<Full<Bytes>> {
        let path = format!("/v1/units/{unit}/invoke");
        self.request(Method::POST, &path, &[("accept", accept)], json!({ "prompt": prompt }).to_string().into())
    }

    fn request(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(method).uri(path).header("host", "gateway");
        if !self.token.is_empty() {
            request = request.header("authorization", format!("Bearer {}", self.token));
        }
        if !body.is_empty() && !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
            request = request.header("content-type", "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(body)).unwrap_or_else(|e| panic!("no request for {path:?}: {e}"))
    }
}

/// A caller on one connection.
#[derive(Debug)]
pub struct Session {
    api: Api,
    connection: Connection,
}

impl Session {
    /// Runs a turn to its end and returns the JSON answer.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn invoke(&mut self, unit: &str, prompt: &str) -> anyhow::Result<Answer> {
        self.connection.send(self.api.invoke_request(unit, prompt, "application/json")).await
    }

    /// Starts a turn and reads its events. The next call waits until they were read to the end of the stream.
    ///
    /// # Errors
    /// When the connection breaks or the answer is an error.
    pub async fn invoke_streaming(&mut self, unit: &str, prompt: &str) -> anyhow::Result<Events> {
        let response = self.connection.ask(self.api.invoke_request(unit, prompt, "text/event-stream")).await?;
        anyhow::ensure!(response.status().is_success(), "invoke {unit}: {}", response.status());
        Ok(Events::new(response.into_body(), None))
    }
}
