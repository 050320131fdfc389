//! What a turn may find in the place of a workspace.

use std::fs;
use std::path::PathBuf;

use contract::Mode;

use crate::fixture::{Place, turn_id};

#[test]
fn a_missing_folder_is_unusable() {
    let place = Place::new();
    fs::remove_dir(&place.ws).unwrap();
    let why = place.unusable();
    assert!(why.contains("does not exist") && why.contains("create it"), "{why}");
}

#[test]
fn a_file_is_unusable() {
    let place = Place::new();
    fs::remove_dir(&place.ws).unwrap();
    fs::write(&place.ws, "x").unwrap();
    let why = place.unusable();
    assert!(why.contains("is a file"), "{why}");
}

#[test]
fn a_read_only_folder_is_unusable() {
    // Root may write everywhere else; here nobody can make a folder.
    let mut place = Place::new();
    place.ws = PathBuf::from("/proc/self/fdinfo");
    let why = place.unusable();
    assert!(why.contains("read-only"), "{why}");
}

#[test]
fn a_read_only_mount_is_not_opened() {
    let place = Place::new();
    let mut mounted = place.mounted();
    mounted.mode = Mode::Ro;
    let unit =
        workspace::Unit { uid: contract::UnitId::parse(crate::fixture::UID).unwrap(), generation: Default::default() };
    let error = workspace::Workspace::open(&mounted, &unit, Default::default()).err().unwrap();
    assert!(error.to_string().contains("`ro`"), "{error}");
    assert!(!place.exists(".git"));
}

#[test]
fn an_empty_folder_becomes_a_repository_with_a_commit() {
    let place = Place::new();
    place.open();
    assert_eq!(place.log(), ["Begin"]);
    assert_eq!(place.git(&["symbolic-ref", "HEAD"]), "refs/heads/main");
    place.assert_clean();
    assert!(fs::read_dir(place.path(".git/hooks")).is_err(), "no hooks are made");
}

#[test]
fn files_of_a_folder_without_a_repository_are_committed_as_from_outside() {
    let mut place = Place::new();
    place.write("notes/a.md", "hello\n");
    let ran = place.turn(1, |_| {});
    assert_eq!(ran.outside.unwrap().insertions, 1);
    assert!(ran.commit.is_none());
    assert_eq!(place.log(), ["Changes from outside", "Begin"]);
    assert_eq!(place.git(&["log", "-1", "--format=%(trailers:key=Trigger,valueonly)"]).trim(), "outside");
    place.assert_clean();
}

#[test]
fn a_repository_without_a_commit_keeps_its_branch() {
    let place = Place::new();
    place.git(&["init", "-q", "-b", "trunk"]);
    place.write("a", "x");
    place.begin(1);
    assert_eq!(place.git(&["symbolic-ref", "--short", "HEAD"]), "trunk");
    assert_eq!(place.log(), ["Changes from outside", "Begin"]);
    place.assert_clean();
}

#[test]
fn unreadable_packed_refs_are_unusable() {
    let place = Place::with_repository();
    place.git(&["pack-refs", "--all"]);
    place.open();
    for content in [&b"\xff\xfe\x00 garbage"[..], b"short line\n", b"nothex refs/heads/main\n"] {
        fs::write(place.path(".git/packed-refs"), content).unwrap();
        let why = place.unusable();
        assert!(why.contains("packed-refs") && why.contains("git fsck"), "{why}");
    }
    fs::remove_file(place.path(".git/packed-refs")).unwrap();
    fs::create_dir(place.path(".git/packed-refs")).unwrap();
    let why = place.unusable();
    assert!(why.contains("not a file"), "{why}");
}

#[test]
fn a_packed_branch_is_found() {
    let mut place = Place::with_repository();
    place.git(&["pack-refs", "--all"]);
    place.git(&["gc", "-q"]);
    let ran = place.turn(1, |p| p.write("b", "2"));
    assert!(ran.commit.is_some());
    assert_eq!(place.log(), ["turn 1", "first"]);
    place.assert_clean();
}

#[test]
fn what_does_not_stand_on_its_own_is_unusable() {
    let place = Place::with_repository();
    fs::write(place.path(".git/objects/info/alternates"), "/elsewhere\n").unwrap();
    assert!(place.unusable().contains("git repack"));

    let place = Place::with_repository();
    fs::rename(place.path(".git"), place.dir.path().join("real")).unwrap();
    place.write(".git", format!("gitdir: {}\n", place.dir.path().join("real").display()));
    assert!(place.unusable().contains("is a file that points"));

    fs::remove_file(place.path(".git")).unwrap();
    std::os::unix::fs::symlink(place.dir.path().join("real"), place.path(".git")).unwrap();
    assert!(place.unusable().contains("neither a folder nor a file"));
}

#[test]
fn another_hash_or_ref_store_is_unusable() {
    for (key, value) in [("objectFormat", "sha256"), ("refStorage", "reftable")] {
        let place = Place::with_repository();
        place.git(&["config", "core.repositoryFormatVersion", "1"]);
        place.git(&["config", &format!("extensions.{key}"), value]);
        assert!(place.unusable().contains("not supported"));
    }
}

#[test]
fn a_missing_or_damaged_tip_is_unusable() {
    let place = Place::with_repository();
    let head = place.head();
    let object = place.path(&format!(".git/objects/{}/{}", &head[..2], &head[2..]));
    fs::remove_file(&object).unwrap();
    assert!(place.unusable().contains("git fsck"));
    fs::write(&object, "rubbish").unwrap();
    assert!(place.unusable().contains("git fsck"));
    fs::write(place.path(".git/refs/heads/main"), "rubbish").unwrap();
    assert!(place.unusable().contains("neither a commit nor a ref"));
}

#[test]
fn stale_locks_are_removed_and_told() {
    let mut place = Place::with_repository();
    for lock in ["index.lock", "HEAD.lock", "refs/heads/main.lock", "packed-refs.lock"] {
        fs::write(place.path(".git").join(lock), "").unwrap();
    }
    let ran = place.turn(1, |p| p.write("b", "2"));
    assert_eq!(ran.begin_notices.iter().filter(|n| n.contains("stale lock")).count(), 4);
    assert!(ran.commit.is_some());
    place.assert_clean();
}

#[test]
fn a_merge_in_progress_is_ended_and_its_other_side_kept() {
    let mut place = Place::with_repository();
    place.git(&["checkout", "-qb", "other"]);
    place.write("a.txt", "other\n");
    place.git(&["commit", "-qam", "other side"]);
    let other = place.head();
    place.git(&["checkout", "-q", "main"]);
    place.write("a.txt", "mine\n");
    place.git(&["commit", "-qam", "my side"]);
    assert!(!place.try_git(&place.ws, &["merge", "other"]).0, "it must conflict");
    assert!(place.exists(".git/MERGE_HEAD"));
    let tip = place.head();
    let ran = place.turn(1, |p| p.write("a.txt", "both\n"));
    assert!(ran.begin_notices.iter().any(|n| n.contains("merge of")), "{:?}", ran.begin_notices);
    assert!(!place.exists(".git/MERGE_HEAD") && !place.exists(".git/MERGE_MSG"));
    assert_eq!(place.git(&["rev-parse", &format!("refs/rekindle/merge/{}", turn_id(1))]), other);
    assert_eq!(place.git(&["log", "-2", "--format=%P"]).lines().last().unwrap(), tip, "single parents");
    assert_eq!(place.log(), ["turn 1", "Changes from outside", "my side", "first"]);
    place.assert_clean();
}

#[test]
fn a_detached_head_moves_by_itself() {
    let mut place = Place::with_repository();
    place.git(&["checkout", "-q", "--detach"]);
    let ran = place.turn(1, |p| p.write("b", "2"));
    let commit = ran.commit.unwrap();
    assert_eq!(commit.branch, "HEAD");
    assert_eq!(place.head(), commit.sha);
    assert!(!place.try_git(&place.ws, &["symbolic-ref", "HEAD"]).0, "still detached");
    assert_eq!(place.git(&["log", "--format=%s", "main"]), "first");
    place.assert_clean();
}
