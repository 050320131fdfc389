//! Which generations are over, for an hour after they ended.
//!
//! A start job that was delayed must not bring an ended generation back. Tombstones say so for an hour; what is older is
//! refused by its age, because a generation's number is the time of its start in milliseconds or more.

use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use contract::{Generation, Problem, UnitId, WorkloadId};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::files;

/// How long a tombstone is kept, and how old a generation may be that starts.
pub(crate) const KEPT_MS: i64 = 3_600_000;

/// The problem document of a stale generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StaleProblem {
    /// The document's other fields.
    #[serde(flatten)]
    pub problem: Problem,
    /// A new generation must be above this one.
    pub highest: Generation,
}

#[derive(Debug, Serialize, Deserialize)]
struct Tombstone {
    highest: Generation,
    at: Timestamp,
}

/// The folder of tombstones: one file for each unit.
#[derive(Debug)]
pub(crate) struct Tombstones {
    dir: PathBuf,
    /// One writer at a time: the highest must not be overwritten by a lower one. Never held across an await.
    writing: Mutex<()>,
}

impl Tombstones {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, writing: Mutex::new(()) }
    }

    /// Writes down that this generation is over. On an error it is not known to be; the caller must not report success.
    pub fn bury(&self, id: &WorkloadId, now: Timestamp) -> io::Result<()> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.read(&id.uid)?.map(|t| t.highest);
        let highest = known.map_or(id.generation, |k| k.max(id.generation));
        let text = serde_json::to_vec(&Tombstone { highest, at: now })?;
        files::write_durably(&self.dir, id.uid.as_str(), &text)
    }

    /// Whether a generation that is not alive may start now.
    ///
    /// # Errors
    /// The inner error is the generation that a new one must be above.
    pub fn admit(&self, id: &WorkloadId, now: Timestamp) -> io::Result<Result<(), Generation>> {
        let known = self.read(&id.uid)?.map(|t| t.highest);
        if let Some(highest) = known.filter(|k| *k >= id.generation) {
            return Ok(Err(highest));
        }
        let now_ms = now.as_millisecond();
        let started = i64::try_from(id.generation.0).unwrap_or(i64::MAX);
        if started < now_ms - KEPT_MS {
            // Whatever is known of it has been forgotten by now. The bound lets the next one through.
            let bound = Generation(now_ms.unsigned_abs());
            return Ok(Err(known.map_or(bound, |k| k.max(bound))));
        }
        Ok(Ok(()))
    }

    /// Forgets what is older than an hour.
    pub fn sweep(&self, now: Timestamp) -> io::Result<()> {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        for entry in std::fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let Some(uid) = name.to_str().and_then(|n| UnitId::parse(n).ok()) else { continue };
            if let Some(tombstone) = self.read(&uid)?
                && tombstone.at.as_millisecond() < now.as_millisecond() - KEPT_MS
            {
                files::remove_if_there(&self.dir.join(name))?;
            }
        }
        Ok(())
    }

    fn read(&self, uid: &UnitId) -> io::Result<Option<Tombstone>> {
        match files::read_if_there(&self.dir.join(uid.as_str()))? {
            Some(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::other),
            None => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(generation: i64) -> WorkloadId {
        WorkloadId {
            uid: UnitId::parse("uabcdefghijklmnopqrstuvwx2").unwrap(),
            generation: Generation(generation as u64),
        }
    }

    #[test]
    fn ended_lower_and_old_generations_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let tombstones = Tombstones::new(dir.path().into());
        let now = Timestamp::from_millisecond(1_790_000_000_000).unwrap();
        let ms = now.as_millisecond();
        assert_eq!(tombstones.admit(&id(ms), now).unwrap(), Ok(()));
        tombstones.bury(&id(ms), now).unwrap();
        assert_eq!(tombstones.admit(&id(ms), now).unwrap(), Err(Generation(ms as u64)));
        assert_eq!(tombstones.admit(&id(ms - 1), now).unwrap(), Err(Generation(ms as u64)));
        assert_eq!(tombstones.admit(&id(ms + 1), now).unwrap(), Ok(()));
        // A lower one that ends later does not lower what is known.
        tombstones.bury(&id(ms - 5), now).unwrap();
        assert_eq!(tombstones.admit(&id(ms), now).unwrap(), Err(Generation(ms as u64)));
        // An hour later the tombstone may go, and age alone refuses it.
        let later = Timestamp::from_millisecond(ms + KEPT_MS + 1).unwrap();
        tombstones.sweep(later).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        let Err(bound) = tombstones.admit(&id(ms), later).unwrap() else { panic!("an old generation may start") };
        assert_eq!(tombstones.admit(&id(bound.0 as i64 + 1), later).unwrap(), Ok(()));
    }
}
