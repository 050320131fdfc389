//! Opening a folder that belongs to somebody else.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::Sys;

const FOLDER: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Opens a folder for reading without following a link. One that is closed to its owner, who is us, is opened up first, and
/// stays so.
///
/// # Errors
/// `LOOP` or `NOTDIR` when it is a link or no folder, and whatever openat(2) says.
pub fn open_folder_at(at: BorrowedFd<'_>, name: impl Arg + Copy) -> Sys<OwnedFd> {
    accessible(at, name, || fs::openat(at, name, FOLDER, Mode::empty()))
}

/// As [`open_folder_at`], of one name, and not across a mount (`XDEV`).
pub(crate) fn open_folder_here(at: BorrowedFd<'_>, name: impl Arg + Copy) -> Sys<OwnedFd> {
    accessible(at, name, || open_here(at, name))
}

/// As [`open_folder_here`], as it is.
pub(crate) fn open_here(at: BorrowedFd<'_>, name: impl Arg + Copy) -> Sys<OwnedFd> {
    match fs::openat2(at, name, FOLDER, Mode::empty(), ResolveFlags::NO_XDEV) {
        // Kernels before 5.6, and sandboxes that do not know it. What is mounted has another device there, mostly.
        Err(Errno::NOSYS | Errno::PERM) => {
            let folder = fs::openat(at, name, FOLDER, Mode::empty())?;
            if fs::fstat(&folder)?.st_dev == fs::fstat(at)?.st_dev { Ok(folder) } else { Err(Errno::XDEV) }
        }
        opened => opened,
    }
}

fn accessible(at: BorrowedFd<'_>, name: impl Arg + Copy, open: impl Fn() -> Sys<OwnedFd>) -> Sys<OwnedFd> {
    match open() {
        Err(Errno::ACCESS) => {
            // Either may be closed. Whoever made the one that it lies in read-only may have meant it.
            let _ = add_mode(at, 0o500);
            make_accessible(at, name, 0o700)?;
            open()
        }
        opened => opened,
    }
}

/// Adds permission bits to the file or folder at a name. The kernel is asked about the very file that was looked at.
///
/// # Errors
/// `LOOP` when it is a link; `PERM` when it is somebody else's.
pub fn make_accessible(at: BorrowedFd<'_>, name: impl Arg, bits: u32) -> Sys<()> {
    let file = fs::openat(at, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    add_mode(file.as_fd(), bits)
}

/// Adds permission bits to what is open, if only as a place.
pub(crate) fn add_mode(file: BorrowedFd<'_>, bits: u32) -> Sys<()> {
    let stat = fs::fstat(file)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    if stat.st_mode & bits == bits {
        return Ok(());
    }
    // fchmod(2) takes no O_PATH descriptor.
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    fs::chmod(path, Mode::from_raw_mode((stat.st_mode & 0o7777) | bits))
}
