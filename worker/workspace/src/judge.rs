//! Which of a turn's changes break a rule.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::rules::{Limits, Reverted, check_front_matter, wants_front_matter};
use crate::store::Store;
use crate::tree::{Entry, Flat, Kind};
use crate::turn::Baseline;
use crate::walk::Walked;

/// A path whose change breaks a rule.
pub(crate) struct Broken {
    pub path: Vec<u8>,
    pub reason: String,
    /// What it was before is in no commit, so that it cannot be put back.
    pub lost: bool,
}

/// The tree that a commit would get: what was found, and for what has no content to commit (too large, cannot
/// be read) what was tracked there.
pub(crate) fn committed_tree(tracked: &Flat, walked: &Walked) -> Flat {
    let mut tree = walked.flat();
    for (path, entry) in tracked {
        if !tree.contains_key(path) && (walked.files.contains_key(path) || is_within(&walked.bad, path)) {
            tree.insert(path.clone(), *entry);
        }
    }
    tree
}

/// Whether a path, or a folder above it, is in the map.
fn is_within<V>(map: &BTreeMap<Vec<u8>, V>, path: &[u8]) -> bool {
    !map.is_empty()
        && (map.contains_key(path)
            || path.iter().enumerate().any(|(at, b)| *b == b'/' && map.contains_key(&path[..at])))
}

/// The rules against what people changed: told, not put back.
pub(crate) fn outside_violations(
    store: &Store<'_>,
    limits: &Limits,
    tracked: &Flat,
    walked: &Walked,
) -> Result<Vec<Reverted>> {
    let mut found = Vec::new();
    for (path, why) in &walked.bad {
        found.push(Reverted::new(path, format!("{why}; left in place, not committed")));
    }
    for (path, _) in walked.too_large() {
        found.push(Reverted::new(path, format!("{}; left in place, not committed", too_large(limits))));
    }
    for path in &walked.special {
        found.push(Reverted::new(path, "neither file, folder nor link; left in place, not committed"));
    }
    for (path, entry) in &walked.flat() {
        if tracked.get(path) != Some(entry)
            && let Some(reason) = front_matter(store, path, entry)?
        {
            found.push(Reverted::new(path, format!("{reason}; committed as it is")));
        }
    }
    if walked.files.len() > limits.max_files {
        found.push(Reverted::new(b".", format!("the workspace holds more than {} files", limits.max_files)));
    }
    Ok(found)
}

fn too_large(limits: &Limits) -> String {
    format!("larger than {} bytes", limits.max_file_bytes)
}

fn too_much(limits: &Limits) -> String {
    format!("the turn changed more than {} bytes", limits.max_changed_bytes)
}

fn front_matter(store: &Store<'_>, path: &[u8], entry: &Entry) -> Result<Option<String>> {
    if !wants_front_matter(path) {
        return Ok(None);
    }
    Ok(match entry.kind {
        Kind::File | Kind::Executable => check_front_matter(&store.blob(entry.oid)?).err(),
        Kind::Link | Kind::Gitlink => Some("an entity must be a file".into()),
    })
}

/// The rules against what a turn changed.
pub(crate) struct Judge<'a, 'b> {
    pub limits: &'a Limits,
    pub baseline: &'a Baseline,
    pub walked: &'a Walked,
    pub store: &'a Store<'b>,
}

impl Judge<'_, '_> {
    /// What has to be put back.
    pub fn broken(&self) -> Result<Vec<Broken>> {
        let mut all = BTreeMap::new();
        self.unfit(&mut all);
        self.content(&mut all)?;
        self.too_many(&mut all);
        self.ignored(&mut all);
        Ok(all.into_values().collect())
    }

    fn add(all: &mut BTreeMap<Vec<u8>, Broken>, path: &[u8], reason: String, lost: bool) {
        all.entry(path.to_vec()).or_insert(Broken { path: path.to_vec(), reason, lost });
    }

    fn unfit(&self, all: &mut BTreeMap<Vec<u8>, Broken>) {
        for (path, why) in &self.walked.bad {
            if !self.baseline.bad.contains(path) {
                Self::add(all, path, (*why).to_owned(), false);
            }
        }
        for (path, found) in self.walked.too_large() {
            let held = self.baseline.held.get(path);
            if held == Some(&found.stat) {
                continue;
            }
            let unread = self.walked.unread.contains(path);
            let reason = if unread { too_much(self.limits) } else { too_large(self.limits) };
            Self::add(all, path, reason, held.is_some());
        }
    }

    fn content(&self, all: &mut BTreeMap<Vec<u8>, Broken>) -> Result<()> {
        let mut bytes = 0_u64;
        for (path, found) in &self.walked.files {
            let Some(oid) = found.oid else { continue };
            let entry = Entry { kind: found.kind, oid };
            if self.baseline.tree.get(path) == Some(&entry) {
                continue;
            }
            bytes = bytes.saturating_add(found.stat.size);
            // A held file that was made small enough may be committed, but not put back.
            let lost = self.baseline.held.contains_key(path);
            if bytes > self.limits.max_changed_bytes {
                Self::add(all, path, too_much(self.limits), lost);
                bytes -= found.stat.size;
            } else if let Some(reason) = front_matter(self.store, path, &entry)? {
                Self::add(all, path, reason, lost);
            }
        }
        Ok(())
    }

    fn too_many(&self, all: &mut BTreeMap<Vec<u8>, Broken>) {
        let allowed = self.limits.max_files.max(self.baseline.files);
        let excess = self.walked.files.len().saturating_sub(allowed);
        let fresh = self.walked.files.keys().rev();
        let fresh =
            fresh.filter(|path| !self.baseline.tree.contains_key(*path) && !self.baseline.held.contains_key(*path));
        for path in fresh.take(excess) {
            Self::add(all, path, format!("the workspace would hold more than {} files", self.limits.max_files), false);
        }
    }

    /// Ignored files are nobody's business but for the room they take: the largest new ones go first.
    fn ignored(&self, all: &mut BTreeMap<Vec<u8>, Broken>) {
        let mut count = (self.walked.ignored.len() as u64).saturating_sub(self.limits.max_ignored_files);
        let mut bytes = self.walked.ignored_bytes.saturating_sub(self.limits.max_ignored_bytes);
        if count == 0 && bytes == 0 {
            return;
        }
        let mut fresh: Vec<_> = self.walked.ignored_new.iter().collect();
        fresh.sort_by_key(|(path, size)| (std::cmp::Reverse(*size), path));
        for (path, size) in fresh {
            if count == 0 && bytes == 0 {
                break;
            }
            Self::add(all, path, "ignored files take more room than they may".into(), false);
            count = count.saturating_sub(1);
            bytes = bytes.saturating_sub(*size);
        }
    }
}
