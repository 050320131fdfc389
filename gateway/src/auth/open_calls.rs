//! Calls that are open: from the guard to the last byte of the answer, so that waiting calls and event streams count for as
//! long as they last.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use contract::Owner;
use hyper::body::{Body as HttpBody, Frame, SizeHint};

/// Counts by owner; an owner without an open call takes no memory.
#[derive(Debug, Default)]
pub struct OpenCalls(Arc<Mutex<HashMap<Owner, u32>>>);

/// One of them, until it is dropped.
#[derive(Debug)]
pub struct OpenCall {
    owner: Owner,
    counts: Arc<Mutex<HashMap<Owner, u32>>>,
}

impl OpenCalls {
    /// One more of this owner's, unless it has `most`.
    pub fn open(&self, owner: &Owner, most: u32) -> Option<OpenCall> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(owner.clone()).or_default();
        if *count >= most.max(1) {
            return None;
        }
        *count += 1;
        Some(OpenCall { owner: owner.clone(), counts: self.0.clone() })
    }
}

impl OpenCall {
    /// The answer; the call is open until its body was sent or dropped.
    pub fn answered(self, response: Response) -> Response {
        response.map(|body| Body::new(Counted { body, _call: self }))
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.owner) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.owner);
            }
        }
    }
}

struct Counted {
    body: Body,
    _call: OpenCall,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_counts_until_its_answer_is_gone() {
        let calls = OpenCalls::default();
        let [ann, bob] = ["ann", "bob"].map(|sub| Owner::parse(sub).unwrap());
        let first = calls.open(&ann, 2).unwrap().answered(Response::new(Body::from("text")));
        let second = calls.open(&ann, 2).unwrap();
        assert!(calls.open(&ann, 2).is_none() && calls.open(&bob, 2).is_some());
        assert_eq!(first.body().size_hint().exact(), Some(4));
        drop(first);
        assert!(calls.open(&ann, 2).is_some());
        drop(second);
        assert!(calls.0.lock().unwrap().is_empty());
    }
}
