//! `GET /v1/units/{unit}/events`: what happens in a unit, from any point that is still kept.

use axum::extract::State;
use contract::ErrorCode;
use http::{HeaderMap, HeaderName};
use ledger::StreamId;
use serde::Deserialize;

use super::problem::{Answer, Failure};
use super::query::Query;
use super::stream;
use super::unit_path::UnitPath;
use crate::app::App;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Where to begin, and whether to go on with what happens.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct From {
    from: Option<String>,
    follow: Option<bool>,
}

/// Streams the unit's events after `Last-Event-ID`, else after `?from=`, else all that are kept; then, unless
/// `?follow=false`, what happens.
pub async fn events(State(app): State<App>, path: UnitPath, Query(query): Query<From>, headers: HeaderMap) -> Answer {
    let from = from(&headers, query.from.as_deref())?;
    let unit = path.record(&app).await?;
    // Before the subscription, so that the last event is one that it will bring.
    let until = match query.follow {
        Some(false) => Some(app.fanout()?.end(&unit.uid).await?),
        _ => None,
    };
    let share = app.shares.of(&path.caller.owner);
    let subscription = app.fanout()?.subscribe(&unit.uid, from, &share).await?;
    Ok(stream::of_unit(&app, subscription, share, from, until))
}

/// A browser that reconnects repeats the URL it was given, so the header is the newer word.
fn from(headers: &HeaderMap, query: Option<&str>) -> Result<StreamId, Failure> {
    let header = headers.get(LAST_EVENT_ID).map(|v| v.to_str().unwrap_or("?")).filter(|v| !v.is_empty());
    let Some(text) = header.or(query) else {
        return Ok(StreamId::ZERO);
    };
    let name = if header.is_some() { "Last-Event-ID" } else { "from" };
    StreamId::parse(text).map_err(|e| Failure::new(ErrorCode::InvalidParameter, format!("{name}: {e}")))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn the_header_wins_over_the_query() {
        let headers: HeaderMap = [(LAST_EVENT_ID, HeaderValue::from_static("5-1"))].into_iter().collect();
        assert_eq!(from(&headers, Some("1-0")).unwrap(), StreamId { ms: 5, seq: 1 });
        assert_eq!(from(&HeaderMap::new(), Some("1-0")).unwrap(), StreamId { ms: 1, seq: 0 });
        assert_eq!(from(&HeaderMap::new(), None).unwrap(), StreamId::ZERO);
        assert_eq!(from(&HeaderMap::new(), Some("$")).unwrap_err().status(), 400);
    }
}
