//! Requests and answers whose size a caller chooses: counted against what its owner may have in memory until they are sent, and
//! against its rate of bytes: a mebibyte keeps the ledger and its disk from others for as long as tens of small calls do.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use contract::{ErrorCode, Owner};
use http::{HeaderValue, header};
use serde::Serialize;

use super::problem::{Answer, Failure};
use crate::app::App;
use crate::per_owner::Room;
use crate::rates::Late;

/// Most bytes of the texts on a page of a list: it ends there, before it has as many entries as it may, and says where the next
/// one begins. As JSON a text has at most six times as many.
pub const PAGE_BYTES: usize = 256 << 10;

/// What is not larger than that counts as a request, by nothing else.
const SMALL: usize = 16 << 10;

struct Sent {
    json: Vec<u8>,
    _room: Room,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.json
    }
}

/// Counts so many bytes of a request or an answer. While the ledger is away nothing counts, and each route says so itself.
///
/// # Errors
/// 429 while this owner's are over their rate: nothing was counted.
pub async fn count(app: &App, owner: &Owner, bytes: usize) -> Result<(), Failure> {
    let (true, Ok(ledger)) = (bytes > SMALL, app.ledger()) else { return Ok(()) };
    let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX);
    app.bulk.pass_whole(ledger, owner, kib).await?.map_err(too_much)
}

/// Whether so many bytes can be counted, as far as this gateway knows.
///
/// # Errors
/// 429 as [`count`].
pub fn may_count(app: &App, owner: &Owner, bytes: usize) -> Result<(), Failure> {
    if bytes > SMALL { app.bulk.not_late(owner).map_err(too_much) } else { Ok(()) }
}

/// Room for an answer that may be large.
///
/// # Errors
/// 429 while this owner has too many of them, or is known to be over its rate.
pub async fn room(app: &App, owner: &Owner) -> Result<Room, Failure> {
    app.bulk.not_late(owner).map_err(too_much)?;
    app.shares.room(owner).await
}

fn too_much(Late { per_sec, wait }: Late) -> Failure {
    let detail = format!(
        "large requests and answers of this owner's have more than {per_sec} KiB a second (limits.bulk_kib_per_sec); try \
         again later"
    );
    Failure::new(ErrorCode::TooMany, detail).retry_after(wait)
}

/// 200 with this as JSON.
///
/// # Errors
/// 500 for what cannot be written as JSON, 429 as [`count`].
pub async fn json(app: &App, owner: &Owner, mut room: Room, document: &impl Serialize) -> Answer {
    let json = serde_json::to_vec(document).map_err(|error| {
        tracing::error!(%error, "an answer cannot be written");
        Failure::new(ErrorCode::Internal, "the answer cannot be written; the gateway's log says why")
    })?;
    count(app, owner, json.len()).await?;
    room.held.shrink(json.len());
    let mut response = Response::new(Body::from(Bytes::from_owner(Sent { json, _room: room })));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(response)
}
