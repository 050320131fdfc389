//! Putting a repository in order between turns: locks of dead processes, half-done merges, traps among the objects.

use std::os::fd::{AsFd, BorrowedFd};

use git2::Oid;
use rustix::fs::{AtFlags, Dir, FileType, statat};

use crate::error::{Doing, Result};
use crate::refs::Refs;
use crate::root::{Root, open_dir_at};
use crate::store::Store;

/// Files that say that an operation is under way which the next commit ends (git's `remove_merge_branch_state`).
const MERGE_STATE: [&str; 7] =
    ["MERGE_HEAD", "MERGE_MODE", "MERGE_MSG", "AUTO_MERGE", "CHERRY_PICK_HEAD", "REVERT_HEAD", "SQUASH_MSG"];
/// The same, for operations of several commits.
const SEQUENCE_STATE: [&str; 4] = ["rebase-merge", "rebase-apply", "sequencer", "REBASE_HEAD"];

const PACKS_INDEX: &[u8] = b".git/objects/pack/multi-pack-index";

/// Removes what dead processes left locked and what would hold up or mislead a reader of the objects.
/// Nothing else is alive in the workspace when this runs.
pub(crate) fn sweep(root: &Root, notices: &mut Vec<String>) -> Result<()> {
    let mut locks = Refs(root).locks_below(b".git/refs");
    for name in ["index.lock", "HEAD.lock", "packed-refs.lock", "config.lock", "shallow.lock"] {
        locks.push(format!(".git/{name}").into_bytes());
    }
    for lock in locks {
        if root.stat(&lock).doing(|| "look for stale locks".into())?.is_some() {
            root.remove(&lock).doing(|| "remove a stale lock".into())?;
            notices.push(format!("removed the stale lock {}", String::from_utf8_lossy(&lock)));
        }
    }
    root.make_dir(b".git/refs/heads").doing(|| "make refs/heads".into())?;
    sweep_packs(root, notices)?;
    // It says which pack has what, and a forged one hides packs from libgit2. Git does without it, or makes it anew.
    if root.stat(PACKS_INDEX).doing(|| "look at the packs".into())?.is_some() {
        root.remove(PACKS_INDEX).doing(|| "remove the packs' common index".into())?;
        notices.push(format!("removed {}, which need not be true", String::from_utf8_lossy(PACKS_INDEX)));
    }
    Ok(())
}

/// What is neither folder nor file among the objects' folders and the packs, of which any may be opened by any read. The
/// objects themselves are looked at one by one when they are read (`Store`), for their number grows with every turn.
fn sweep_packs(root: &Root, notices: &mut Vec<String>) -> Result<()> {
    sweep_folders(root, |folder| folder.len() != 2, notices)
}

/// The same among all objects, for a reader who is less careful.
pub(crate) fn sweep_objects(root: &Root, notices: &mut Vec<String>) -> Result<()> {
    sweep_folders(root, |_| true, notices)
}

/// What is among all objects and is none: a reader who may not remove it had better read nothing.
pub(crate) fn strange_objects(root: &Root) -> Result<Vec<Vec<u8>>> {
    strange_in_folders(root, |_| true)
}

fn sweep_folders(root: &Root, wanted: fn(&[u8]) -> bool, notices: &mut Vec<String>) -> Result<()> {
    for path in strange_in_folders(root, wanted)? {
        root.remove(&path).doing(|| "remove what is no object".into())?;
        notices.push(format!("removed {}, which is no regular file", String::from_utf8_lossy(&path)));
    }
    Ok(())
}

fn strange_in_folders(root: &Root, wanted: fn(&[u8]) -> bool) -> Result<Vec<Vec<u8>>> {
    let objects = root.dir(b".git/objects").doing(look)?;
    let mut strange = Vec::new();
    for folder in sweep_folder(objects.as_fd(), b"", &mut strange).doing(look)? {
        if wanted(&folder) {
            let dir = open_dir_at(objects.as_fd(), &folder).doing(look)?;
            sweep_folder(dir.as_fd(), &folder, &mut strange).doing(look)?;
        }
    }
    Ok(strange.into_iter().map(|path| [b".git/objects/", path.as_slice()].concat()).collect())
}

fn look() -> String {
    "look through the objects".into()
}

/// Answers the folders in it, and adds what is neither folder nor file to `strange`.
fn sweep_folder(dir: BorrowedFd<'_>, at: &[u8], strange: &mut Vec<Vec<u8>>) -> rustix::io::Result<Vec<Vec<u8>>> {
    let mut folders = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let kind = match entry.file_type() {
            FileType::Unknown => FileType::from_raw_mode(statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?.st_mode),
            kind => kind,
        };
        match (kind, name.to_bytes()) {
            // A file where objects or packs have their folder keeps any from being written.
            (FileType::RegularFile, name) if at.is_empty() && is_folder_name(name) => strange.push(name.to_vec()),
            (FileType::RegularFile, _) | (_, b"." | b"..") => {}
            (FileType::Directory, name) => folders.push(name.to_vec()),
            (_, name) if at.is_empty() => strange.push(name.to_vec()),
            (_, name) => strange.push([at, b"/", name].concat()),
        }
    }
    Ok(folders)
}

fn is_folder_name(name: &[u8]) -> bool {
    matches!(name, b"pack" | b"info") || (name.len() == 2 && name.iter().all(u8::is_ascii_hexdigit))
}

/// Removes an alternates file or the like that a turn left: with it the repository would not stand on its own.
pub(crate) fn remove_borrowing(root: &Root, notices: &mut Vec<String>) -> Result<()> {
    for name in ["objects/info/alternates", "objects/info/http-alternates", "commondir"] {
        let path = format!(".git/{name}");
        if root.stat(path.as_bytes()).doing(|| format!("look at {path}"))?.is_some() {
            root.remove(path.as_bytes()).doing(|| format!("remove {path}"))?;
            notices.push(format!("removed {path}: a workspace's repository must stand on its own"));
        }
    }
    Ok(())
}

/// Ends a merge, cherry-pick or revert that is under way; what was being merged in is kept on `keep`.
pub(crate) fn end_merge(root: &Root, store: &Store<'_>, keep: &str, notices: &mut Vec<String>) -> Result<()> {
    let merging = root.read(b".git/MERGE_HEAD", 1 << 16).ok().flatten().unwrap_or_default();
    let first = String::from_utf8_lossy(&merging).lines().next().and_then(|line| Oid::from_str(line.trim()).ok());
    let mut removed = Vec::new();
    for name in MERGE_STATE {
        let path = format!(".git/{name}");
        if root.stat(path.as_bytes()).doing(|| format!("look at {path}"))?.is_some() {
            if name == "MERGE_HEAD"
                && let Some(oid) = first.filter(|oid| store.has_commit(*oid))
            {
                Refs(root).set(keep, oid)?;
                notices.push(format!("a merge of {oid} was in progress and is ended; that commit is kept on {keep}"));
            }
            root.remove(path.as_bytes()).doing(|| format!("remove {path}"))?;
            removed.push(name);
        }
    }
    if !removed.is_empty() {
        notices.push(format!("removed the state of an unfinished operation: {}", removed.join(", ")));
    }
    Ok(())
}

/// Which operations of several commits are under way.
pub(crate) fn sequences(root: &Root) -> Vec<&'static str> {
    let there = |name: &&str| root.stat(format!(".git/{name}").as_bytes()).is_ok_and(|found| found.is_some());
    SEQUENCE_STATE.into_iter().filter(there).collect()
}

/// Ends those which were not under way when the turn began: HEAD is put back from under them.
pub(crate) fn end_sequences(root: &Root, before: &[String], notices: &mut Vec<String>) -> Result<()> {
    for name in sequences(root) {
        if !before.iter().any(|b| b == name) {
            root.remove(format!(".git/{name}").as_bytes()).doing(|| format!("remove .git/{name}"))?;
            notices.push(format!("ended an unfinished operation of the turn: {name}"));
        }
    }
    Ok(())
}
