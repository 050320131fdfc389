//! A body that nobody read: its request was answered before, by a refusal or by a handler that wants none.
//!
//! A client of HTTP/1.1 that keeps its connection may still be about to send the body when the answer leaves (RFC 9112 §9.3).
//! If the connection then ended without a word, it would see a broken pipe in place of the answer. So a small body is read and
//! forgotten, and where that cannot be, the answer announces the close.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CONNECTION, EXPECT};
use http::{HeaderValue, Request};
use http_body_util::BodyExt;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Bytes of a body that are read for nobody.
const SMALL_BYTES: usize = 64 << 10;
/// How long they may take.
const SHORT: Duration = Duration::from_secs(2);

/// Where an unread body comes back to.
#[derive(Debug)]
pub(super) struct Unread {
    back: oneshot::Receiver<Incoming>,
    /// The client sends its body only when it is asked to (RFC 9110 §10.1.1), so reading would ask for it.
    waits: bool,
}

/// The body as a handler has it; what is left of it goes back when the handler drops it.
struct Lent {
    body: Option<Incoming>,
    back: Option<oneshot::Sender<Incoming>>,
}

/// Lends the request's body out.
pub(super) fn lend(request: Request<Incoming>) -> (Request<Body>, Unread) {
    let (sender, back) = oneshot::channel();
    let waits = request.headers().contains_key(EXPECT);
    let request = request.map(|body| Body::new(Lent { body: Some(body), back: Some(sender) }));
    (request, Unread { back, waits })
}

impl Unread {
    /// Reads what is left of the body, if anything is and it is small; else the answer says that the connection ends with it.
    pub(super) async fn finish(mut self, answer: &mut Response) {
        let Ok(mut body) = self.back.try_recv() else { return };
        if body.is_end_stream() {
            return;
        }
        let small = body.size_hint().upper().is_none_or(|most| most <= SMALL_BYTES as u64);
        let read = small && !self.waits && matches!(timeout(SHORT, read_all(&mut body)).await, Ok(true));
        if !read {
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// Whether the body came to its end within [`SMALL_BYTES`].
async fn read_all(body: &mut Incoming) -> bool {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > SMALL_BYTES {
            return false;
        }
    }
    true
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let (Some(body), Some(back)) = (self.body.take(), self.back.take()) {
            // The answer may have left already; then nobody waits for it.
            let _ = back.send(body);
        }
    }
}

impl hyper::body::Body for Lent {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(context),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(|body| body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(SizeHint::default, |body| body.size_hint())
    }
}
