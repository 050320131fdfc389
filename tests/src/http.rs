//! HTTP/1 over TCP or a Unix socket, a request at a time.

use std::path::PathBuf;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::{HeaderMap, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinHandle;

/// Where a server listens.
#[derive(Debug, Clone)]
pub enum Target {
    /// `host:port`
    Tcp(String),
    /// A socket file.
    Unix(PathBuf),
}

/// An HTTP/1 connection. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    driver: JoinHandle<()>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body.
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none, with the body.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{} answered with no JSON ({e}): {}", self.status, self.text()))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's text, empty when there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
    }

    /// The same answer, when it has this status.
    ///
    /// # Panics
    /// When it has another, with the body.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        self
    }
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub async fn open(target: &Target) -> anyhow::Result<Self> {
        match target {
            Target::Tcp(address) => {
                let stream =
                    tokio::net::TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
                stream.set_nodelay(true)?;
                Self::over(stream).await
            }
            Target::Unix(path) => {
                let stream = tokio::net::UnixStream::connect(path)
                    .await
                    .with_context(|| format!("connect to {}", path.display()))?;
                Self::over(stream).await
            }
        }
    }

    async fn over<S>(stream: S) -> anyhow::Result<Self>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let driver = tokio::spawn(async move {
            // What went wrong with the connection is what the reader of the answer sees.
            let _ = connection.await;
        });
        Ok(Self { sender, driver })
    }

    /// Sends a request and returns as soon as the head of the answer is there. The next one waits until the answer was read.
    ///
    /// # Errors
    /// When the connection breaks before that.
    pub async fn ask(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Response<Incoming>> {
        self.sender.ready().await.context("wait for the connection")?;
        self.sender.send_request(request).await.context("send the request")
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn send(&mut self, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
        let (head, body) = self.ask(request).await?.into_parts();
        let body = body.collect().await.context("read the answer")?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }
}

/// Sends a request on a connection of its own and reads the whole answer.
///
/// # Errors
/// When nobody listens or the connection breaks.
pub async fn send(target: &Target, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    Connection::open(target).await?.send(request).await
}
