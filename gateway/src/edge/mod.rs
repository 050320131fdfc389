//! Connections of callers, before anybody knows who they are: how many there may be, how long each part of a request and of its
//! answer may take, and how large what is not a body may be.
//!
//! Nothing here costs a caller who behaves anything, and nothing costs the gateway more than a connection's buffers for one
//! who does not. What an owner may have open and how often it may call is `auth`'s; how large a body may be is the route's.

mod files;
mod front;
mod patient;
mod places;
mod unread;
mod watch;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::response::Response;
use bytes::Bytes;
use http::{Request, Version};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustix::net::{SendFlags, sockopt};
use settings::Edge;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use patient::Patient;
use places::Places;
use watch::Watch;

/// What an HTTP/2 connection begins with (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Between two tries when no connection can be accepted: there are too few descriptors, and each try would fail as the last.
const BREATH: Duration = Duration::from_millis(100);
/// What the kernel keeps of a connection, each way; it takes twice as much with its own books.
const KERNEL_BYTES: usize = 128 << 10;
/// What waits of a connection's answers.
const SEND_BYTES: usize = 64 << 10;
/// What a sender of HTTP/2 may send before anybody reads: of one request, and of all of a connection's.
const WINDOWS: (u32, u32) = (64 << 10, 1 << 20);
/// Requests that may be reset before they were looked at, and that the gateway itself resets, before the connection ends.
const RESETS: (usize, usize) = (20, 64);
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\nretry-after: 1\r\n\
    connection: close\r\ncontent-length: 181\r\n\r\n\
    {\"type\":\"urn:rekindle:error:unavailable\",\"title\":\"A part of the platform does not answer\",\"status\":503,\
    \"detail\":\"too many connections are open; try again later\",\"source\":\"platform\"}";

/// Serves until `closing`, then until the calls that are open have ended. Dropping it ends all connections.
pub async fn serve(listener: TcpListener, router: Router, edge: &Edge, closing: CancellationToken) {
    let places = Places::new(files::enough_for(edge.connections), edge.connections_per_address);
    let desk = Arc::new(Desk { router, edge: edge.clone(), closing: closing.clone() });
    let mut conversations = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = closing.cancelled() => break,
            Some(_) = conversations.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((socket, peer)) => match places.take(peer.ip()) {
                    Some(place) => {
                        let desk = desk.clone();
                        conversations.spawn(async move {
                            if let Err(error) = desk.converse(socket, peer).await {
                                tracing::debug!(%peer, error, "a connection ended badly");
                            }
                            drop(place);
                        });
                    }
                    // As much as fits into an empty socket: whoever comes too often gets no more of our time. Tokio's own
                    // `try_write` writes nothing to a socket whose events it has not seen yet.
                    None => drop(rustix::net::send(&socket, FULL, SendFlags::NOSIGNAL)),
                },
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "no connection can be accepted");
                    sleep(BREATH).await;
                }
            },
        }
    }
    drop(listener);
    while conversations.join_next().await.is_some() {}
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// What all connections share.
struct Desk {
    router: Router,
    edge: Edge,
    closing: CancellationToken,
}

impl Desk {
    async fn converse(&self, mut socket: TcpStream, peer: SocketAddr) -> Result<(), String> {
        prepare(&socket).map_err(|e| e.to_string())?;
        let head = Duration::from_secs(self.edge.head_sec.max(1));
        let begun = timeout(head, begin(&mut socket));
        let begun = tokio::select! {
            begun = begun => begun,
            () = self.closing.cancelled() => return Ok(()),
        };
        let (is_http2, read) = begun.map_err(|_| "no request in time")?.map_err(|e| e.to_string())?;
        let patience = Duration::from_secs(self.edge.stall_sec.max(1));
        let socket = Patient::new(read, socket, patience);
        let ended = if is_http2 {
            self.http2(socket, peer, head, patience).await
        } else {
            self.http1(socket, peer, head).await
        };
        ended.map_err(|error| crate::http::problem::chain(&error))
    }

    async fn http1(&self, socket: Patient<TcpStream>, peer: SocketAddr, head: Duration) -> hyper::Result<()> {
        let most = self.edge.head_bytes.max(8 << 10);
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(head);
        builder.max_headers(self.edge.headers).max_header_size(most).max_buf_size(most.max(SEND_BYTES));
        let answer = service_fn(|request| self.answer(request, peer, None));
        let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), answer));
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = self.closing.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        connection.await
    }

    async fn http2(
        &self,
        socket: Patient<TcpStream>,
        peer: SocketAddr,
        head: Duration,
        patience: Duration,
    ) -> hyper::Result<()> {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder.timer(TokioTimer::new()).keep_alive_interval(head).keep_alive_timeout(head);
        builder.max_concurrent_streams(self.edge.streams.max(1)).max_send_buf_size(SEND_BYTES);
        builder.max_header_list_size(u32::try_from(self.edge.head_bytes).unwrap_or(u32::MAX));
        builder.max_pending_accept_reset_streams(RESETS.0).max_local_error_reset_streams(RESETS.1);
        builder.initial_stream_window_size(WINDOWS.0).initial_connection_window_size(WINDOWS.1);
        let watch = Watch::default();
        let router = self.router.clone();
        let watching = watch.clone();
        let answer = service_fn(move |request| respond(router.clone(), request, peer, Some(watching.clone())));
        let mut connection = pin!(builder.serve_connection(TokioIo::new(socket), answer));
        let mut stalled = pin!(watch.stalled(patience));
        tokio::select! {
            ended = connection.as_mut() => return ended,
            () = stalled.as_mut() => return Ok(()),
            () = self.closing.cancelled() => connection.as_mut().graceful_shutdown(),
        }
        tokio::select! {
            ended = connection => ended,
            () = stalled => Ok(()),
        }
    }

    fn answer(
        &self,
        request: Request<Incoming>,
        peer: SocketAddr,
        watch: Option<Watch>,
    ) -> impl Future<Output = Result<Response, Infallible>> + use<> {
        respond(self.router.clone(), request, peer, watch)
    }
}

/// Answers one request.
async fn respond(
    router: Router,
    mut request: Request<Incoming>,
    peer: SocketAddr,
    watch: Option<Watch>,
) -> Result<Response, Infallible> {
    let keeps_connection = request.version() == Version::HTTP_11;
    request.extensions_mut().insert(ConnectInfo(peer));
    let (request, unread) = unread::lend(request);
    let mut response = match front::refuse(&request) {
        Some(refusal) => {
            drop(request);
            refusal
        }
        None => router.oneshot(request).await?,
    };
    front::finish(&mut response);
    if keeps_connection {
        unread.finish(&mut response).await;
    }
    Ok(match watch {
        Some(watch) => response.map(|body| watch.over(body)),
        None => response,
    })
}

/// Bounds what the kernel keeps of a connection: it would keep megabytes for a peer that reads or is read slowly.
fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    sockopt::set_socket_send_buffer_size(socket, KERNEL_BYTES)?;
    sockopt::set_socket_recv_buffer_size(socket, KERNEL_BYTES)?;
    Ok(())
}

/// Whether a connection speaks HTTP/2, and what was read to know it.
async fn begin(socket: &mut TcpStream) -> io::Result<(bool, Bytes)> {
    let mut read = [0; PREFACE.len()];
    let mut length = 0;
    while length < read.len() && PREFACE.starts_with(&read[..length]) {
        match socket.read(&mut read[length..]).await? {
            0 => break,
            more => length += more,
        }
    }
    Ok((read[..length] == *PREFACE, Bytes::copy_from_slice(&read[..length])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_as_long_as_it_says() {
        let text = std::str::from_utf8(FULL).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        let problem: contract::Problem = serde_json::from_str(body).unwrap();
        assert_eq!(problem.title, contract::ErrorCode::Unavailable.title());
    }
}
