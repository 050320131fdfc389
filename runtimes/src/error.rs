//! What can go wrong at the port, by what the caller can do about it.

use std::time::Duration;

use contract::{ErrorCode, Generation, Problem};

/// A call to the runtime failed. Both the [`crate::Runtime`] and the [`crate::RuntimeClient`] speak of it in these words.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Take a generation above `highest` and try again. Nothing was started.
    #[error("the generation is over; the next one must be above {highest}")]
    Stale {
        /// The highest generation that the runtime knows, or the lowest bound that a new one must be above.
        highest: Generation,
    },
    /// There is no such workload: it never was, or it is destroyed.
    #[error("there is no such workload")]
    NotFound,
    /// The call itself is wrong and will be refused again. Nothing was changed.
    #[error("refused: {} ({})", problem.detail.as_deref().unwrap_or_default(), problem.title)]
    Refused {
        /// What is wrong with it.
        problem: Box<Problem>,
    },
    /// Too little is free on the disk: nothing was started, and nothing will be until there is room again.
    #[error("{detail}")]
    NoRoom {
        /// How much is free and how much must be.
        detail: String,
    },
    /// The runtime or its substrate cannot do it now. What the call asked for may have been done in part; every call is
    /// idempotent, so the same one is right again later.
    #[error("{detail}")]
    Unavailable {
        /// Who does not answer and what it said.
        detail: String,
        /// How long to wait before the next attempt.
        retry_after: Duration,
    },
}

impl RuntimeError {
    /// How long to wait before the same call is worth an attempt; none when it never is.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => Some(*retry_after),
            Self::NoRoom { .. } => Some(Duration::from_secs(2)),
            Self::Stale { .. } | Self::NotFound | Self::Refused { .. } => None,
        }
    }

    pub(crate) fn refused(code: ErrorCode, detail: impl Into<String>) -> Self {
        Self::Refused { problem: Box::new(Problem::new(code, detail)) }
    }

    pub(crate) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        let problem = Problem { pointer: Some(pointer.into()), ..Problem::new(ErrorCode::InvalidDocument, detail) };
        Self::Refused { problem: Box::new(problem) }
    }

    pub(crate) fn unavailable(detail: impl Into<String>) -> Self {
        Self::Unavailable { detail: detail.into(), retry_after: Duration::from_secs(1) }
    }
}
