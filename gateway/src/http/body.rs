//! Request bodies: bounded, JSON, and parsed by `contract` so that refusals name the offender.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use contract::ErrorCode;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use super::problem::Failure;
use crate::app::App;

/// The bytes of a JSON body of at most `limits.body_bytes`.
#[derive(Debug)]
pub struct JsonBody(pub Bytes);

impl JsonBody {
    /// The document.
    ///
    /// # Errors
    /// 400 with the JSON pointer of the offender.
    pub fn parse<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        Ok(contract::parse(&self.0)?)
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
        read(request.into_body(), most).await.map(Self)
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

async fn read(body: Body, most: usize) -> Result<Bytes, Failure> {
    match Limited::new(body, most).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(too_large("the body", most)),
        Err(error) => Err(Failure::new(ErrorCode::MalformedJson, format!("the body broke off: {error}"))),
    }
}

/// 413: `what` may have at most so many bytes.
pub fn too_large(what: &str, most: usize) -> Failure {
    Failure::new(ErrorCode::TooLarge, format!("{what} may have at most {most} bytes"))
}

fn must_be_json(headers: &HeaderMap) -> Result<(), Failure> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or_default();
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
