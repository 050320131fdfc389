//! How much a folder holds, as the disk counts it.

use std::collections::HashSet;
use std::io;
use std::ops::AddAssign;
use std::path::Path;

use rustix::fs::FileType;
use untrusted::Next;

/// What is on a disk, or how much of it may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Bytes of blocks.
    pub bytes: u64,
    /// Files and folders; one of several names counts for each.
    pub files: u64,
}

impl Usage {
    /// Whether it is more than may be, in one thing or the other.
    pub fn exceeds(self, most: Self) -> bool {
        self.bytes > most.bytes || self.files > most.files
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, more: Self) {
        self.bytes += more.bytes;
        self.files += more.files;
    }
}

/// Everything below `root`, or so much of it that it exceeds `most`. Links are counted and not followed, a file of several names
/// has its bytes once, and what cannot be looked at is passed over. Others may be writing to it meanwhile.
///
/// # Errors
/// When `root` itself cannot be opened, or a folder in it not be read.
pub(crate) fn below(root: &Path, most: Usage) -> io::Result<Usage> {
    let mut found = Usage::default();
    let mut of_several_names = HashSet::new();
    untrusted::walk(root, |entry| {
        let Ok(stat) = entry.stat() else { return Ok(Next::Past) };
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        found.files += 1;
        if is_folder || stat.st_nlink < 2 || of_several_names.insert((stat.st_dev, stat.st_ino)) {
            found.bytes += u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
        }
        Ok(match (found.exceeds(most), is_folder) {
            (true, _) => Next::End,
            (false, true) => Next::Into,
            (false, false) => Next::Past,
        })
    })?;
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Usage = Usage { bytes: u64::MAX, files: u64::MAX };

    #[test]
    fn counts_what_is_there_once_and_follows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (root, other) = (dir.path().join("root"), dir.path().join("other"));
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("large"), vec![1; 4 << 20]).unwrap();
        let empty = below(&root, WIDE).unwrap();
        std::fs::write(root.join("a/b/file"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(&other, root.join("a/link")).unwrap();
        let one = below(&root, WIDE).unwrap();
        assert!((1 << 20..2 << 20).contains(&(one.bytes - empty.bytes)), "{one:?}");
        assert_eq!(one.files - empty.files, 2);
        std::fs::hard_link(root.join("a/b/file"), root.join("again")).unwrap();
        assert_eq!(below(&root, WIDE).unwrap(), Usage { files: one.files + 1, ..one });
    }

    #[test]
    fn ends_when_it_is_too_much() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..10 {
            std::fs::write(dir.path().join(n.to_string()), vec![1; 64 << 10]).unwrap();
        }
        let all = below(dir.path(), WIDE).unwrap();
        assert_eq!(all.files, 10);
        assert_eq!(below(dir.path(), Usage { files: 3, ..WIDE }).unwrap().files, 4);
        let enough = below(dir.path(), Usage { bytes: 128 << 10, ..WIDE }).unwrap();
        assert!((128 << 10..all.bytes).contains(&enough.bytes), "{enough:?} {all:?}");
    }
}
