//! What a caller's headers ask for: `Prefer` (RFC 7240), `Idempotency-Key`, `Accept`.

use std::time::Duration;

use contract::ErrorCode;
use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::problem::Failure;

/// Longest wait that may be asked for.
const WAIT_MAX: Duration = Duration::from_secs(3600);
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const PREFER: HeaderName = HeaderName::from_static("prefer");

/// `Preference-Applied` (RFC 7240 §3).
pub const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

/// The preferences that are known here; all others are ignored, as RFC 7240 §2 asks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Preferences {
    /// `respond-async`: answer 202 at once; with `wait=N` only after as long.
    pub respond_async: bool,
    /// `wait=N` seconds, at most an hour.
    pub wait: Option<Duration>,
}

impl Preferences {
    /// Reads all `Prefer` headers. The first mention of a preference counts; one that cannot be read is ignored.
    pub fn of(headers: &HeaderMap) -> Self {
        let mut found = Self::default();
        let lines = headers.get_all(PREFER).iter().filter_map(|v| v.to_str().ok());
        for preference in lines.flat_map(|line| line.split(',')) {
            let word = preference.split(';').next().unwrap_or_default().trim();
            let (name, value) = word.split_once('=').unwrap_or((word, ""));
            match name.trim().to_ascii_lowercase().as_str() {
                "respond-async" => found.respond_async = true,
                "wait" if found.wait.is_none() => {
                    let seconds = value.trim().trim_matches('"').parse().ok();
                    found.wait = seconds.map(|s| Duration::from_secs(s).min(WAIT_MAX));
                }
                _ => {}
            }
        }
        found
    }

    /// `Preference-Applied` for an answer that kept them.
    pub fn applied(&self) -> Option<HeaderValue> {
        let mut applied = Vec::new();
        if self.respond_async {
            applied.push("respond-async".to_owned());
        }
        if let Some(wait) = self.wait {
            applied.push(format!("wait={}", wait.as_secs()));
        }
        (!applied.is_empty()).then(|| HeaderValue::try_from(applied.join(", ")).ok()).flatten()
    }
}

/// The `Idempotency-Key`, if there is one.
///
/// # Errors
/// 400 when it is empty, longer than 255 characters or not made of visible ASCII characters, or given twice.
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    let legal = (1..=255).contains(&key.len()) && key.as_bytes().iter().all(u8::is_ascii_graphic);
    match key.to_str() {
        Ok(key) if legal && keys.next().is_none() => Ok(Some(key.into())),
        _ => Err(Failure::new(
            ErrorCode::InvalidParameter,
            "Idempotency-Key must be given once and be 1 to 255 visible ASCII characters",
        )),
    }
}

/// Whether the caller wants the turn's events as they happen.
pub fn wants_events(headers: &HeaderMap) -> bool {
    let lines = headers.get_all(header::ACCEPT).iter().filter_map(|v| v.to_str().ok());
    lines.flat_map(|line| line.split(',')).any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let is_events = parts.next().is_some_and(|t| t.eq_ignore_ascii_case("text/event-stream"));
        let refused = parts.any(|p| p.strip_prefix("q=").and_then(|q| q.parse::<f32>().ok()) == Some(0.0));
        is_events && !refused
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|v| (name.clone(), HeaderValue::from_str(v).unwrap())).collect()
    }

    fn prefer(values: &[&str]) -> (bool, Option<u64>) {
        let found = Preferences::of(&headers(PREFER, values));
        (found.respond_async, found.wait.map(|w| w.as_secs()))
    }

    #[test]
    fn preferences_are_read_from_all_lines_and_unknown_ones_ignored() {
        assert_eq!(prefer(&[]), (false, None));
        assert_eq!(prefer(&["respond-async"]), (true, None));
        assert_eq!(prefer(&["Respond-Async; x=1, wait=10"]), (true, Some(10)));
        assert_eq!(prefer(&["return=minimal", "wait = \"7\"", "wait=9"]), (false, Some(7)));
        assert_eq!(prefer(&["wait=soon"]), (false, None));
        assert_eq!(prefer(&["wait=-1"]), (false, None));
        assert_eq!(prefer(&["wait=999999"]), (false, Some(3600)));
    }

    #[test]
    fn what_was_kept_is_said() {
        let both = Preferences { respond_async: true, wait: Some(Duration::from_secs(2)) };
        assert_eq!(both.applied().unwrap(), "respond-async, wait=2");
        assert_eq!(Preferences::default().applied(), None);
    }

    #[test]
    fn idempotency_keys_are_visible_and_bounded() {
        let key = |values: &[&str]| idempotency_key(&headers(IDEMPOTENCY_KEY, values));
        assert_eq!(key(&[]).unwrap(), None);
        assert_eq!(key(&["a-1"]).unwrap().as_deref(), Some("a-1"));
        assert!(key(&[&"k".repeat(255)]).is_ok());
        for bad in [vec![""], vec!["a b"], vec!["a", "b"], vec!["\u{e4}"]] {
            assert_eq!(key(&bad).unwrap_err().status(), 400, "{bad:?}");
        }
        assert_eq!(key(&[&"k".repeat(256)]).unwrap_err().status(), 400);
    }

    #[test]
    fn events_are_wanted_only_when_named() {
        let accept = |value| wants_events(&headers(header::ACCEPT, &[value]));
        assert!(accept("text/event-stream"));
        assert!(accept("application/json;q=0.5, Text/Event-Stream;q=0.9"));
        assert!(!accept("text/event-stream;q=0"));
        assert!(!accept("*/*"));
    }
}
