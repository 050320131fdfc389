//! Writes an archive.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use data_encoding::HEXLOWER;
use rustix::fs::{self, AtFlags, FileType};
use sha2::{Digest, Sha256};

use super::entry::{Entry, Kind, MAX_FILE_BYTES, MAX_MTIME, padding};
use super::error::{doing, shown};
use super::{ArchiveError, ArchiveLimits, BLOCKS_OF_ZEROS, MANIFEST, Manifest, PARTS, TRAILER, Trailer};
use crate::root::{Root, StatKey, list, open_dir_at, open_file_at};

type Result<T> = std::result::Result<T, ArchiveError>;

/// Most paths that are named in [`Written::left_out`].
const MOST_NAMED: usize = 100;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// Files, folders and links.
    pub entries: u64,
    /// Bytes in files.
    pub bytes: u64,
    /// SHA-256 of all before the trailer, as the trailer has it; equal for equal trees.
    pub sha256: String,
    /// What an archive cannot hold, at most 100 of it.
    pub left_out: Vec<LeftOut>,
    /// How many there were.
    pub left_out_count: u64,
}

/// Something that is not in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// Relative to the folder; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Why not.
    pub why: &'static str,
}

/// Writes a unit's folder (`workspace`, `state`, or one of them) as an archive. Nothing may write to the folder meanwhile.
/// Files and folders that their owner may not read are made readable for it, as everywhere in this crate.
///
/// # Errors
/// `TooMuch` beyond the limits, `Changed` when somebody did write, `Io`. The stream then has no trailer.
pub fn write(folder: &Path, out: &mut impl Write, limits: &ArchiveLimits) -> Result<Written> {
    let root = Root::open(folder).map_err(doing(format!("open {}", folder.display())))?;
    let mut writer = Writer {
        out,
        hash: Sha256::new(),
        limits,
        dev: root.dev,
        done: Trailer::empty(),
        left_out: Vec::new(),
        left_out_count: 0,
    };
    writer.note(MANIFEST, &Manifest::current())?;
    for part in PARTS {
        writer.name(root.fd(), part, &mut part.to_vec(), 1)?;
    }
    writer.done.sha256 = HEXLOWER.encode(&writer.hash.clone().finalize());
    let trailer = std::mem::replace(&mut writer.done, Trailer::empty());
    writer.note(TRAILER, &trailer)?;
    writer.put(&BLOCKS_OF_ZEROS)?;
    writer.out.flush().map_err(doing("write the archive"))?;
    Ok(Written {
        entries: trailer.entries,
        bytes: trailer.bytes,
        sha256: trailer.sha256,
        left_out: writer.left_out,
        left_out_count: writer.left_out_count,
    })
}

struct Writer<'a, W> {
    out: &'a mut W,
    hash: Sha256,
    limits: &'a ArchiveLimits,
    dev: u64,
    done: Trailer,
    left_out: Vec<LeftOut>,
    left_out_count: u64,
}

impl<W: Write> Writer<'_, W> {
    fn put(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.out.write_all(bytes).map_err(doing("write the archive"))
    }

    /// A file of the archive's own.
    fn note(&mut self, path: &[u8], content: &impl serde::Serialize) -> Result<()> {
        let json = serde_json::to_vec(content).map_err(doing("write the archive"))?;
        self.put(&Entry::note(path, json.len() as u64).encode())?;
        self.put(&json)?;
        self.put(&BLOCKS_OF_ZEROS[..padding(json.len() as u64)])
    }

    /// What is at a name, with all that is below it.
    fn name(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &mut Vec<u8>, depth: usize) -> Result<()> {
        let stat = match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => StatKey::of(&stat),
            Err(rustix::io::Errno::NOENT) if depth == 1 => return Ok(()),
            Err(rustix::io::Errno::NOENT) => return Err(ArchiveError::Changed { path: shown(path) }),
            Err(error) => return Err(doing(format!("look at {}", shown(path)))(error)),
        };
        let is_part = depth == 1;
        match stat.file_type() {
            FileType::Directory if stat.dev != self.dev => self.leave_out(path, "it is another file system"),
            FileType::Directory if depth > self.limits.max_depth => self.leave_out(path, "it is nested too deep"),
            FileType::Directory => self.folder(dir, name, path, &stat, depth),
            _ if is_part => self.leave_out(path, "it is not a folder"),
            FileType::RegularFile => self.file(dir, name, path, &stat),
            FileType::Symlink => {
                let target = fs::readlinkat(dir, name, Vec::new()).map_err(doing(format!("read {}", shown(path))))?;
                let kind = Kind::Link { target: target.into_bytes() };
                self.begin(&Entry { path: path.clone(), kind, mode: 0o777, mtime: 0 }).map(drop)
            }
            _ => self.leave_out(path, "it is neither file, folder nor link"),
        }
    }

    fn folder(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &mut Vec<u8>,
        stat: &StatKey,
        depth: usize,
    ) -> Result<()> {
        // Its owner may always go in: so it could be read here, and what is put into it can be put there.
        let mode = stat.mode & 0o777 | 0o700;
        if !self.begin(&Entry { path: path.clone(), kind: Kind::Folder, mode, mtime: 0 })? {
            return Ok(());
        }
        let below: OwnedFd = open_dir_at(dir, name).map_err(doing(format!("open {}", shown(path))))?;
        let mut names = list(below.as_fd()).map_err(doing(format!("list {}", shown(path))))?;
        names.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        for (name, _) in names {
            let length = path.len();
            path.push(b'/');
            path.extend_from_slice(&name);
            self.name(below.as_fd(), &name, path, depth + 1)?;
            path.truncate(length);
        }
        Ok(())
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &[u8], path: &[u8], looked: &StatKey) -> Result<()> {
        if looked.size > MAX_FILE_BYTES {
            return self.leave_out(path, "it is larger than 8 GiB");
        }
        let fd = open_file_at(dir, name).map_err(doing(format!("open {}", shown(path))))?;
        let before = self.stat(&fd, path)?;
        let mtime = u64::try_from(before.mtime_ns / 1_000_000_000).unwrap_or(0).min(MAX_MTIME);
        let mode = before.mode & 0o777 | 0o400;
        let entry = Entry { path: path.to_vec(), kind: Kind::File { size: before.size }, mode, mtime };
        if !self.begin(&entry)? {
            return Ok(());
        }
        let mut file = File::from(fd);
        let mut left = before.size;
        let mut buffer = vec![0; usize::try_from(left.min(256 << 10)).unwrap_or(0)];
        while left > 0 {
            let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
            let read = match file.read(&mut buffer[..most]) {
                Ok(0) => return Err(ArchiveError::Changed { path: shown(path) }),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(doing(format!("read {}", shown(path)))(error)),
            };
            self.put(&buffer[..read])?;
            left -= read as u64;
        }
        if self.stat(&file, path)? != before {
            return Err(ArchiveError::Changed { path: shown(path) });
        }
        self.put(&BLOCKS_OF_ZEROS[..padding(before.size)])
    }

    fn stat(&self, fd: &impl AsFd, path: &[u8]) -> Result<StatKey> {
        let stat = fs::fstat(fd).map_err(doing(format!("look at {}", shown(path))))?;
        Ok(StatKey::of(&stat))
    }

    /// Writes an entry's header; says whether it did, or left the entry out.
    fn begin(&mut self, entry: &Entry) -> Result<bool> {
        if let Err(why) = entry.check() {
            self.leave_out(&entry.path, why)?;
            return Ok(false);
        }
        self.done.count(entry.size(), self.limits)?;
        self.put(&entry.encode())?;
        Ok(true)
    }

    fn leave_out(&mut self, path: &[u8], why: &'static str) -> Result<()> {
        self.left_out_count += 1;
        if self.left_out.len() < MOST_NAMED {
            self.left_out.push(LeftOut { path: shown(path), why });
        }
        Ok(())
    }
}
