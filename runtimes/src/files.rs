//! Small files that are there whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Replaces `dir/name` (mode 0600) by one rename. What a reader sees after a crash of this process is the old or the new
/// text; after a loss of power it may also be nothing.
pub(crate) fn write_atomically(dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    write(dir, name, text, false)
}

/// As [`write_atomically`], and it has reached the disk when this returns.
pub(crate) fn write_durably(dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    write(dir, name, text, true)?;
    File::open(dir)?.sync_all()
}

fn write(dir: &Path, name: &str, text: &[u8], durable: bool) -> io::Result<()> {
    // A name of its own for each writer, so that two of them never share a half-written file.
    static WRITES: AtomicU64 = AtomicU64::new(0);
    let temporary = dir.join(format!(".{name}.{}.new", WRITES.fetch_add(1, Ordering::Relaxed)));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text)?;
    if durable {
        file.sync_all()?;
    }
    std::fs::rename(&temporary, dir.join(name))
}

/// Longer than any file that the runtime keeps. Without isolation a workload may write to them.
const MOST_BYTES: usize = 16 << 20;

/// The file's text; none when there is no such file.
pub(crate) fn read_if_there(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match untrusted::read_file(path, MOST_BYTES) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Removes a file; one that is not there is no error.
pub(crate) fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

/// The last lines of a text file that may be long, at most 2,000 bytes of them.
pub(crate) fn tail(path: &Path) -> Option<String> {
    let bytes = untrusted::read_tail(path, 2000).ok()?;
    let text = String::from_utf8_lossy(&bytes).trim().to_owned();
    (!text.is_empty()).then_some(text)
}
