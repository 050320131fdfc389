//! A request's body on its way to the API: counted, bounded, and read before it is passed on.

use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use super::asked::{Asked, Unasked};
use super::provider::Provider;

/// Why an upload was broken off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Fault {
    #[error("the request is larger than the provider's request_mb")]
    TooLarge,
    /// Not for a client, who is told more.
    #[error("the request asks for what is not passed on: {0:?}")]
    Unasked(Unasked),
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
    pub(super) fn fault(&self) -> Option<&Fault> {
        self.fault.get()
    }
}

/// The body.
pub(super) struct Upload {
    body: Incoming,
    most: u64,
    /// Nothing is read where there is no body to be.
    asked: Option<Asked>,
    progress: Arc<Progress>,
}

impl Upload {
    pub(super) fn new(body: Incoming, provider: &Provider, progress: Arc<Progress>) -> Self {
        let ended = body.is_end_stream();
        progress.complete.store(ended, Ordering::Relaxed);
        let asked = (!ended).then(|| Asked::new(provider.allowed.clone()));
        Self { body, most: provider.request_bytes, asked, progress }
    }

    fn pass(&mut self, data: &[u8], last: bool) -> Result<(), Fault> {
        let bytes = self.progress.bytes.fetch_add(data.len() as u64, Ordering::Relaxed) + data.len() as u64;
        if bytes > self.most {
            return Err(Fault::TooLarge);
        }
        let Some(asked) = &mut self.asked else { return Ok(()) };
        asked.feed(data, last).map_err(Fault::Unasked)?;
        if let Some(model) = asked.model() {
            self.progress.model.get_or_init(|| model.clone());
        }
        Ok(())
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let (passed, last) = loop {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => break (self.pass(&[], true).map(|()| None), true),
                Some(Err(_)) => break (Err(Fault::Broken), false),
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => {
                        let last = self.body.is_end_stream();
                        break (self.pass(&data, last).map(|()| Some(Frame::data(data))), last);
                    }
                    // Trailers are of this connection.
                    Err(_) => continue,
                },
            }
        };
        match &passed {
            Err(fault) => drop(self.progress.fault.get_or_init(|| fault.clone())),
            Ok(_) if last => self.progress.complete.store(true, Ordering::Relaxed),
            Ok(_) => {}
        }
        Poll::Ready(passed.transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
