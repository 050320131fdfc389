//! What piles up over many turns is put in order while nothing runs: loose objects, old refs of ours, files that dead
//! processes left half written.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::time::{SystemTime, UNIX_EPOCH};

use contract::TurnId;
use rustix::fs::FileType;

use crate::error::{Doing, Result};
use crate::housekeeping::sweep_objects;
use crate::open::Workspace;
use crate::refs::Refs;
use crate::repack::{MANY_LOOSE, repack};
use crate::root::{Root, list};

/// Whose refs are kept for a while only. `refs/rekindle/pending/*` belong to turns that are not settled.
const PASSING: [&str; 3] = ["agent", "interrupted", "merge"];
/// Of each kind so many are kept whatever their age,
const KEPT_ALWAYS: usize = 50;
/// so many at most,
const KEPT_AT_MOST: usize = 500;
/// and those between only while they are younger than a week.
const KEPT_MS: u64 = 7 * 24 * 3600 * 1000;
/// Half-written files may belong to a person's git that is at work right now; not when they are as old as this.
const HALF_WRITTEN_NS: i64 = 3600 * 1_000_000_000;

/// What [`Workspace::tidy`] did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Loose objects that are in a pack now.
    pub packed: usize,
    /// Refs that were removed.
    pub pruned: Vec<String>,
    /// Half-written files that were removed.
    pub swept: usize,
}

impl Workspace {
    /// Puts the repository in order, between turns and while nothing else runs. What it does, it does in steps each of
    /// which leaves the repository whole; it stops soon after `enough` says so. What no ref reaches any more stays: only
    /// people remove objects (`git gc`).
    ///
    /// # Errors
    /// `Io`, `Git`: nothing is lost, and a later call goes on.
    pub fn tidy(&mut self, enough: &dyn Fn() -> bool) -> Result<Tidied> {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as u64);
        sweep_objects(&self.root, &mut Vec::new())?;
        Ok(Tidied {
            pruned: prune(&self.root, now_ms, enough)?,
            swept: sweep_half_written(&self.root, HALF_WRITTEN_NS)?,
            packed: repack(&self.root, &self.path, MANY_LOOSE, enough)?,
        })
    }
}

fn prune(root: &Root, now_ms: u64, enough: &dyn Fn() -> bool) -> Result<Vec<String>> {
    let refs = Refs(root);
    let packed = refs.packed()?;
    let mut pruned = Vec::new();
    for kind in PASSING {
        let folder = format!("refs/rekindle/{kind}");
        let loose = match root.dir(format!(".git/{folder}").as_bytes()) {
            Ok(dir) => list(dir.as_fd()).doing(|| format!("look through {folder}"))?,
            Err(_) => Vec::new(),
        };
        let loose = loose.into_iter().filter_map(|(name, _)| String::from_utf8(name).ok());
        let packed = packed.iter().filter_map(|(name, _)| name.strip_prefix(&folder)?.strip_prefix('/'));
        // By turn, which is by time; a turn's several refs are `<turn>.2` and so on.
        let all: BTreeSet<String> = loose.chain(packed.map(str::to_owned)).collect();
        let ours = all.into_iter().rev().filter_map(|name| Some((made_ms(&name)?, name)));
        for (rank, (made_ms, name)) in ours.enumerate() {
            let old = now_ms.saturating_sub(made_ms) > KEPT_MS;
            if rank >= KEPT_AT_MOST || (rank >= KEPT_ALWAYS && old) {
                if enough() {
                    return Ok(pruned);
                }
                let name = format!("{folder}/{name}");
                refs.delete(&name)?;
                pruned.push(name);
            }
        }
    }
    Ok(pruned)
}

/// When the turn of a ref arrived; `None` when it is not named after a turn, and so not by us.
fn made_ms(name: &str) -> Option<u64> {
    let turn = name.split_once('.').map_or(name, |(turn, _)| turn);
    TurnId::parse(turn).ok().map(|turn| turn.at_ms())
}

/// Objects and packs that were being written when their writer died, of git and libgit2 alike, and packs that no index
/// belongs to.
fn sweep_half_written(root: &Root, older_ns: i64) -> Result<usize> {
    let now_ns = root.now_ns().doing(|| "ask for the time".into())?;
    let look = || "look for half-written objects".into();
    let mut swept = 0;
    let mut sweep = |folder: &[u8]| -> Result<Vec<Vec<u8>>> {
        let dir = root.dir(folder).doing(look)?;
        let names = list(dir.as_fd()).doing(look)?;
        let has = |name: &[u8]| names.iter().any(|(there, _)| there == name);
        let mut folders = Vec::new();
        for (name, kind) in &names {
            let path = [folder, b"/", name].concat();
            if *kind == FileType::Directory {
                folders.push(path);
                continue;
            }
            let alone = name.strip_suffix(b".pack").is_some_and(|stem| !has(&[stem, b".idx"].concat()));
            if !name.starts_with(b"tmp_") && !alone {
                continue;
            }
            if let Some(stat) = root.stat(&path).doing(look)?
                && stat.ctime_ns < now_ns.saturating_sub(older_ns)
            {
                root.remove(&path).doing(|| "remove a half-written object".into())?;
                swept += 1;
            }
        }
        Ok(folders)
    };
    for folder in sweep(b".git/objects")? {
        sweep(&folder)?;
    }
    Ok(swept)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use git2::Oid;

    use super::*;

    const DAY_MS: u64 = 24 * 3600 * 1000;

    fn repository(at: &Path) -> Root {
        let root = Root::open(at).unwrap();
        crate::gitdir::ensure(&root).unwrap();
        root
    }

    #[test]
    fn refs_are_pruned_by_age_and_number_and_others_are_left() {
        let dir = tempfile::tempdir().unwrap();
        let root = repository(dir.path());
        let refs = Refs(&root);
        let now_ms = 1_800_000_000_000;
        let oid = Oid::hash_object(git2::ObjectType::Blob, b"x").unwrap();
        let name = |kind: &str, age_days: u64, n: u64| {
            format!("refs/rekindle/{kind}/{}", TurnId::new(now_ms - age_days * DAY_MS - n, 1))
        };
        let put =
            |name: &str| root.write(format!(".git/{name}").as_bytes(), format!("{oid}\n").as_bytes(), 0o644).unwrap();
        for n in 0..60 {
            put(&name("agent", 30, n));
        }
        put(&(name("agent", 30, 59) + ".2"));
        for n in 0..510 {
            put(&name("interrupted", 1, n));
        }
        for n in 0..100 {
            put(&name("merge", 6, n));
        }
        let lines: String = (0..60).map(|n| format!("{oid} {}\n", name("pending", 30, n))).collect();
        let lines = lines + &format!("{oid} {}\n", name("agent", 40, 0));
        root.write(b".git/packed-refs", lines.as_bytes(), 0o644).unwrap();
        put("refs/rekindle/agent/somebody-elses");

        let pruned = prune(&root, now_ms, &|| false).unwrap();
        assert_eq!(pruned.len(), 10 + 1 + 1 + 10, "{pruned:#?}");
        assert_eq!(refs.get(&name("agent", 30, 49)).unwrap(), Some(oid));
        assert_eq!(refs.get(&name("agent", 30, 50)).unwrap(), None);
        assert_eq!(refs.get(&(name("agent", 30, 59) + ".2")).unwrap(), None);
        assert_eq!(refs.get(&name("agent", 40, 0)).unwrap(), None, "packed ones too");
        assert_eq!(refs.get(&name("interrupted", 1, 499)).unwrap(), Some(oid));
        assert_eq!(refs.get(&name("interrupted", 1, 500)).unwrap(), None, "however young");
        assert_eq!(refs.get(&name("merge", 6, 99)).unwrap(), Some(oid), "young ones are kept");
        assert_eq!(refs.get("refs/rekindle/agent/somebody-elses").unwrap(), Some(oid));
        assert_eq!(refs.get(&name("pending", 30, 59)).unwrap(), Some(oid));
        assert!(prune(&root, now_ms, &|| false).unwrap().is_empty());
    }

    #[test]
    fn half_written_files_are_left_for_an_hour() {
        let dir = tempfile::tempdir().unwrap();
        let root = repository(dir.path());
        for path in ["tmp_object_git2_a", "pack/tmp_pack_b", "pack/pack-c.pack"] {
            root.write(format!(".git/objects/{path}").as_bytes(), b"x", 0o444).unwrap();
        }
        for kept in ["pack/pack-d.pack", "pack/pack-d.idx", "aa/bbbb"] {
            root.write(format!(".git/objects/{kept}").as_bytes(), b"x", 0o444).unwrap();
        }
        assert_eq!(sweep_half_written(&root, HALF_WRITTEN_NS).unwrap(), 0);
        // Nobody can make a ctime older than it is: so these are told to be old already.
        assert_eq!(sweep_half_written(&root, -HALF_WRITTEN_NS).unwrap(), 3);
        let left = |path: &str| dir.path().join(".git/objects").join(path).exists();
        assert!(left("pack/pack-d.pack") && left("pack/pack-d.idx") && left("aa/bbbb"));
        assert!(!left("tmp_object_git2_a") && !left("pack/tmp_pack_b") && !left("pack/pack-c.pack"));
    }
}
