//! Answers whose size a caller chooses: counted against what its owner may have in memory, until they are sent.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use contract::ErrorCode;
use http::{HeaderValue, header};
use serde::Serialize;

use super::problem::{Answer, Failure};
use crate::per_owner::Room;

/// Most bytes of the texts on a page of a list: it ends there, before it has as many entries as it may, and says where the next
/// one begins. As JSON a text has at most six times as many.
pub const PAGE_BYTES: usize = 256 << 10;

struct Sent {
    json: Vec<u8>,
    _room: Room,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

/// 200 with this as JSON.
///
/// # Errors
/// 500 for what cannot be written as JSON.
pub fn json(mut room: Room, document: &impl Serialize) -> Answer {
    let json = serde_json::to_vec(document).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written");
        Failure::new(ErrorCode::Internal, "the answer cannot be written; the gateway's log says why")
    })?;
    room.held.shrink(json.len());
    let mut response = Response::new(Body::from(Bytes::from_owner(Sent { json, _room: room })));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
