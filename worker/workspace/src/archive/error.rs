//! Why an archive was not written or not read.

use std::io;

/// Why not. Reading leaves nothing behind whichever it is; writing leaves a stream without a trailer, which no reader takes.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The stream ended before its trailer did.
    #[error("the archive is cut short")]
    Cut,
    /// The stream is not one that this program writes. Another attempt with the same bytes ends alike.
    #[error("the archive is refused at entry {entry}: {why}")]
    Refused {
        /// Which entry, from 1; the manifest is none, and before the first it is 0.
        entry: u64,
        /// What is the matter with it.
        why: String,
    },
    /// The stream is of a version that this program does not know.
    #[error("the archive has version {0}; a newer Rekindle wrote it")]
    Version(u32),
    /// There is more than [`ArchiveLimits`](super::ArchiveLimits) allow.
    #[error("more than {most} {what}")]
    TooMuch {
        /// Of what.
        what: &'static str,
        /// The limit.
        most: u64,
    },
    /// A file was written to while it was read: somebody works in the folder. Worth another attempt.
    #[error("`{path}` changed while it was read")]
    Changed {
        /// Relative to the folder; bytes that are not UTF-8 are replaced.
        path: String,
    },
    /// The operating system refused, or one of the streams.
    #[error("cannot {doing}")]
    Io {
        /// What was being done.
        doing: String,
        /// Why not.
        source: io::Error,
    },
}

impl ArchiveError {
    /// Whether another attempt can end otherwise without anybody doing something first.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Cut | Self::Changed { .. } | Self::Io { .. })
    }
}

/// Says what was being done.
pub(super) fn doing<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> ArchiveError {
    move |source| ArchiveError::Io { doing: what.into(), source: source.into() }
}

/// A path for people.
pub(super) fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
