//! A folder, opened: every access below it goes component by component and follows no link, so that a folder
//! which was replaced by a link leads nowhere.

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
pub(crate) use untrusted::make_accessible;

type Sys<T> = rustix::io::Result<T>;

/// Scratch folder of this crate inside the repository, on the same file system as the tree.
pub(crate) const SCRATCH: &[u8] = b".git/rekindle";

/// What tells whether a file has moved since it was last read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StatKey {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub ctime_ns: i64,
    pub mtime_ns: i64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

impl StatKey {
    #[allow(clippy::unnecessary_cast, reason = "the widths differ between architectures")]
    pub fn of(stat: &Stat) -> Self {
        let ns = |sec: i64, nsec: i64| sec.saturating_mul(1_000_000_000).saturating_add(nsec);
        Self {
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: stat.st_size as u64,
            ctime_ns: ns(stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            mtime_ns: ns(stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            mode: stat.st_mode as u32,
            uid: stat.st_uid,
            gid: stat.st_gid,
        }
    }

    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }
}

/// A folder.
#[derive(Debug)]
pub(crate) struct Root {
    fd: OwnedFd,
    pub dev: u64,
}

impl Root {
    /// Opens the folder itself; its own path may lead through links, since the platform gave it.
    pub fn open(path: &Path) -> Sys<Self> {
        let open = || fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let fd = match open() {
            // An agent may have closed its own workspace.
            Err(Errno::ACCESS) => make_accessible(fs::CWD, path, 0o700).and_then(|()| open())?,
            opened => opened?,
        };
        let dev = StatKey::of(&fs::fstat(&fd)?).dev;
        Ok(Self { fd, dev })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// Opens a folder below.
    pub fn dir(&self, path: &[u8]) -> Sys<OwnedFd> {
        let mut at = open_dir_at(self.fd(), b".")?;
        for name in components(path) {
            at = open_dir_at(at.as_fd(), name)?;
        }
        Ok(at)
    }

    /// Opens a folder below, making what is missing. A file or link in the way is removed. The folder itself is not
    /// made writable: who closed it to the worker may have meant it.
    pub fn make_dir(&self, path: &[u8]) -> Sys<OwnedFd> {
        let mut at = open_dir_at(self.fd(), b".")?;
        for (depth, name) in components(path).enumerate() {
            at = match open_dir_at(at.as_fd(), name) {
                Ok(fd) => fd,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                    match make_dir_at(&at, name) {
                        Err(Errno::ACCESS) if depth > 0 => {
                            make_accessible(at.as_fd(), c".", 0o700)?;
                            make_dir_at(&at, name)?;
                        }
                        made => made?,
                    }
                    open_dir_at(at.as_fd(), name)?
                }
                Err(e) => return Err(e),
            };
        }
        Ok(at)
    }

    /// What is at a path; `None` when nothing is, or a parent is not a folder.
    pub fn stat(&self, path: &[u8]) -> Sys<Option<StatKey>> {
        let (parent, name) = split(path);
        let looked = self.dir(parent).and_then(|dir| fs::statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW));
        match looked {
            Ok(stat) => Ok(Some(StatKey::of(&stat))),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Reads a regular file of at most `max` bytes; `None` when there is none.
    pub fn read(&self, path: &[u8], max: u64) -> io::Result<Option<Vec<u8>>> {
        let (parent, name) = split(path);
        let dir = match self.dir(parent) {
            Ok(dir) => dir,
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(e.into()),
        };
        match read_at(dir.as_fd(), name, max) {
            Ok((_, Some(bytes))) => Ok(Some(bytes)),
            Ok((_, None)) => Err(io::Error::other(format!("larger than {max} bytes"))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Puts a file in place, whole and durable: temporary file, fsync, rename, fsync of the folder.
    pub fn write_durable(&self, path: &[u8], content: &[u8], mode: u32) -> io::Result<()> {
        let dir = self.put(path, |scratch, name| make_file(scratch, name, content, mode)?.sync_all())?;
        Ok(fs::fsync(dir)?)
    }

    /// Puts a file in place, whole; it becomes durable when the kernel sees fit.
    pub fn write(&self, path: &[u8], content: &[u8], mode: u32) -> io::Result<()> {
        self.put(path, |scratch, name| make_file(scratch, name, content, mode).map(drop)).map(drop)
    }

    /// Puts a link in place.
    pub fn write_link(&self, path: &[u8], target: &[u8]) -> io::Result<()> {
        self.put(path, |scratch, name| Ok(fs::symlinkat(target, scratch, name)?)).map(drop)
    }

    /// The time as this file system stamps it, which may be another machine's, in nanoseconds.
    pub fn now_ns(&self) -> io::Result<i64> {
        const CLOCK: &[u8] = b"clock";
        let scratch = self.scratch()?;
        remove_at(scratch.as_fd(), CLOCK)?;
        let file = make_file(&scratch, CLOCK, b"", 0o600)?;
        Ok(StatKey::of(&fs::fstat(&file)?).ctime_ns)
    }

    fn put(&self, path: &[u8], make: impl FnOnce(&OwnedFd, &[u8]) -> io::Result<()>) -> io::Result<OwnedFd> {
        const TEMPORARY: &[u8] = b"put";
        let scratch = self.scratch()?;
        remove_at(scratch.as_fd(), TEMPORARY)?;
        make(&scratch, TEMPORARY)?;
        let (parent, name) = split(path);
        let dir = self.make_dir(parent)?;
        let place = || fs::renameat(&scratch, TEMPORARY, &dir, name);
        let placed = match place() {
            Err(Errno::ACCESS) => {
                make_accessible(dir.as_fd(), c".", 0o700)?;
                place()
            }
            placed => placed,
        };
        match placed {
            Err(Errno::ISDIR | Errno::NOTEMPTY | Errno::EXIST) => {
                remove_at(dir.as_fd(), name)?;
                place()?;
            }
            placed => placed?,
        }
        Ok(dir)
    }

    /// The scratch folder, writable.
    pub fn scratch(&self) -> Sys<OwnedFd> {
        let dir = self.make_dir(SCRATCH)?;
        if fs::fstat(&dir)?.st_mode & 0o700 != 0o700 {
            make_accessible(dir.as_fd(), c".", 0o700)?;
        }
        Ok(dir)
    }

    /// Gives what is at a path another one.
    pub fn rename(&self, from: &[u8], to: &[u8]) -> Sys<()> {
        let ((from_dir, from), (to_dir, to)) = (split(from), split(to));
        fs::renameat(self.dir(from_dir)?, from, self.dir(to_dir)?, to)
    }

    /// Removes whatever is at a path, and then the parents that this left empty.
    pub fn remove(&self, path: &[u8]) -> Sys<()> {
        let (parent, name) = split(path);
        let dir = match self.dir(parent) {
            Ok(dir) => dir,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(e) => return Err(e),
        };
        remove_at(dir.as_fd(), name)?;
        let mut path = parent;
        while !path.is_empty() {
            let (parent, name) = split(path);
            let gone = self.dir(parent).and_then(|dir| fs::unlinkat(&dir, name, AtFlags::REMOVEDIR));
            if gone.is_err() {
                break;
            }
            path = parent;
        }
        Ok(())
    }
}

fn make_dir_at(at: &OwnedFd, name: &[u8]) -> Sys<()> {
    match fs::unlinkat(at, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => fs::mkdirat(at, name, Mode::from_raw_mode(0o777)),
        Err(e) => Err(e),
    }
}

fn make_file(at: &OwnedFd, name: &[u8], content: &[u8], mode: u32) -> io::Result<std::fs::File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut file = std::fs::File::from(fs::openat(at, name, flags, Mode::from_raw_mode(0o600))?);
    file.write_all(content)?;
    fs::fchmod(&file, Mode::from_raw_mode(mode))?;
    Ok(file)
}

/// The parts of a relative path.
pub(crate) fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|b| *b == b'/').filter(|c| !c.is_empty())
}

/// Parent and last name.
pub(crate) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

/// Opens a folder without following a link. One that its owner may not enter is made accessible first.
pub(crate) fn open_dir_at(at: BorrowedFd<'_>, name: &[u8]) -> Sys<OwnedFd> {
    untrusted::open_folder_at(at, name)
}

/// Opens a regular file for reading, without following a link and without waiting for a FIFO's other end.
pub(crate) fn open_file_at(at: BorrowedFd<'_>, name: &[u8]) -> Sys<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let is_file = |stat: &Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    // Looked at first: opening a device can have effects of its own.
    let before = fs::statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if !is_file(&before) {
        return Err(Errno::INVAL);
    }
    let fd = match fs::openat(at, name, flags, Mode::empty()) {
        Err(Errno::ACCESS) => {
            make_accessible(at, name, 0o400)?;
            fs::openat(at, name, flags, Mode::empty())?
        }
        other => other?,
    };
    if is_file(&fs::fstat(&fd)?) { Ok(fd) } else { Err(Errno::INVAL) }
}

/// Reads a regular file; no bytes when it is larger than `max`.
pub(crate) fn read_at(at: BorrowedFd<'_>, name: &[u8], max: u64) -> io::Result<(StatKey, Option<Vec<u8>>)> {
    let file = std::fs::File::from(open_file_at(at, name)?);
    let key = StatKey::of(&fs::fstat(&file)?);
    if key.size > max {
        return Ok((key, None));
    }
    let mut bytes = Vec::with_capacity(key.size as usize);
    (&file).take(max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max {
        return Ok((key, None));
    }
    // What grew while it was read is noticed by its new ctime the next time.
    Ok((key, Some(bytes)))
}

/// The names in a folder, but `.` and `..`.
pub(crate) fn list(dir: BorrowedFd<'_>) -> Sys<Vec<(Vec<u8>, FileType)>> {
    list_some(dir, u64::MAX)
}

/// The first so many of them.
pub(crate) fn list_some(dir: BorrowedFd<'_>, most: u64) -> Sys<Vec<(Vec<u8>, FileType)>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if names.len() as u64 >= most {
            break;
        }
        if name != b"." && name != b".." {
            names.push((name.to_vec(), entry.file_type()));
        }
    }
    Ok(names)
}

/// Removes whatever is at a name; nothing there is fine.
pub(crate) fn remove_at(at: BorrowedFd<'_>, name: &[u8]) -> Sys<()> {
    untrusted::remove_at(at, &CString::new(name).map_err(|_| Errno::INVAL)?)
}
