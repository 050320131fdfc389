//! Looking at everything below a folder.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, FileType, RawDir, Stat};
use rustix::io::Errno;

use crate::Sys;
use crate::folder::add_mode;
use crate::place::{Back, Place, is_elsewhere};
use crate::remove::split;

/// Bytes of one reading of a folder. Entries have at most 280.
const READING: usize = 32 << 10;

/// A name in a folder.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The folder.
    pub folder: BorrowedFd<'a>,
    /// One name, never `.` or `..`.
    pub name: &'a CStr,
    /// What the folder says that it is; [`FileType::Unknown`] where the file system does not keep that there.
    pub kind: FileType,
    /// Folders on the way here, the top included.
    pub depth: usize,
}

impl Entry<'_> {
    /// What is there now; a link is looked at itself.
    ///
    /// # Errors
    /// `NOENT` when nothing is there any more.
    pub fn stat(&self) -> Sys<Stat> {
        let look = || fs::statat(self.folder, self.name, AtFlags::SYMLINK_NOFOLLOW);
        match look() {
            // Whoever writes there has closed it meanwhile.
            Err(Errno::ACCESS) => add_mode(self.folder, 0o700).and_then(|()| look()),
            looked => looked,
        }
    }
}

/// What is done after an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Go on behind it.
    Past,
    /// Look at what is in this folder, then go on behind it. One that is none any more, that may not be read or on which
    /// another file system is mounted is passed over.
    Into,
    /// Look at what is in this folder, and then at the same entry once more. One that cannot be opened is an error.
    IntoAndAgain,
    /// Look at nothing more.
    End,
}

/// How a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Walked {
    /// Everything was looked at that was there all the time. Otherwise it was ended, something could not be opened, or
    /// folders were moved about meanwhile.
    pub whole: bool,
}

/// Looks at everything below the folder `top`, which may be neither link nor file, in no particular order. Others may be writing
/// to it meanwhile: what is moved may be seen twice or not at all, and nothing is seen that was not in one of these folders.
/// Folders that are closed to their owner, who is us, are opened up. What is mounted below is not entered.
///
/// # Errors
/// Of the visitor; of opening `top`; of reading a folder. They end the walk.
pub fn walk(top: &Path, visit: impl FnMut(&Entry<'_>) -> Sys<Next>) -> io::Result<Walked> {
    let (parent, name) = split(top)?;
    Ok(walk_at(parent.as_fd(), &name, visit)?)
}

/// As [`walk`], below a folder with this one name.
///
/// # Errors
/// As of [`walk`].
pub fn walk_at(at: BorrowedFd<'_>, top: &CStr, visit: impl FnMut(&Entry<'_>) -> Sys<Next>) -> Sys<Walked> {
    walk_from(Place::top(at, top)?, visit)
}

fn walk_from(mut place: Place, mut visit: impl FnMut(&Entry<'_>) -> Sys<Next>) -> Sys<Walked> {
    let mut buffer = Vec::with_capacity(READING);
    let mut walked = Walked { whole: true };
    loop {
        match look(&mut place, &mut buffer, &mut visit)? {
            Seen::All => match place.out()? {
                Back::Up => {}
                Back::Lost => walked.whole = false,
                Back::Out => return Ok(walked),
            },
            Seen::Some => {}
            Seen::Closed => walked.whole = false,
            Seen::End => return Ok(Walked { whole: false }),
        }
    }
}

/// What came of reading on in a folder.
enum Seen {
    /// To its end.
    All,
    /// To an entry, into which the walk has gone if it could: there is more to look at.
    Some,
    /// To an entry that cannot be gone into.
    Closed,
    /// The visitor has seen enough.
    End,
}

fn look(place: &mut Place, buffer: &mut Vec<u8>, visit: &mut impl FnMut(&Entry<'_>) -> Sys<Next>) -> Sys<Seen> {
    let depth = place.depth() + 1;
    let folder = place.folder()?;
    let mut position = None;
    let mut entries = RawDir::new(folder, buffer.spare_capacity_mut());
    let (name, next, before, behind) = loop {
        let entry = match entries.next() {
            None | Some(Err(Errno::NOENT)) => return Ok(Seen::All),
            Some(entry) => entry?,
        };
        let behind = entry.next_entry_cookie();
        let before = position.replace(behind);
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match visit(&Entry { folder, name, kind: entry.file_type(), depth })? {
            Next::Past => {}
            Next::End => return Ok(Seen::End),
            next => break (name.to_owned(), next, before, behind),
        }
    };
    // Before the first entry of this reading is where it began.
    match (next, before) {
        (Next::IntoAndAgain, Some(before)) => place.resume_at(before),
        (Next::IntoAndAgain, None) => {}
        _ => place.resume_at(behind),
    }
    match place.into(&name) {
        Ok(()) => Ok(Seen::Some),
        // It was there a moment ago, and is something else by now: seen again, if that was asked for.
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(Seen::Some),
        Err(error) if next == Next::Into && is_elsewhere(error) => {
            Ok(if error == Errno::XDEV { Seen::Some } else { Seen::Closed })
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::AtFlags;

    use super::*;

    /// More folders than are remembered: a removal goes down several times, another walk says that it is not whole.
    #[test]
    fn deeper_than_is_remembered() {
        let dir = tempfile::tempdir().unwrap();
        let top = dir.path().join("top");
        std::fs::create_dir_all(top.join(["d"; 200].join("/"))).unwrap();
        let (parent, name) = split(&top).unwrap();
        let place = || Place::remembering(parent.as_fd(), &name, 30).unwrap();
        let mut seen = 0;
        let walked = walk_from(place(), |_| {
            seen += 1;
            Ok(Next::Into)
        });
        assert_eq!((seen, walked.unwrap().whole), (200, false));
        let walked = walk_from(place(), |entry| match fs::unlinkat(entry.folder, entry.name, AtFlags::REMOVEDIR) {
            Err(Errno::NOTEMPTY) => Ok(Next::IntoAndAgain),
            removed => removed.map(|()| Next::Past),
        });
        assert!(!walked.unwrap().whole);
        assert_eq!(std::fs::read_dir(&top).unwrap().count(), 0);
    }
}
