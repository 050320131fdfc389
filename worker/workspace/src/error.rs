//! What can go wrong, by what the caller can do about it.

use std::io;

/// Result of this crate.
pub type Result<T, E = WorkspaceError> = std::result::Result<T, E>;

/// Why a call on a workspace or state folder failed.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The workspace cannot be worked on until a person does something about it, which `why` says. The turn
    /// settles `workspace_unusable`, unretried. The tree is left as it is.
    #[error("{why}")]
    Unusable {
        /// What is the matter and what to do, one sentence or two.
        why: String,
    },
    /// A commit was not applied, because it is not this turn's or the branch has moved. The branch is as it was;
    /// the commit, if it is this turn's, is kept on a ref. Report it; trying again changes nothing.
    #[error("commit not applied: {why}")]
    Refused {
        /// Why.
        why: String,
    },
    /// The operating system refused. Worth another attempt; the next one begins with `recover`.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why not.
        source: io::Error,
    },
    /// The object database refused: an object is missing or damaged, or the disk is full.
    #[error("cannot {doing}")]
    Git {
        /// What was being done.
        doing: String,
        /// Why not.
        source: git2::Error,
    },
    /// A file of the state folder is not what this program writes.
    #[error("{file} in the state folder is damaged: {why}")]
    State {
        /// Which file.
        file: &'static str,
        /// Why.
        why: String,
    },
}

impl WorkspaceError {
    /// Whether another attempt can end otherwise without anybody doing something first.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Io { .. })
    }

    /// The error with all its causes, for the turn's `detail`.
    pub fn chain(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            next = cause.source();
        }
        text
    }

    pub(crate) fn unusable(why: impl Into<String>) -> Self {
        Self::Unusable { why: why.into() }
    }

    pub(crate) fn refused(why: impl Into<String>) -> Self {
        Self::Refused { why: why.into() }
    }
}

/// Says what was being done when a system call or libgit2 failed.
pub(crate) trait Doing<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for std::result::Result<T, rustix::io::Errno> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|e| WorkspaceError::Io { doing: what(), source: e.into() })
    }
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| WorkspaceError::Io { doing: what(), source })
    }
}

impl<T> Doing<T> for std::result::Result<T, git2::Error> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| WorkspaceError::Git { doing: what(), source })
    }
}
