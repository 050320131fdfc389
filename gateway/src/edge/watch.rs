//! Whether the readers of a connection's answers still take them. On HTTP/2 each answer has a window of its own: one that is
//! never opened blocks no write, so that the socket cannot tell.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::{Instant, sleep};

/// The answers of one connection of which a piece is on its way, and since when.
#[derive(Debug, Clone, Default)]
pub struct Watch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    next: AtomicU64,
    waiting: Mutex<HashMap<u64, Instant>>,
}

impl Watch {
    /// This answer, watched.
    pub fn over(&self, body: Body) -> Body {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        Body::new(Watched { body, id, watch: self.0.clone() })
    }

    /// Comes back when an answer's last piece was not taken for so long.
    pub async fn stalled(&self, patience: Duration) {
        loop {
            sleep(patience / 4).await;
            let waiting = self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            if waiting.values().any(|since| since.elapsed() >= patience) {
                return;
            }
        }
    }
}

/// Asked for its next piece when there is room for one, that is when the last was taken.
struct Watched {
    body: Body,
    id: u64,
    watch: Arc<Shared>,
}

impl Watched {
    fn taken(&self) {
        self.watch.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        self.taken();
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(_))) = &frame {
            let mut waiting = self.watch.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.insert(self.id, Instant::now());
        }
        frame
    }

    /// Never said: it is asked once more then, when the last piece was taken too.
    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.taken();
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use tokio::time::timeout;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_is_seen_and_one_that_is_or_waits_is_not() {
        let watch = Watch::default();
        let mut body = watch.over(Body::from("piece"));
        assert!(timeout(PATIENCE * 3, watch.stalled(PATIENCE)).await.is_err(), "not asked for yet");
        body.frame().await.unwrap().unwrap();
        assert!(!body.is_end_stream(), "asked again");
        timeout(PATIENCE * 2, watch.stalled(PATIENCE)).await.expect("seen");
        assert!(body.frame().await.is_none());
        assert!(timeout(PATIENCE * 3, watch.stalled(PATIENCE)).await.is_err(), "taken");
        let mut left = watch.over(Body::from("piece"));
        left.frame().await.unwrap().unwrap();
        drop(left);
        assert!(timeout(PATIENCE * 3, watch.stalled(PATIENCE)).await.is_err(), "gone");
    }
}
