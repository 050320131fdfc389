//! Putting the tree back to a known state, from the objects.

use std::collections::BTreeSet;

use crate::error::{Doing, Result};
use crate::root::Root;
use crate::store::Store;
use crate::tree::{Entry, Flat, Kind};
use crate::walk::Walked;

/// Puts one path back to what it was.
pub(crate) fn put_back(root: &Root, store: &Store<'_>, path: &[u8], was: Option<&Entry>) -> Result<()> {
    let doing = || format!("put back `{}`", String::from_utf8_lossy(path));
    match was {
        None => root.remove(path).doing(doing),
        Some(Entry { kind: Kind::Gitlink, .. }) => root.make_dir(path).map(drop).doing(doing),
        Some(entry) => {
            let content = store.blob(entry.oid)?;
            match entry.kind {
                Kind::Link => root.write_link(path, &content).doing(doing),
                Kind::Executable => root.write(path, &content, 0o755).doing(doing),
                _ => root.write(path, &content, 0o644).doing(doing),
            }
        }
    }
}

/// Puts the whole tree back. Left alone: what is ignored, what is in `leave`, and nested repositories' `.git`.
pub(crate) fn restore(
    root: &Root,
    store: &Store<'_>,
    to: &Flat,
    walked: &Walked,
    leave: &BTreeSet<Vec<u8>>,
) -> Result<()> {
    let extras =
        walked.files.keys().chain(&walked.special).filter(|path| !to.contains_key(*path) && !leave.contains(*path));
    for path in extras {
        root.remove(path).doing(|| format!("remove `{}`", String::from_utf8_lossy(path)))?;
    }
    for (path, entry) in to {
        let there = walked.files.get(path).is_some_and(|f| f.oid == Some(entry.oid) && f.kind == entry.kind);
        if !there && !leave.contains(path) {
            put_back(root, store, path, Some(entry))?;
        }
    }
    Ok(())
}
