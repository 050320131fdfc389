//! W3C trace context (<https://www.w3.org/TR/trace-context/>): `traceparent` in and out.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use http::{HeaderName, HeaderValue};
use rand::Rng;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// This request's place in the caller's trace, or in one of its own: what is passed on and answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traceparent(String);

impl Traceparent {
    /// A span of this gateway, below the caller's where `header` is valid; else a new trace begins (§3.2.2.3).
    fn below(header: Option<&str>, random: (u128, u64)) -> Self {
        // All-zero ids are not valid.
        let span = random.1.max(1);
        match header.and_then(parse) {
            Some((trace, flags)) => Self(format!("00-{trace}-{span:016x}-{flags}")),
            None => Self(format!("00-{:032x}-{span:016x}-01", random.0.max(1))),
        }
    }

    /// The header's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Trace id and flags of a valid header; a later version is read as the first one, as §3.2.2.4 asks.
fn parse(header: &str) -> Option<(&str, &str)> {
    let is_hex = |text: &str, length| {
        text.len() == length && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    let mut parts = header.trim().split('-');
    let (version, trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let whole = version != "00" || parts.next().is_none();
    let zero = |text: &str| text.bytes().all(|b| b == b'0');
    let good = is_hex(version, 2) && version != "ff" && is_hex(trace, 32) && is_hex(span, 16) && is_hex(flags, 2);
    (good && whole && !zero(trace) && !zero(span)).then_some((trace, flags))
}

/// Puts a [`Traceparent`] into the request's extensions and on the answer.
pub async fn layer(mut request: Request, next: Next) -> Response {
    let given = request.headers().get(TRACEPARENT).and_then(|v| v.to_str().ok());
    let trace = Traceparent::below(given, rand::rng().random());
    request.extensions_mut().insert(trace.clone());
    let mut response = next.run(request).await;
    if let Ok(value) = HeaderValue::try_from(trace.0) {
        response.headers_mut().insert(TRACEPARENT, value);
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIVEN: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_valid_trace_goes_on_with_a_new_span() {
        let trace = Traceparent::below(Some(GIVEN), (1, 2));
        assert_eq!(trace.as_str(), "00-0af7651916cd43dd8448eb211c80319c-0000000000000002-01");
        let later = "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-what-the-future-will-be-like";
        assert!(Traceparent::below(Some(later), (1, 2)).as_str().ends_with("9c-0000000000000002-00"));
    }

    #[test]
    fn an_invalid_one_is_replaced() {
        let fresh = "00-00000000000000000000000000000001-0000000000000002-01";
        for bad in [
            "",
            "x",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        ] {
            assert_eq!(Traceparent::below(Some(bad), (1, 2)).as_str(), fresh, "{bad}");
        }
        assert_eq!(
            Traceparent::below(None, (0, 0)).as_str(),
            "00-00000000000000000000000000000001-0000000000000001-01"
        );
    }
}
