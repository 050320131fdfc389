//! Request bodies: bounded, JSON, and parsed by `contract` so that refusals name the offender.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use contract::ErrorCode;
use http::{HeaderMap, StatusCode, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;
use settings::Edge;
use tokio::time::{Instant, timeout_at};

use super::large;
use super::problem::Failure;
use super::unique::Unique;
use crate::app::App;
use crate::auth::Caller;

/// The bytes of a JSON body of at most `limits.body_bytes`.
#[derive(Debug)]
pub struct JsonBody(pub Bytes);

impl JsonBody {
    /// The document.
    ///
    /// # Errors
    /// 400 with the JSON pointer of the offender.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        let document = contract::parse(&self.0)?;
        // Second, since the other says better what is wrong with what is no JSON at all.
        serde_json::from_slice::<Unique>(&self.0).map_err(|e| Failure::invalid("", e.to_string()))?;
        Ok(document)
    }
}

impl FromRequest<App> for JsonBody {
    type Rejection = Failure;

    async fn from_request(request: Request, app: &App) -> Result<Self, Failure> {
        let most = app.settings.limits.body_bytes;
        must_be_json(request.headers())?;
        // Said before a byte is read, so that a client that waits for `100 Continue` never sends it.
        let announced = request.headers().get(header::CONTENT_LENGTH);
        let announced = announced.and_then(|v| v.to_str().ok()?.parse::<usize>().ok());
        if announced.is_some_and(|length| length > most) {
            if !request.headers().contains_key(header::EXPECT) {
                linger(request.into_body()).await;
            }
            return Err(too_large("the body", most));
        }
        let owner = request.extensions().get::<Caller>().map(|caller| caller.owner.clone());
        if let (Some(owner), Some(length)) = (&owner, announced) {
            large::may_count(app, owner, length)?;
        }
        let body = read(request.into_body(), most, Pace::of(&app.settings.edge)).await?;
        if let Some(owner) = owner {
            large::count(app, &owner, body.len()).await?;
        }
        Ok(Self(body))
    }
}

/// Reads and forgets what a client is sending, within bounds: one that is still writing when its connection is reset never
/// sees why it was refused (RFC 9112, 9.6).
async fn linger(mut body: Body) {
    const MOST_BYTES: usize = 64 << 20;
    const MOST_TIME: Duration = Duration::from_secs(2);
    let read = async {
        let mut seen = 0;
        while let Some(Ok(frame)) = body.frame().await {
            seen += frame.data_ref().map_or(0, Bytes::len);
            if seen > MOST_BYTES {
                break;
            }
        }
    };
    // However it ends, the answer is the same.
    let _ = tokio::time::timeout(MOST_TIME, read).await;
}

/// How slow a body may be: a sender that drips holds what it has sent, and its place.
#[derive(Debug, Clone, Copy)]
struct Pace {
    grace: Duration,
    bytes_per_sec: u64,
}

impl Pace {
    fn of(edge: &Edge) -> Self {
        Self { grace: Duration::from_secs(edge.body_sec.max(1)), bytes_per_sec: edge.body_bytes_per_sec.max(1) }
    }

    /// How long so many bytes may take.
    fn time_for(&self, bytes: usize) -> Duration {
        self.grace + Duration::from_millis(bytes as u64 * 1000 / self.bytes_per_sec)
    }
}

async fn read(body: Body, most: usize, pace: Pace) -> Result<Bytes, Failure> {
    let begun = Instant::now();
    let mut body = Limited::new(body, most);
    let mut read = BytesMut::new();
    loop {
        match timeout_at(begun + pace.time_for(read.len()), body.frame()).await {
            // Trailers say nothing here.
            Ok(Some(Ok(frame))) => read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Ok(Some(Err(error))) if error.is::<LengthLimitError>() => return Err(too_large("the body", most)),
            Ok(Some(Err(error))) => return Err(broken(format!("the body broke off: {error}"))),
            Ok(None) => return Ok(read.freeze()),
            Err(_) => {
                let (grace, rate) = (pace.grace.as_secs(), pace.bytes_per_sec);
                let detail = format!("the body came too slowly: it has {grace} s and one more for every {rate} bytes");
                return Err(broken(detail).status_of(StatusCode::REQUEST_TIMEOUT));
            }
        }
    }
}

fn broken(detail: String) -> Failure {
    Failure::new(ErrorCode::MalformedJson, detail)
}

/// 413: `what` may have at most so many bytes.
pub fn too_large(what: &str, most: usize) -> Failure {
    Failure::new(ErrorCode::TooLarge, format!("{what} may have at most {most} bytes"))
}

/// Declared once, as JSON, and sent as it is: a body that was packed could be any size.
fn must_be_json(headers: &HeaderMap) -> Result<(), Failure> {
    let packed =
        headers.get_all(header::CONTENT_ENCODING).iter().any(|v| !v.as_bytes().eq_ignore_ascii_case(b"identity"));
    if packed {
        return Err(Failure::new(ErrorCode::UnsupportedMediaType, "the body must be sent without Content-Encoding"));
    }
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let given = types.next().and_then(|v| v.to_str().ok()).unwrap_or_default();
    if types.next().is_some() {
        return Err(Failure::new(ErrorCode::UnsupportedMediaType, "there must be one Content-Type header"));
    }
    let essence = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    let given = if given.is_empty() { "none".into() } else { format!("`{}`", given.escape_debug()) };
    Err(Failure::new(
        ErrorCode::UnsupportedMediaType,
        format!("the body must be sent with `Content-Type: application/json`; it came with {given}"),
    ))
}

#[cfg(test)]
mod tests {
    use futures_util::stream;

    use super::*;

    const PACE: Pace = Pace { grace: Duration::from_secs(10), bytes_per_sec: 100 };

    /// A body of so many pieces of 100 bytes, each after so long.
    fn drip(pieces: usize, every: Duration) -> Body {
        Body::from_stream(stream::unfold(0, move |sent| async move {
            tokio::time::sleep(every).await;
            (sent < pieces).then(|| (Ok::<_, std::convert::Infallible>(vec![b'x'; 100]), sent + 1))
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_comes_at_some_pace_or_not_at_all() {
        let status = |read: Result<Bytes, Failure>| read.map_err(|failure| failure.status().as_u16());
        let slow = read(drip(60, Duration::from_millis(1_100)), 1 << 20, PACE).await;
        assert_eq!(status(slow).unwrap().len(), 6_000);
        let begun = Instant::now();
        let slower = read(drip(1_000_000, Duration::from_secs(2)), 1 << 30, PACE).await;
        assert_eq!(status(slower), Err(408));
        assert!(begun.elapsed() < Duration::from_secs(30));
        assert_eq!(
            status(read(Body::from_stream(stream::pending::<Result<Bytes, String>>()), 9, PACE).await),
            Err(408)
        );
        assert_eq!(status(read(drip(2, Duration::ZERO), 199, PACE).await), Err(413));
    }

    #[test]
    fn bodies_are_declared_once_and_not_packed() {
        let status = |given: &[(header::HeaderName, &str)]| {
            let headers = given.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect();
            must_be_json(&headers).map_err(|failure| failure.status().as_u16())
        };
        let json = (header::CONTENT_TYPE, "application/json; charset=utf-8");
        assert_eq!(status(std::slice::from_ref(&json)), Ok(()));
        assert_eq!(status(&[json.clone(), (header::CONTENT_ENCODING, "identity")]), Ok(()));
        assert_eq!(status(&[json.clone(), (header::CONTENT_ENCODING, "gzip")]), Err(415));
        assert_eq!(status(&[json.clone(), json]), Err(415));
        assert_eq!(status(&[]), Err(415));
    }
}
