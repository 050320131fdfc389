//! One worker's connection to the proxy: requests in, tunnels out.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::uri::Scheme;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::{TokioIo, TokioTimer};
use ledger::Errand;
use settings::EgressTarget;
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::errand::Errands;
use super::meter::Metered;
use super::plain;
use super::refusal::Refusal;
use super::{Body, Egress};

/// Time for a request's headers to be complete, and for a kept connection to bring the next request.
const HEADER_TIME: Duration = Duration::from_secs(60);
/// Bytes of a request's headers.
const HEADER_BYTES: usize = 64 << 10;

/// A connection to an allowed host, with the errand that it is for.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) target: EgressTarget,
    pub(super) errand: Errand,
    pub(super) stream: Metered<TcpStream>,
}

/// Serves one worker connection.
pub(super) struct Outlet<'a> {
    pub(super) egress: &'a Egress,
    pub(super) errands: Errands,
    /// Connections to hosts whose answers are passed on; they end with this connection.
    pub(super) carriers: Mutex<JoinSet<()>>,
    /// A tunnel that was agreed to.
    tunnel: Mutex<Option<(OnUpgrade, Opened)>>,
}

impl<'a> Outlet<'a> {
    pub(super) fn new(egress: &'a Egress, errands: Errands) -> Self {
        Self { egress, errands, carriers: Mutex::default(), tunnel: Mutex::default() }
    }

    /// To its end: that of the requests, then that of the tunnel which the last of them may have become.
    pub(super) async fn serve<S>(&self, io: S, stop: CancellationToken)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let service = service_fn(|request| async move { Ok::<_, Infallible>(self.answer(request).await) });
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIME)
            .max_buf_size(HEADER_BYTES)
            .serve_connection(TokioIo::new(io), service)
            .with_upgrades();
        {
            tokio::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(uid = %self.errands.uid, %error, "a worker's proxy connection ended early");
            }
        }
        let agreed = self.tunnel.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((upgrade, opened)) = agreed {
            self.carry(upgrade, opened).await;
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Body> {
        match self.try_answer(request).await {
            Ok(response) => response,
            Err(refusal) => {
                self.errands.tell(&refusal).await;
                refusal.into_response()
            }
        }
    }

    async fn try_answer(&self, mut request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
        if request.method() == Method::CONNECT {
            let opened = self.open(tunnel_target(request.uri())?).await?;
            let upgrade = hyper::upgrade::on(&mut request);
            *self.tunnel.lock().unwrap_or_else(PoisonError::into_inner) = Some((upgrade, opened));
            let nothing = Empty::<Bytes>::new().map_err(|never| match never {});
            return Ok(Response::new(nothing.boxed()));
        }
        let target = plain_target(request.method(), request.uri())?;
        let opened = self.open(target).await?;
        plain::forward(self, request.into_parts().0, opened).await
    }

    /// Checks everything, then connects.
    async fn open(&self, target: EgressTarget) -> Result<Opened, Refusal> {
        let errand = self.errands.now().await?;
        let dialer = &self.egress.dialer;
        // First, so that nobody is told to add an address to a list and then that the address itself will not do.
        dialer.check_literal(&target).map_err(|error| Refusal::dial(&target, &error))?;
        self.egress.check(&errand.profile, &target).await?;
        let (uid, generation) = (&self.errands.uid, self.errands.generation);
        let meter = self.egress.meters.open(uid, generation, errand.turn.as_ref()).map_err(Refusal::full)?;
        let io = dialer.dial(&target).await.map_err(|error| {
            let cause = std::error::Error::source(&error).map(ToString::to_string);
            tracing::info!(%uid, %target, %error, cause, "an allowed host was not reached");
            Refusal::dial(&target, &error)
        })?;
        tracing::debug!(%uid, %generation, %target, "a way out is open");
        Ok(Opened { target, errand, stream: Metered { io, meter } })
    }

    /// Carries a tunnel to its end: either side's, its bounds', or that of the turn.
    async fn carry(&self, upgrade: OnUpgrade, opened: Opened) {
        let Opened { target, errand, mut stream } = opened;
        let meter = stream.meter.clone();
        let carried = async {
            // Not upgraded: the worker was gone before it had its answer.
            let mut worker = TokioIo::new(upgrade.await.map_err(std::io::Error::other)?);
            copy_bidirectional(&mut worker, &mut stream).await
        };
        let why = tokio::select! {
            ended = carried => ended.err().map_or_else(|| "closed".to_owned(), |error| error.to_string()),
            () = meter.idle(self.egress.idle) => "it carried nothing for egress.idle_sec".into(),
            () = self.errands.until_over(&errand) => "its turn is over".into(),
        };
        let bytes = meter.bytes();
        tracing::debug!(uid = %self.errands.uid, %target, bytes, why, "a tunnel ended");
    }
}

fn bad(error: settings::EgressError) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, error.to_string())
}

/// The target of a `CONNECT`: host and port, nothing else (RFC 9110, 9.3.6). What `Host` says does not matter.
fn tunnel_target(uri: &Uri) -> Result<EgressTarget, Refusal> {
    match (uri.scheme(), uri.authority(), uri.path_and_query()) {
        (None, Some(authority), None) => EgressTarget::parse(authority.as_str(), None).map_err(bad),
        _ => Err(Refusal::new(StatusCode::BAD_REQUEST, "CONNECT takes `host:port`")),
    }
}

/// The target of a request in absolute form (RFC 9112, 3.2.2). What `Host` says does not matter.
fn plain_target(method: &Method, uri: &Uri) -> Result<EgressTarget, Refusal> {
    match (uri.scheme(), uri.authority()) {
        (Some(scheme), Some(authority)) if *scheme == Scheme::HTTP => {
            if !matches!(*method, Method::GET | Method::HEAD) {
                let why = "only GET and HEAD of http:// addresses are passed on; use https, which is a tunnel";
                return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, why));
            }
            EgressTarget::parse(authority.as_str(), Some(80)).map_err(bad)
        }
        _ => Err(Refusal::new(
            StatusCode::BAD_REQUEST,
            "this connection is one to a proxy: CONNECT, or GET of http://host/…",
        )),
    }
}
