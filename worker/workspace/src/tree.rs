//! A tree, flat: every path with what is there. In byte order of whole paths, which is the order of git's
//! trees and of its index.

use std::collections::BTreeMap;

use git2::Oid;

/// What a path is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Executable,
    Link,
    /// A submodule that was there before; none is ever made.
    Gitlink,
}

impl Kind {
    pub fn mode(self) -> u32 {
        match self {
            Self::File => 0o100_644,
            Self::Executable => 0o100_755,
            Self::Link => 0o120_000,
            Self::Gitlink => 0o160_000,
        }
    }

    /// From the mode of a tree entry that is not a tree itself.
    pub fn from_mode(mode: u32) -> Option<Self> {
        match mode & 0o170_000 {
            0o100_000 if mode & 0o100 != 0 => Some(Self::Executable),
            0o100_000 => Some(Self::File),
            0o120_000 => Some(Self::Link),
            0o160_000 => Some(Self::Gitlink),
            _ => None,
        }
    }
}

/// One path's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    pub kind: Kind,
    pub oid: Oid,
}

/// A whole tree.
pub(crate) type Flat = BTreeMap<Vec<u8>, Entry>;

/// Whether a path below `dir` is in the map.
pub(crate) fn has_below<V>(map: &BTreeMap<Vec<u8>, V>, dir: &[u8]) -> bool {
    let mut from = dir.to_vec();
    from.push(b'/');
    map.range(from.clone()..).next().is_some_and(|(path, _)| path.starts_with(&from))
}

/// How many paths differ between two trees.
pub(crate) fn count_changes(old: &Flat, new: &Flat) -> u64 {
    let gone = old.keys().filter(|path| !new.contains_key(*path)).count();
    let changed = new.iter().filter(|(path, entry)| old.get(*path) != Some(entry)).count();
    (gone + changed) as u64
}
