//! One HTTP/1 request on a connection of its own, over TCP or a Unix socket.

use std::path::PathBuf;

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
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

/// Drives the connection until whoever reads the answer drops it.
#[derive(Debug)]
pub struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
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

/// Sends a request and returns as soon as the head of the answer is there. Dropping the driver closes the connection.
///
/// # Errors
/// When nobody listens or the connection breaks before that.
pub async fn open(target: &Target, request: Request<Full<Bytes>>) -> anyhow::Result<(Response<Incoming>, Driver)> {
    match target {
        Target::Tcp(address) => {
            let stream =
                tokio::net::TcpStream::connect(address).await.with_context(|| format!("connect to {address}"))?;
            stream.set_nodelay(true)?;
            exchange(stream, request).await
        }
        Target::Unix(path) => {
            let stream = tokio::net::UnixStream::connect(path)
                .await
                .with_context(|| format!("connect to {}", path.display()))?;
            exchange(stream, request).await
        }
    }
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>) -> anyhow::Result<(Response<Incoming>, Driver)>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = Driver(tokio::spawn(async move {
        // What went wrong with the connection is what the reader of the answer sees.
        let _ = connection.await;
    }));
    let response = sender.send_request(request).await.context("send the request")?;
    Ok((response, driver))
}

/// Sends a request and reads the whole answer.
///
/// # Errors
/// When nobody listens or the connection breaks.
pub async fn send(target: &Target, request: Request<Full<Bytes>>) -> anyhow::Result<Answer> {
    let (response, _driver) = open(target, request).await?;
    let (head, body) = response.into_parts();
    let body = body.collect().await.context("read the answer")?.to_bytes();
    Ok(Answer { status: head.status, headers: head.headers, body })
}
