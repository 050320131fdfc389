//! Requests for `http://` addresses: passed on over a connection of their own, answers streamed back. Redirects are the
//! client's to follow, through the same door.

use std::sync::PoisonError;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::uri::PathAndQuery;
use http::{Extensions, Request, Response, StatusCode, Uri, Version, request};
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

use super::Body;
use super::outlet::{Opened, Outlet};
use super::refusal::Refusal;
use crate::broker::drop_hop_by_hop;

/// Bytes of an answer's headers.
const HEADER_BYTES: usize = 64 << 10;

pub(super) async fn forward(
    outlet: &Outlet<'_>,
    mut head: request::Parts,
    opened: Opened,
) -> Result<Response<Body>, Refusal> {
    let Opened { target, errand, stream } = opened;
    let gone = |what: &str| Refusal::new(StatusCode::BAD_GATEWAY, format!("{target} {what}"));

    let path = head.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let host = match target.port {
        80 => target.host.to_string(),
        port => format!("{}:{port}", target.host),
    };
    head.uri = Uri::from(path);
    head.version = Version::HTTP_11;
    head.extensions = Extensions::new();
    drop_hop_by_hop(&mut head.headers);
    // No body is passed on, so nothing may announce one.
    for name in [header::CONTENT_LENGTH, header::EXPECT] {
        head.headers.remove(name);
    }
    let host = HeaderValue::try_from(host).map_err(|_| gone("is no host that a header can name"))?;
    head.headers.insert(header::HOST, host);

    let meter = stream.meter.clone();
    let (mut send, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEADER_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|_| gone("cannot be talked to"))?;
    let (errands, idle) = (outlet.errands.clone(), outlet.egress.idle);
    {
        let mut carriers = outlet.carriers.lock().unwrap_or_else(PoisonError::into_inner);
        while carriers.try_join_next().is_some() {}
        // When this ends before the answer has, the answer is cut off, and the client sees that.
        carriers.spawn(async move {
            tokio::select! {
                _ = connection => {}
                () = meter.idle(idle) => {}
                () = errands.until_over(&errand) => {}
            }
        });
    }
    let request = Request::from_parts(head, Empty::<Bytes>::new());
    let answer = timeout(idle * 2, send.send_request(request)).await;
    let (mut head, body) = match answer {
        Ok(Ok(answer)) => answer.into_parts(),
        Ok(Err(_)) => return Err(gone("ended the connection before it answered")),
        Err(_) => return Err(gone("did not answer in time")),
    };
    drop_hop_by_hop(&mut head.headers);
    head.extensions = Extensions::new();
    head.version = Version::HTTP_11;
    Ok(Response::from_parts(head, body.boxed()))
}
