//! A unit's folder as one stream of bytes, and back: what a snapshot is made of.
//!
//! The stream is a POSIX tar archive (ustar, with a pax header where a name is longer than 100 bytes), so any `tar` can look
//! into one. The reader takes far less than tar allows: it is what stands between a store that somebody may have written to
//! and a unit's folder.
//!
//! ```text
//! rekindle-archive.json        format, version, the hash's name
//! workspace  workspace/…       folders before what is in them, names in byte order: equal trees give equal bytes
//! state      state/…
//! rekindle-archive-end.json    how many entries and bytes these were, SHA-256 of every byte before this entry
//! two blocks of zeros          and nothing behind them
//! ```
//!
//! Stored are files, folders and links (as links, never followed), the permission bits without set-uid, set-gid and sticky,
//! and the times of files in seconds. Not stored are owners (all workers of a deployment have one uid), extended attributes,
//! holes, and that two names are one file. There is no compression in it: whoever stores it may compress around it, and no
//! decompressor stands before the bounds. The hash finds damage and a cut; that nobody forged the stream is the store's to
//! say, which is why the reader trusts none of it.

mod entry;
mod error;
mod read;
mod write;

pub use error::ArchiveError;
pub use read::{Restored, read};
pub use write::{LeftOut, Written, write};

/// What an archive may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveLimits {
    /// Most bytes in all files together.
    pub max_bytes: u64,
    /// Most files, folders and links.
    pub max_entries: u64,
    /// Deepest folder, `workspace` being the first.
    pub max_depth: usize,
}

impl Default for ArchiveLimits {
    /// Room for a workspace at its own [`Limits`](crate::Limits), its history and its state.
    fn default() -> Self {
        Self { max_bytes: 32 << 30, max_entries: 4_000_000, max_depth: 140 }
    }
}

/// The folders that are a unit; nothing else beside them is stored or taken.
const PARTS: [&[u8]; 2] = [b"workspace", b"state"];

const MANIFEST: &[u8] = b"rekindle-archive.json";
const TRAILER: &[u8] = b"rekindle-archive-end.json";
/// Most bytes of either.
const MAX_NOTE_BYTES: u64 = 4096;

/// The first entry.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
struct Manifest {
    format: String,
    version: u32,
    hash: String,
}

impl Manifest {
    const VERSION: u32 = 1;

    fn current() -> Self {
        Self { format: "rekindle-archive".into(), version: Self::VERSION, hash: "sha256".into() }
    }
}

/// The last entry.
#[derive(Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Trailer {
    entries: u64,
    bytes: u64,
    sha256: String,
}

impl Trailer {
    fn empty() -> Self {
        Self { entries: 0, bytes: 0, sha256: String::new() }
    }

    /// Counts an entry in; an error beyond the limits.
    fn count(&mut self, bytes: u64, limits: &ArchiveLimits) -> Result<(), ArchiveError> {
        self.entries += 1;
        self.bytes = self.bytes.saturating_add(bytes);
        if self.entries > limits.max_entries {
            return Err(ArchiveError::TooMuch { what: "entries", most: limits.max_entries });
        }
        if self.bytes > limits.max_bytes {
            return Err(ArchiveError::TooMuch { what: "bytes", most: limits.max_bytes });
        }
        Ok(())
    }
}

/// What ends a tar stream, and fills blocks.
const BLOCKS_OF_ZEROS: [u8; 2 * entry::BLOCK] = [0; 2 * entry::BLOCK];
