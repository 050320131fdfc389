//! A request's body on its way to the API: counted, bounded, and read as far as the meter needs it.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::scan::Asked;

/// Why an upload was broken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("the request is larger than the provider's request_mb")]
    TooLarge,
    #[error("answers in the background cannot be metered: leave out `background`")]
    Background,
    #[error("the worker's request broke off")]
    Broken,
}

/// How far an upload is, for who waits for the answer.
#[derive(Debug, Default)]
pub(super) struct Progress {
    bytes: AtomicU64,
    complete: AtomicBool,
    model: OnceLock<String>,
    fault: OnceLock<Fault>,
}

impl Progress {
    /// Bytes that were passed on.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Whether all of it was.
    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// The model that it asks for.
    pub(super) fn model(&self) -> Option<String> {
        self.model.get().cloned()
    }

    /// Why it was broken off.
    pub(super) fn fault(&self) -> Option<Fault> {
        self.fault.get().copied()
    }
}

/// The body.
pub(super) struct Upload {
    body: Incoming,
    most: u64,
    no_background: bool,
    asked: Asked,
    progress: Arc<Progress>,
}

impl Upload {
    pub(super) fn new(body: Incoming, most: u64, no_background: bool, progress: Arc<Progress>) -> Self {
        progress.complete.store(body.is_end_stream(), Ordering::Relaxed);
        Self { body, most, no_background, asked: Asked::new(), progress }
    }

    fn pass(&mut self, data: &Bytes) -> Result<(), Fault> {
        let bytes = self.progress.bytes.fetch_add(data.len() as u64, Ordering::Relaxed) + data.len() as u64;
        if bytes > self.most {
            return Err(Fault::TooLarge);
        }
        self.asked.feed(data);
        if self.asked.background && self.no_background {
            return Err(Fault::Background);
        }
        if let Some(model) = &self.asked.model {
            self.progress.model.get_or_init(|| model.clone());
        }
        Ok(())
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let passed = loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => {
                    self.progress.complete.store(true, Ordering::Relaxed);
                    return Poll::Ready(None);
                }
                Some(Err(_)) => break Err(Fault::Broken),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => break self.pass(&data).map(|()| Frame::data(data)),
                    // Trailers are of this connection.
                    Err(_) => continue,
                },
            }
        };
        if let Err(fault) = &passed {
            self.progress.fault.get_or_init(|| *fault);
        } else if self.body.is_end_stream() {
            self.progress.complete.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Some(passed))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
