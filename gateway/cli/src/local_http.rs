//! One small `GET` over a connection of its own, over a Unix socket or plain TCP: for neighbours on this machine.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

const TIMEOUT: Duration = Duration::from_secs(5);
const MOST_BODY_BYTES: usize = 4 << 20;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Status and body of `path` at `unix:///socket`, `http://host:port` or `tcp://host:port`.
///
/// # Errors
/// When there is no answer within five seconds; the text says why.
pub async fn get(base: &str, path: &str, bearer: Option<&str>) -> anyhow::Result<(StatusCode, Bytes)> {
    match tokio::time::timeout(TIMEOUT, exchange(base, path, bearer)).await {
        Ok(answer) => answer,
        Err(_) => bail!("{base} does not answer within {} s", TIMEOUT.as_secs()),
    }
}

async fn connect(base: &str) -> anyhow::Result<(Box<dyn Stream>, String)> {
    if let Some(socket) = base.strip_prefix("unix://") {
        let stream = UnixStream::connect(socket).await.with_context(|| format!("connect to {socket}"))?;
        return Ok((Box::new(stream), "localhost".into()));
    }
    let uri: Uri = base.parse().with_context(|| format!("read the address {base}"))?;
    let Some(host) = uri.host() else { bail!("{base} names no host") };
    let address = format!("{host}:{}", uri.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(&address).await.with_context(|| format!("connect to {address}"))?;
    Ok((Box::new(stream), address))
}

async fn exchange(base: &str, path: &str, bearer: Option<&str>) -> anyhow::Result<(StatusCode, Bytes)> {
    let (stream, host) = connect(base).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let mut request = Request::get(path).header("host", host);
    if let Some(token) = bearer {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(Empty::<Bytes>::new())?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MOST_BODY_BYTES).collect().await;
        let body = body.map_err(|e| anyhow::anyhow!("{e}"))?.to_bytes();
        anyhow::Ok((status, body))
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}
