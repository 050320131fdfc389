//! Removing everything.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;

use crate::Sys;
use crate::folder::add_mode;
use crate::walk::{Entry, Next, walk_at};

/// Removes what is at a path, with everything in it; nothing there is no error. The way to it is the platform's own and may
/// lead through links. Links below are removed and not followed, and what is not entered is not harmed: somebody who moves
/// things about meanwhile loses what was found, and nothing else. After an error a part may be gone, and the same call goes on.
///
/// # Errors
/// `BUSY` or `XDEV` where something is mounted; `NOTEMPTY` when somebody writes faster than it is removed.
pub fn remove(path: &Path) -> io::Result<()> {
    match split(path) {
        Ok((parent, name)) => Ok(remove_at(parent.as_fd(), &name)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// As [`remove`], of one name in a folder.
///
/// # Errors
/// As of [`remove`].
pub fn remove_at(at: BorrowedFd<'_>, name: &CStr) -> Sys<()> {
    let mut removal = Removal::default();
    let top = Entry { folder: at, name, kind: FileType::Unknown, depth: 0 };
    // Once more when somebody moved folders about, as long as something could be removed at all.
    while removal.visit(&top)? != Next::Past {
        match walk_at(at, name, |entry| removal.visit(entry)) {
            // It was a folder a moment ago.
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The folder that a path lies in, opened, and its last name.
pub(crate) fn split(path: &Path) -> io::Result<(OwnedFd, CString)> {
    let Some(name) = path.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} has no last name", path.display())));
    };
    let parent = path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."));
    let parent = fs::open(parent, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((parent, CString::new(name.as_bytes())?))
}

#[derive(Debug, Default)]
struct Removal {
    /// Since anything was last removed, the walk went into a folder at this depth. Into one that is not below it, it would go
    /// in vain.
    deepest: Option<usize>,
}

impl Removal {
    fn visit(&mut self, entry: &Entry<'_>) -> Sys<Next> {
        match remove_name(entry) {
            Ok(()) | Err(Errno::NOENT) => {
                self.deepest = None;
                Ok(Next::Past)
            }
            Err(Errno::NOTEMPTY | Errno::EXIST) if self.deepest.is_none_or(|deepest| deepest < entry.depth) => {
                self.deepest = Some(entry.depth);
                Ok(Next::IntoAndAgain)
            }
            Err(error) => Err(error),
        }
    }
}

/// Removes a file, or a folder that is empty.
fn remove_name(entry: &Entry<'_>) -> Sys<()> {
    let remove = |flags| match fs::unlinkat(entry.folder, entry.name, flags) {
        // Whoever may write there may have closed the folder that it is in.
        Err(Errno::ACCESS) => {
            add_mode(entry.folder, 0o700)?;
            fs::unlinkat(entry.folder, entry.name, flags)
        }
        removed => removed,
    };
    if entry.kind == FileType::Directory {
        match remove(AtFlags::REMOVEDIR) {
            Err(Errno::NOTDIR) => remove(AtFlags::empty()),
            removed => removed,
        }
    } else {
        match remove(AtFlags::empty()) {
            Err(refused @ (Errno::ISDIR | Errno::PERM)) => match remove(AtFlags::REMOVEDIR) {
                Err(Errno::NOTDIR) => Err(refused),
                removed => removed,
            },
            removed => removed,
        }
    }
}
