//! Disk that is kept for the private Redis, in pieces.
//!
//! A Redis that syncs always ends itself when the disk is full: it could not keep what it has answered. So a file of the
//! reserve's size lies beside its own. When next to nothing is free any more, a piece of that file is given back to the disk,
//! and Redis, which the supervisor starts again if need be, has room for settlements and for saying what turns wait for.
//! Others may take that room as well, hence pieces, one after the other: each is time in which the runtime's floor
//! (`runtime.min_free_mb`) ends the heaviest writers. When there is room, the pieces are taken back.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate, fstatvfs};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::services::say;

const MIB: u64 = 1 << 20;
/// A piece is such a part of the reserve.
const PIECES: u64 = 8;
/// With less free than this, Redis may fail at any moment.
const LOW_BYTES: u64 = 4 * MIB;
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between two pieces that are given.
const GIVE_EVERY: Duration = Duration::from_secs(3);

/// The file, and how much of the disk it holds.
#[derive(Debug)]
pub struct Reserve {
    file: File,
    path: PathBuf,
    size: u64,
    held: u64,
    given: Option<Instant>,
}

/// What a look at the disk calls for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Give,
    Take,
    Rest,
}

fn step(free: u64, held: u64, size: u64) -> Step {
    if free < LOW_BYTES && held > 0 {
        return Step::Give;
    }
    // As much as the whole reserve stays free, so that nothing is given back at once.
    let comfortable = free >= piece(size) + size.max(2 * LOW_BYTES);
    if held < size && comfortable { Step::Take } else { Step::Rest }
}

fn piece(size: u64) -> u64 {
    (size / PIECES).max(MIB)
}

impl Reserve {
    /// Fills it as far as there is room. What an earlier supervisor held is held on.
    ///
    /// # Errors
    /// When the file cannot be made, or the filesystem cannot set room aside.
    pub fn open(folder: &Path, size_mb: u64) -> io::Result<Self> {
        let path = folder.join("reserve");
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let metadata = file.metadata()?;
        // A copy of it may have holes.
        let held = if metadata.blocks() * 512 < metadata.len() { 0 } else { metadata.len() };
        let mut reserve = Self { file, path, size: size_mb * MIB, held, given: None };
        reserve.shrink(held.min(reserve.size))?;
        reserve.look()?;
        if reserve.held < reserve.size {
            say(&format!("the disk has no room for the whole reserve of the ledger: {reserve}"));
        }
        Ok(reserve)
    }

    /// Looks after it until `cancel`; the file stays, so that nobody else takes the room meanwhile.
    pub async fn keep(mut self, cancel: CancellationToken) {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failed = false;
        while cancel.run_until_cancelled(look.tick()).await.is_some() {
            let before = self.held;
            // A few system calls on a local disk.
            let looked = self.look();
            match &looked {
                Err(e) if !failed => say(&format!("the ledger's reserve cannot be looked after: {e}: {self}")),
                Ok(()) if self.held < before && (before == self.size || self.held == 0) => {
                    say(&format!("the disk of the ledger is full; make room on it. Of its reserve is left: {self}"));
                }
                Ok(()) if self.held > before && self.held == self.size => {
                    say(&format!("the disk of the ledger has room again: {self}"));
                }
                Ok(()) | Err(_) => {}
            }
            failed = looked.is_err();
        }
    }

    /// Gives one piece, or takes as many as there is room for.
    fn look(&mut self) -> io::Result<()> {
        loop {
            let stat = fstatvfs(&self.file)?;
            match step(stat.f_bavail * stat.f_frsize, self.held, self.size) {
                Step::Rest => return Ok(()),
                Step::Give if self.given.is_some_and(|at| at.elapsed() < GIVE_EVERY) => return Ok(()),
                Step::Give => {
                    self.given = Some(Instant::now());
                    return self.shrink(self.held.saturating_sub(piece(self.size)));
                }
                Step::Take => {
                    let more = piece(self.size).min(self.size - self.held);
                    fallocate(&self.file, FallocateFlags::empty(), self.held, more)?;
                    self.held += more;
                }
            }
        }
    }

    fn shrink(&mut self, to: u64) -> io::Result<()> {
        self.file.set_len(to)?;
        self.held = to;
        // Some filesystems free what was cut off only when that is on the disk.
        self.file.sync_all()
    }
}

impl std::fmt::Display for Reserve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} MiB (redis.reserve_mb) in {}", self.held / MIB, self.size / MIB, self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_given_when_next_to_nothing_is_free_and_taken_back_when_much_is() {
        let (size, half) = (64 * MIB, 32 * MIB);
        assert_eq!(step(LOW_BYTES - 1, size, size), Step::Give);
        assert_eq!(step(0, half, size), Step::Give);
        assert_eq!(step(0, 0, size), Step::Rest);
        assert_eq!(step(LOW_BYTES, half, size), Step::Rest);
        assert_eq!(step(size + piece(size) - 1, half, size), Step::Rest);
        assert_eq!(step(size + piece(size), half, size), Step::Take);
        assert_eq!(step(u64::MAX, size, size), Step::Rest);
        // What was taken is not given back at once, however small the reserve is.
        for size in [MIB, 3 * MIB, size] {
            let least = piece(size) + size.max(2 * LOW_BYTES);
            assert_eq!(step(least, 0, size), Step::Take);
            assert_eq!(step(least - piece(size), piece(size), size), Step::Rest);
        }
    }

    #[test]
    fn it_is_real_room_and_follows_the_setting() {
        let folder = tempfile::tempdir().unwrap();
        let on_disk = || folder.path().join("reserve").metadata().unwrap();
        for mb in [9, 3, 5] {
            let reserve = Reserve::open(folder.path(), mb).unwrap();
            assert_eq!((reserve.held, on_disk().len()), (mb * MIB, mb * MIB));
            assert!(on_disk().blocks() * 512 >= mb * MIB);
        }
        // A file of that length without the room is none.
        let hollow = File::create(folder.path().join("reserve")).unwrap();
        hollow.set_len(5 * MIB).unwrap();
        Reserve::open(folder.path(), 5).unwrap();
        assert!(on_disk().blocks() * 512 >= 5 * MIB);
    }
}
