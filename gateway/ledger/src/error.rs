//! What can go wrong, by what the caller can do about it.

use std::time::Duration;

/// A result of the ledger.
pub type Result<T> = std::result::Result<T, LedgerError>;

/// Why the ledger could not answer.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Redis is gone, loading, or a replica. What was asked for has been done completely or not at all; ask
    /// again: every transition may be repeated.
    #[error("the ledger does not answer: {why}")]
    Unavailable {
        /// In one line.
        why: String,
        /// Redis' own word, if it had one.
        #[source]
        source: Option<redis::RedisError>,
    },
    /// Redis has reached its `maxmemory`: what would begin something is refused, what was accepted goes on. Nothing was changed.
    #[error("the ledger is full: Redis has reached its maxmemory")]
    Full(#[source] redis::RedisError),
    /// What lies under a key is not what this build writes there. Nothing was changed.
    #[error("{key} is corrupt: {why}")]
    Corrupt {
        /// The Redis key.
        key: String,
        /// What is wrong with it.
        why: String,
    },
    /// The configuration cannot work: an address that cannot be parsed, a password that is refused. Needs a person.
    #[error("the ledger is misconfigured: {why}")]
    Misconfigured {
        /// What to change.
        why: String,
        /// Redis' own word, if it had one.
        #[source]
        source: Option<redis::RedisError>,
    },
    /// Redis refused a command or a script failed: a bug here, or a server that is too old. Retrying does not help.
    #[error("the ledger's command was refused")]
    Refused(#[source] redis::RedisError),
}

impl LedgerError {
    /// After how long it is worth another try; `None` when it is not.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { .. } => Some(Duration::from_secs(1)),
            Self::Full(_) => Some(Duration::from_secs(5)),
            _ => None,
        }
    }

    pub(crate) fn corrupt(key: impl Into<String>, why: impl ToString) -> Self {
        Self::Corrupt { key: key.into(), why: why.to_string() }
    }

    pub(crate) fn timed_out() -> Self {
        Self::Unavailable { why: "no answer within the bound".into(), source: None }
    }
}

impl From<redis::RedisError> for LedgerError {
    fn from(error: redis::RedisError) -> Self {
        use redis::{ErrorKind, ServerErrorKind};
        let code = error.code().unwrap_or_default();
        let passing =
            matches!(code, "LOADING" | "READONLY" | "MASTERDOWN" | "TRYAGAIN" | "MISCONF" | "BUSY" | "NOREPLICAS");
        match error.kind() {
            ErrorKind::AuthenticationFailed => Self::Misconfigured {
                why: "Redis refused the password (redis.password_file)".into(),
                source: Some(error),
            },
            ErrorKind::InvalidClientConfig => {
                Self::Misconfigured { why: "redis.url cannot be used".into(), source: Some(error) }
            }
            ErrorKind::Io | ErrorKind::Server(ServerErrorKind::BusyLoading | ServerErrorKind::TryAgain) => {
                Self::Unavailable { why: "the connection to Redis failed".into(), source: Some(error) }
            }
            _ if code == "OOM" || error.to_string().contains("OOM command not allowed") => Self::Full(error),
            _ if passing => Self::Unavailable { why: format!("Redis answers {code}"), source: Some(error) },
            _ => Self::Refused(error),
        }
    }
}
