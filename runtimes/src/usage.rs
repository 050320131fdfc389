//! How much a folder holds, as the disk counts it.

use std::collections::HashSet;
use std::io;
use std::path::Path;

use rustix::fs::FileType;
use untrusted::Next;

/// What a walk may cost.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Entries that are looked at, at most.
    pub entries: usize,
    /// It ends when so much has been found.
    pub bytes: u64,
}

/// Bytes on the disk of everything below `root`, or of as much of it as the bounds allow. Links are counted and not followed,
/// a file of several names counts once, and what cannot be read is passed over. Others may be writing to it meanwhile.
///
/// # Errors
/// When `root` itself cannot be opened.
pub(crate) fn bytes_below(root: &Path, bounds: Bounds) -> io::Result<u64> {
    let (mut bytes, mut seen) = (0, 0);
    let mut of_several_names = HashSet::new();
    untrusted::walk(root, |entry| {
        let Ok(stat) = entry.stat() else { return Ok(Next::Past) };
        seen += 1;
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if is_folder || stat.st_nlink < 2 || of_several_names.insert((stat.st_dev, stat.st_ino)) {
            bytes += u64::try_from(stat.st_blocks).unwrap_or_default() * 512;
        }
        Ok(match is_folder {
            _ if seen >= bounds.entries || bytes >= bounds.bytes => Next::End,
            true => Next::Into,
            false => Next::Past,
        })
    })?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDE: Bounds = Bounds { entries: 1000, bytes: u64::MAX };

    #[test]
    fn counts_what_is_there_once_and_follows_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (root, other) = (dir.path().join("root"), dir.path().join("other"));
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::write(other.join("large"), vec![1; 4 << 20]).unwrap();
        let empty = bytes_below(&root, WIDE).unwrap();
        std::fs::write(root.join("a/b/file"), vec![1; 1 << 20]).unwrap();
        std::os::unix::fs::symlink(&other, root.join("a/link")).unwrap();
        let one = bytes_below(&root, WIDE).unwrap() - empty;
        assert!((1 << 20..2 << 20).contains(&one), "{one}");
        std::fs::hard_link(root.join("a/b/file"), root.join("again")).unwrap();
        assert_eq!(bytes_below(&root, WIDE).unwrap() - empty, one);
    }

    #[test]
    fn ends_at_its_bounds() {
        let dir = tempfile::tempdir().unwrap();
        for n in 0..10 {
            std::fs::write(dir.path().join(n.to_string()), vec![1; 64 << 10]).unwrap();
        }
        let all = bytes_below(dir.path(), WIDE).unwrap();
        let few = bytes_below(dir.path(), Bounds { entries: 3, ..WIDE }).unwrap();
        let enough = bytes_below(dir.path(), Bounds { bytes: 128 << 10, ..WIDE }).unwrap();
        assert!(few < all && (128 << 10..all).contains(&enough), "{few} {enough} {all}");
    }
}
