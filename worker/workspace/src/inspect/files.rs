//! What is in a folder or a file, now.

use std::fs::File;
use std::io::Read as _;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use contract::{EntryKind, FolderEntry, InspectAnswer, WorkspacePath};
use data_encoding::BASE64;
use rustix::fs::{self, AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::{Refused, Seen, weight};
use crate::root::{Root, split};

const CONTENT_MAX_BYTES: u64 = 1 << 20;
const ENTRIES_MAX: usize = 10_000;
/// Of all names in a folder, as JSON.
const NAMES_MAX_BYTES: usize = 2 << 20;
/// Of an entry, beside its name.
const ENTRY_BYTES: usize = 80;

pub(super) fn see(root: &Root, path: &WorkspacePath) -> Seen<InspectAnswer> {
    let text = path.as_str();
    let refused = |errno| Refused::errno(text, errno);
    if text.is_empty() {
        return folder(text, &open_dir(root.fd(), b".").map_err(refused)?);
    }
    let (parent, name) = split(text.as_bytes());
    let parent = open_dir(root.fd(), if parent.is_empty() { b"." } else { parent }).map_err(refused)?;
    let stat = fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(refused)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => folder(text, &open_dir(parent.as_fd(), name).map_err(refused)?),
        FileType::RegularFile => file(text, parent.as_fd(), name),
        FileType::Symlink => {
            let target = fs::readlinkat(&parent, name, Vec::new()).map_err(refused)?;
            Ok(InspectAnswer::Link { path: text.into(), target: target.to_string_lossy().into_owned() })
        }
        _ => Err(Refused::invalid(format!("`{text}` is a socket, pipe or device, which is not read"))),
    }
}

/// Opens a folder below another one. The kernel follows no link on the way and does not leave; nothing is made accessible that
/// is not.
fn open_dir(at: BorrowedFd<'_>, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    open(at, path, OFlags::DIRECTORY)
}

fn open(at: BorrowedFd<'_>, path: &[u8], more: OFlags) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC | more;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    match fs::openat2(at, path, flags, Mode::empty(), resolve) {
        // Kernels before 5.6 do not have it, and some sandboxes do not know it.
        Err(Errno::NOSYS | Errno::PERM) => {}
        opened => return opened,
    }
    let mut parts = crate::root::components(path).peekable();
    let mut dir = fs::openat(at, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        dir = fs::openat(&dir, part, if last { flags } else { flags | OFlags::DIRECTORY }, Mode::empty())?;
    }
    Ok(dir)
}

fn file(path: &str, parent: BorrowedFd<'_>, name: &[u8]) -> Seen<InspectAnswer> {
    let refused = |errno| Refused::errno(path, errno);
    let opened = open(parent, name, OFlags::empty()).map_err(refused)?;
    let stat = fs::fstat(&opened).map_err(refused)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Refused::absent(format!("`{path}` was replaced while it was looked at")));
    }
    let mut content = Vec::new();
    File::from(opened)
        .take(CONTENT_MAX_BYTES + 1)
        .read_to_end(&mut content)
        .map_err(|e| Refused::unusable(format!("cannot read `{path}`: {e}")))?;
    let truncated = content.len() as u64 > CONTENT_MAX_BYTES;
    let read = content.len() as u64;
    content.truncate(CONTENT_MAX_BYTES as usize);
    // One that shrank or grew meanwhile is as long as what was read of it.
    let size = if truncated { u64::try_from(stat.st_size).unwrap_or(0).max(read) } else { read };
    Ok(InspectAnswer::File { path: path.into(), size, content: BASE64.encode(&content), truncated })
}

fn folder(path: &str, dir: &OwnedFd) -> Seen<InspectAnswer> {
    let refused = |errno| Refused::errno(path, errno);
    let (mut entries, mut left, mut truncated) = (Vec::new(), NAMES_MAX_BYTES, false);
    for entry in Dir::read_from(dir).map_err(refused)? {
        let entry = entry.map_err(refused)?;
        let raw = entry.file_name();
        if matches!(raw.to_bytes(), b"." | b"..") || raw.to_bytes().eq_ignore_ascii_case(b".git") {
            continue;
        }
        let stat = match fs::statat(dir, raw, AtFlags::SYMLINK_NOFOLLOW) {
            // It went away this moment.
            Err(Errno::NOENT) => continue,
            stat => stat.map_err(refused)?,
        };
        let name = raw.to_string_lossy().into_owned();
        let bytes = weight(&name) + ENTRY_BYTES;
        if entries.len() == ENTRIES_MAX || bytes > left {
            truncated = true;
            break;
        }
        left -= bytes;
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Folder,
            FileType::Symlink => EntryKind::Link,
            _ => EntryKind::Other,
        };
        let is_file = kind == EntryKind::File;
        entries.push(FolderEntry {
            name,
            kind,
            size: is_file.then(|| u64::try_from(stat.st_size).unwrap_or(0)),
            executable: is_file && stat.st_mode & 0o100 != 0,
        });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(InspectAnswer::Folder { path: path.into(), entries, truncated })
}
