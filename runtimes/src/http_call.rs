//! One HTTP exchange over a connection of its own, over TCP or a Unix socket.
//!
//! Connecting to a neighbour costs tens of microseconds; a pool would bring stale connections after every restart.

use std::path::PathBuf;
use std::pin::pin;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

/// Larger answers than this are no answers of ours.
const ANSWER_MAX_BYTES: usize = 16 << 20;

/// Where a server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// A Unix socket.
    Unix(PathBuf),
    /// `host:port`.
    Tcp(String),
}

/// The exchange failed, or it is unknown whether it happened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    #[error("cannot connect to {to}: {source}")]
    Connect { to: String, source: std::io::Error },
    #[error("the connection failed: {0}")]
    Http(#[from] hyper::Error),
    #[error("the answer cannot be read: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
}

/// The head and the whole body of an answer.
pub(crate) struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Endpoint {
    /// Parses `unix:///path` or `http://host[:port]`; also gives the path and query of an `http` URL.
    pub fn parse(url: &str) -> Option<(Self, String)> {
        if let Some(path) = url.strip_prefix("unix://") {
            return path.starts_with('/').then(|| (Self::Unix(path.into()), "/".into()));
        }
        let uri: Uri = url.parse().ok()?;
        if uri.scheme_str() != Some("http") {
            return None;
        }
        let host = uri.host().filter(|h| !h.is_empty())?;
        let path = uri.path_and_query().map_or("/", |p| p.as_str()).to_owned();
        Some((Self::Tcp(format!("{host}:{}", uri.port_u16().unwrap_or(80))), path))
    }

    pub async fn connect(&self) -> Result<Box<dyn Stream>, CallError> {
        let connected: std::io::Result<Box<dyn Stream>> = match self {
            Self::Unix(path) => UnixStream::connect(path).await.map(|s| Box::new(s) as _),
            Self::Tcp(address) => TcpStream::connect(address.as_str()).await.map(|s| Box::new(s) as _),
        };
        connected.map_err(|source| CallError::Connect { to: self.to_string(), source })
    }

    pub fn host(&self) -> &str {
        match self {
            Self::Unix(_) => "localhost",
            Self::Tcp(address) => address,
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "{}", path.display()),
            Self::Tcp(address) => f.write_str(address),
        }
    }
}

/// A connection of either kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A request with the headers that every one of ours has.
pub(crate) fn request(
    endpoint: &Endpoint,
    method: http::Method,
    path: &str,
    bearer: Option<&str>,
    body: Option<Vec<u8>>,
) -> Result<Request<Full<Bytes>>, CallError> {
    let mut builder = Request::builder().method(method).uri(path).header(header::HOST, endpoint.host());
    if let Some(token) = bearer {
        builder = builder.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    if body.is_some() {
        builder = builder.header(header::CONTENT_TYPE, "application/json");
    }
    Ok(builder.body(Full::new(Bytes::from(body.unwrap_or_default())))?)
}

/// Sends the request and reads the whole answer. The connection is closed in every case.
pub(crate) async fn call(endpoint: &Endpoint, request: Request<Full<Bytes>>) -> Result<Answer, CallError> {
    let stream = endpoint.connect().await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let (parts, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await.map_err(CallError::Body)?.to_bytes();
        Ok(Answer { status: parts.status, headers: parts.headers, body })
    };
    let mut exchange = pin!(exchange);
    // The connection only moves the exchange along; when it ends first, the exchange says how.
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}
