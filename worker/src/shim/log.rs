//! What the program prints, bounded: the last of it is kept, and the disk is not filled by somebody else's program.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::pipe::{PipeFlags, pipe_with};

use super::files::LOG;

/// Of the last that was printed, this much is always there.
const KEPT_BYTES: u64 = 64 << 10;
/// From this length on the file is cut to the last [`KEPT_BYTES`].
const CUT_AT_BYTES: u64 = 2 * KEPT_BYTES;
/// What may still lie in the pipe when the program has ended, and more: whoever goes on writing then is not listened to.
const REST_BYTES: u64 = 1 << 20;

/// The program's output, on its way into the file.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    length: u64,
    from: OwnedFd,
    /// Somebody may still write.
    open: bool,
}

/// The file itself, for what the shim says of its own.
pub(super) fn file(dir: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(dir.join(LOG))
}

impl Log {
    /// The log, and the end that the program writes to.
    pub fn open(dir: &Path) -> io::Result<(Self, OwnedFd)> {
        // Only our end: what the program gets must block, as it would on a file.
        let (from, to) = pipe_with(PipeFlags::CLOEXEC)?;
        rustix::io::ioctl_fionbio(&from, true)?;
        let file = file(dir)?;
        let length = file.metadata()?.len();
        Ok((Self { path: dir.join(LOG), file, length, from, open: true }, to))
    }

    /// What becomes readable when there is something to copy; none when nothing will come any more.
    pub fn waits_for(&self) -> Option<BorrowedFd<'_>> {
        self.open.then(|| self.from.as_fd())
    }

    /// Copies what is there, at most one pipe full. Returns how much.
    pub fn copy(&mut self) -> u64 {
        let mut buffer = [0; 16 << 10];
        match rustix::io::read(&self.from, &mut buffer) {
            Ok(0) => self.open = false,
            Ok(n) => {
                // A full disk costs the log and nothing else.
                if self.file.write_all(&buffer[..n]).is_ok() {
                    self.length += n as u64;
                }
                if self.length >= CUT_AT_BYTES && self.cut().is_err() {
                    // Better none than one that grows.
                    let _ = self.file.set_len(0);
                    self.length = 0;
                }
                return n as u64;
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(_) => self.open = false,
        }
        0
    }

    /// Copies what the program has left behind.
    pub fn finish(mut self) {
        let mut copied = 0;
        while copied < REST_BYTES {
            match self.copy() {
                0 => return,
                n => copied += n,
            }
        }
    }

    /// By rename, so that a reader has the old file or the new one.
    fn cut(&mut self) -> io::Result<()> {
        let fresh = self.path.with_extension("new");
        let mut kept = Vec::new();
        let mut old = File::open(&self.path)?;
        old.seek(SeekFrom::End(-(KEPT_BYTES as i64)))?;
        old.take(KEPT_BYTES).read_to_end(&mut kept)?;
        fs::write(&fresh, &kept)?;
        fs::rename(&fresh, &self.path)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        self.length = kept.len() as u64;
        Ok(())
    }
}
