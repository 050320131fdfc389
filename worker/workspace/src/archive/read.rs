//! Reads an archive: a stream that anybody may have written, into a folder that only it decides about.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use data_encoding::HEXLOWER;
use rustix::fs::{self, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;
use sha2::{Digest, Sha256};

use super::entry::{BLOCK, Entry, Kind, padding};
use super::error::doing;
use super::{
    ArchiveError, ArchiveLimits, BLOCKS_OF_ZEROS, MANIFEST, MAX_NOTE_BYTES, Manifest, PARTS, TRAILER, Trailer,
};
use crate::root::{components, open_dir_at, remove_at, split};

type Result<T> = std::result::Result<T, ArchiveError>;

/// What was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes in files.
    pub bytes: u64,
}

/// Reads an archive into a folder that is not there yet, or empty. It is made under a name of its own beside it, made
/// durable, and moved into place when the whole stream was read and its hash is right. The caller sees to it that nobody else
/// reads into the same folder; what a killed attempt left is removed by the next.
///
/// # Errors
/// Every variant but `Changed`. The folder is then as it was, and nothing is left beside it.
pub fn read(input: &mut impl Read, into: &Path, limits: &ArchiveLimits) -> Result<Restored> {
    let mut fresh = Fresh::make(into)?;
    let mut reader =
        Reader { input, hash: Sha256::new(), limits, top: fresh.folder.as_fd(), parent: None, done: Trailer::empty() };
    reader.manifest()?;
    while reader.entry()? {}
    let restored = Restored { entries: reader.done.entries, bytes: reader.done.bytes };
    fresh.keep(into)?;
    Ok(restored)
}

/// The folder while it is not whole. Removed when dropped, unless kept.
struct Fresh {
    beside: OwnedFd,
    name: Vec<u8>,
    folder: OwnedFd,
    kept: bool,
}

impl Fresh {
    fn make(into: &Path) -> Result<Self> {
        let Some(last) = into.file_name() else {
            let why = io::Error::new(io::ErrorKind::InvalidInput, "the folder has no name");
            return Err(doing(format!("read an archive into {}", into.display()))(why));
        };
        let name = [b".", last.as_bytes(), b".restoring"].concat();
        let make = || {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let beside = fs::open(parent_of(into), flags, Mode::empty())?;
            remove_at(beside.as_fd(), &name)?;
            fs::mkdirat(&beside, name.as_slice(), Mode::from_raw_mode(0o700))?;
            let folder = open_dir_at(beside.as_fd(), &name)?;
            Ok((beside, folder))
        };
        let (beside, folder) =
            make().map_err(doing::<Errno>(format!("make a folder in {}", parent_of(into).display())))?;
        Ok(Self { beside, name, folder, kept: false })
    }

    fn keep(&mut self, into: &Path) -> Result<()> {
        let last = into.file_name().unwrap_or_default().as_bytes();
        let keep = || {
            fs::syncfs(&self.folder)?;
            // Over an empty folder, too; never over anything else.
            fs::renameat(&self.beside, self.name.as_slice(), &self.beside, last)?;
            fs::fsync(&self.beside)
        };
        keep().map_err(doing(format!("put {} in place", into.display())))?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if !self.kept {
            // Should this fail, the next attempt begins with it.
            let _ = remove_at(self.beside.as_fd(), &self.name);
        }
    }
}

fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| *parent != Path::new("")).unwrap_or(Path::new("."))
}

struct Reader<'a, R> {
    input: &'a mut R,
    hash: Sha256,
    limits: &'a ArchiveLimits,
    top: BorrowedFd<'a>,
    /// The folder that was last written to: entries of one folder mostly come together.
    parent: Option<(Vec<u8>, OwnedFd)>,
    done: Trailer,
}

impl<R: Read> Reader<'_, R> {
    /// Fills the buffer and hashes it.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<()> {
        match self.input.read_exact(buffer) {
            Ok(()) => self.hash.update(&*buffer),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(ArchiveError::Cut),
            Err(error) => return Err(doing("read the archive")(error)),
        }
        Ok(())
    }

    /// An entry's header.
    fn header(&mut self) -> Result<Entry> {
        let mut raw = vec![0; BLOCK];
        self.fill(&mut raw)?;
        let pax = match raw.first_chunk() {
            Some(block) => Entry::pax_bytes(block).map_err(|why| self.refused(why))?,
            None => None,
        };
        if let Some(bytes) = pax {
            raw.resize(BLOCK + bytes + BLOCK, 0);
            self.fill(&mut raw[BLOCK..])?;
        }
        Entry::decode(&raw).map_err(|why| self.refused(why))
    }

    /// The content of a file of the archive's own.
    fn note(&mut self, entry: &Entry) -> Result<Vec<u8>> {
        if !matches!(entry.kind, Kind::File { size: ..=MAX_NOTE_BYTES }) {
            return Err(self.refused("it is too long, or no file"));
        }
        let mut content = vec![0; usize::try_from(entry.size()).unwrap_or(0)];
        self.fill(&mut content)?;
        self.padding(entry.size())?;
        Ok(content)
    }

    fn padding(&mut self, size: u64) -> Result<()> {
        let mut rest = [0; BLOCK];
        let rest = &mut rest[..padding(size)];
        self.fill(rest)?;
        if rest.iter().any(|b| *b != 0) { Err(self.refused("something stands where zeros should")) } else { Ok(()) }
    }

    fn manifest(&mut self) -> Result<()> {
        let entry = self.header()?;
        if entry.path != MANIFEST {
            return Err(self.refused("the manifest does not come first"));
        }
        let content = self.note(&entry)?;
        match serde_json::from_slice::<Manifest>(&content) {
            Ok(manifest) if manifest == Manifest::current() => Ok(()),
            Ok(manifest) if manifest.version > Manifest::VERSION => Err(ArchiveError::Version(manifest.version)),
            _ => Err(self.refused("the manifest is not one of ours")),
        }
    }

    /// Reads one entry; says whether another can follow.
    fn entry(&mut self) -> Result<bool> {
        let before = self.hash.clone();
        let entry = self.header()?;
        if entry.path == TRAILER {
            return self.trailer(&entry, before).map(|()| false);
        }
        self.done.count(entry.size(), self.limits)?;
        let mut names = components(&entry.path);
        let first = names.next().unwrap_or_default();
        let deeper = names.count();
        if !PARTS.contains(&first) || (deeper == 0 && entry.kind != Kind::Folder) {
            return Err(self.refused("it is not part of a unit's folder"));
        }
        if matches!(entry.kind, Kind::Folder) && deeper >= self.limits.max_depth {
            return Err(self.refused("it is nested too deep"));
        }
        let (parent, name) = split(&entry.path);
        let dir = self.open(parent)?;
        self.make(&dir, name, &entry)?;
        self.parent = Some((parent.to_vec(), dir));
        Ok(true)
    }

    /// Opens a folder that this archive has made. A link or file on the way is not one.
    fn open(&mut self, path: &[u8]) -> Result<OwnedFd> {
        if let Some((open, dir)) = self.parent.take()
            && open == path
        {
            return Ok(dir);
        }
        let open = || {
            let mut at = open_dir_at(self.top, b".")?;
            for name in components(path) {
                at = open_dir_at(at.as_fd(), name)?;
            }
            Ok(at)
        };
        match open() {
            Ok(dir) => Ok(dir),
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {
                Err(self.refused("the folder that it is in did not come before it"))
            }
            Err(error) => Err(self.cannot_make(error.into())),
        }
    }

    fn make(&mut self, dir: &OwnedFd, name: &[u8], entry: &Entry) -> Result<()> {
        let made = match &entry.kind {
            Kind::Folder => make_folder(dir, name, entry.mode),
            Kind::Link { target } => fs::symlinkat(target.as_slice(), dir, name),
            Kind::File { size } => return self.file(dir, name, *size, entry),
        };
        made.map_err(|error| self.not_made(error))
    }

    fn file(&mut self, dir: &OwnedFd, name: &[u8], size: u64, entry: &Entry) -> Result<()> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = fs::openat(dir, name, flags, Mode::from_raw_mode(0o600)).map_err(|error| self.not_made(error))?;
        let mut file = File::from(fd);
        let mut left = size;
        let mut buffer = vec![0; usize::try_from(left.min(256 << 10)).unwrap_or(0)];
        while left > 0 {
            let next = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            self.fill(&mut buffer[..next])?;
            file.write_all(&buffer[..next]).map_err(|error| self.cannot_make(error))?;
            left -= next as u64;
        }
        self.padding(size)?;
        let time = Timespec { tv_sec: i64::try_from(entry.mtime).unwrap_or(0), tv_nsec: 0 };
        fs::futimens(&file, &Timestamps { last_access: time, last_modification: time })
            .and_then(|()| fs::fchmod(&file, Mode::from_raw_mode(entry.mode & 0o777 | 0o400)))
            .map_err(|error| self.cannot_make(error.into()))
    }

    fn trailer(&mut self, entry: &Entry, before: Sha256) -> Result<()> {
        let content = self.note(entry)?;
        let told: Trailer =
            serde_json::from_slice(&content).map_err(|_| self.refused("the trailer is not one of ours"))?;
        self.done.sha256 = HEXLOWER.encode(&before.finalize());
        if told != self.done {
            return Err(self.refused("the trailer tells of another content"));
        }
        let mut end = BLOCKS_OF_ZEROS;
        self.fill(&mut end)?;
        if end != BLOCKS_OF_ZEROS {
            return Err(self.refused("something follows the trailer"));
        }
        match io::copy(&mut self.input.by_ref().take(1), &mut io::sink()) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.refused("something follows the archive's end")),
            Err(error) => Err(doing("read the archive")(error)),
        }
    }

    fn not_made(&self, error: Errno) -> ArchiveError {
        match error {
            Errno::EXIST => self.refused("there is one of that name already"),
            error => self.cannot_make(error.into()),
        }
    }

    fn cannot_make(&self, source: io::Error) -> ArchiveError {
        ArchiveError::Io { doing: format!("make entry {} of the archive", self.done.entries), source }
    }

    fn refused(&self, why: &str) -> ArchiveError {
        ArchiveError::Refused { entry: self.done.entries, why: why.into() }
    }
}

fn make_folder(dir: &OwnedFd, name: &[u8], mode: u32) -> rustix::io::Result<()> {
    fs::mkdirat(dir, name, Mode::from_raw_mode(0o700))?;
    let made = open_dir_at(dir.as_fd(), name)?;
    // Whatever it says, its owner can go in: the entries below come after it.
    fs::fchmod(&made, Mode::from_raw_mode(mode & 0o777 | 0o700))
}
