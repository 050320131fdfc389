//! What lies in the store and belongs to nothing that is; whoever knows what is over removes it.

use std::io;

use contract::{ErrorCode, WorkloadId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::error::RuntimeError;
use crate::runtime::Runtime;

/// Entries of the trash that one answer names at most; the next one names others once these are gone.
const TRASH_MOST: usize = 1000;

/// `GET /leftovers`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leftovers {
    /// Generations that have a folder and are no workload: it cannot be read, or a start is just about to be known.
    pub folders: Vec<WorkloadId>,
    /// What was erased, the oldest first.
    pub trash: Vec<TrashEntry>,
}

/// Something that was erased.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrashEntry {
    /// Its name in the trash.
    pub id: String,
    /// Seconds since it was erased, by this machine's clock.
    pub age_sec: u64,
}

impl Runtime {
    /// What is left over.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] when the store cannot be read, or before the substrate was looked at.
    pub async fn leftovers(&self) -> Result<Leftovers, RuntimeError> {
        let inner = &self.inner;
        inner.when_ready().await?;
        let mut folders = Vec::new();
        for id in inner.store.generations().map_err(unreadable)? {
            if inner.table.get(&id).await.is_none() {
                folders.push(id);
            }
        }
        let now = Timestamp::now().as_millisecond().unsigned_abs();
        let mut entries = inner.store.trash_entries().map_err(unreadable)?;
        entries.sort_unstable();
        entries.truncate(TRASH_MOST);
        let entry =
            |(id, at): (ulid::Ulid, u64)| TrashEntry { id: id.to_string(), age_sec: now.saturating_sub(at) / 1000 };
        Ok(Leftovers { folders, trash: entries.into_iter().map(entry).collect() })
    }

    /// Removes an entry of the trash for ever; idempotent. It is seen through when the caller does not wait for it.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`] when that is no name of one; [`RuntimeError::Unavailable`] when a part of it is left.
    pub async fn remove_trash(&self, id: &str) -> Result<(), RuntimeError> {
        let Ok(id) = ulid::Ulid::from_string(id) else {
            return Err(RuntimeError::refused(ErrorCode::InvalidParameter, "an entry of the trash has a ULID's name"));
        };
        let inner = self.inner.clone();
        let removing = tokio::task::spawn_blocking(move || inner.store.remove_trash(id));
        let removed = removing.await.map_err(io::Error::other).and_then(|result| result);
        removed.map_err(|e| RuntimeError::unavailable(format!("cannot remove {id} from the trash: {e}")))
    }
}

fn unreadable(error: io::Error) -> RuntimeError {
    RuntimeError::unavailable(format!("cannot read the store: {error}"))
}
