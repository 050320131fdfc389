//! An answer's body on its way to the worker: metered as it passes, ended when nothing comes for too long.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::BoxError;
use super::meter::Metered;

/// The body.
pub(super) struct Answer {
    body: Incoming,
    metered: Metered,
    silence: Duration,
    silent: Pin<Box<Sleep>>,
    /// Ends the connection when the request has taken too long, even while nobody reads.
    _deadline: AbortOnDropHandle<()>,
}

impl Answer {
    pub(super) fn new(body: Incoming, metered: Metered, silence: Duration, deadline: AbortOnDropHandle<()>) -> Self {
        Self { body, metered, silence, silent: Box::pin(sleep(silence)), _deadline: deadline }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        match polled {
            Poll::Pending => match self.silent.as_mut().poll(cx) {
                Poll::Ready(()) => {
                    self.metered.finish();
                    Poll::Ready(Some(Err("the model API said nothing for too long".into())))
                }
                Poll::Pending => Poll::Pending,
            },
            Poll::Ready(Some(Ok(frame))) => {
                let again = Instant::now() + self.silence;
                self.silent.as_mut().reset(again);
                if let Some(data) = frame.data_ref() {
                    self.metered.see(data);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.metered.finish();
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.metered.finish();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
