//! Ids of stream entries.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Id of an entry of a Redis stream: Redis' milliseconds and a number within them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct StreamId {
    /// Milliseconds since the epoch.
    pub ms: u64,
    /// Number within the millisecond.
    pub seq: u64,
}

/// Why a text is not a [`StreamId`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an event id is <milliseconds>-<number>")]
pub struct StreamIdError;

impl StreamId {
    /// Before every entry.
    pub const ZERO: Self = Self { ms: 0, seq: 0 };

    /// Parses `<ms>-<seq>`, or `<ms>` for its first.
    ///
    /// # Errors
    /// [`StreamIdError`] when the text has another form.
    pub fn parse(text: &str) -> Result<Self, StreamIdError> {
        let number = |digits: &str| {
            let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
            digits.parse::<u64>().ok().filter(|_| plain).ok_or(StreamIdError)
        };
        let (ms, seq) = text.split_once('-').unwrap_or((text, "0"));
        Ok(Self { ms: number(ms)?, seq: number(seq)? })
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for StreamId {
    type Err = StreamIdError;
    fn from_str(text: &str) -> Result<Self, StreamIdError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for StreamId {
    type Error = StreamIdError;
    fn try_from(text: String) -> Result<Self, StreamIdError> {
        Self::parse(&text)
    }
}

impl From<StreamId> for String {
    fn from(id: StreamId) -> String {
        id.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_order_as_redis_orders_them() {
        let id = |text| StreamId::parse(text).unwrap();
        assert!(id("9-10") < id("10-9"));
        assert!(id("10-9") < id("10-10"));
        assert_eq!(id("7"), StreamId { ms: 7, seq: 0 });
        assert_eq!(id("1790000000000-3").to_string(), "1790000000000-3");
        for bad in ["", "-", "1-", "-1", "+1-0", "$", "1-2-3", "99999999999999999999-0"] {
            assert!(StreamId::parse(bad).is_err(), "{bad}");
        }
    }
}
