//! Turns that break rules or lay traps.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use workspace::WorkspaceError;

use crate::fixture::{Place, UID, meta, turn_id};

const GOOD: &str = "---\ntype: person\nid: p1\ntitle: Ada\n---\n";

fn mkfifo(path: &Path) {
    rustix::fs::mkfifoat(rustix::fs::CWD, path, 0o644.into()).unwrap();
}

#[test]
fn what_breaks_a_rule_is_put_back_and_told() {
    let mut place = Place::with_repository();
    place.limits.max_file_bytes = 1000;
    place.write("kg/entities/ada.md", GOOD);
    place.write("big", "small");
    let ran = place.turn(1, |p| {
        p.write("kg/entities/ada.md", "no front matter");
        p.write("kg/entities/new.md", "---\ntype: x\n---\n");
        p.write("kg/entities/index.md", "free");
        p.write("big", vec![b'x'; 1001]);
        p.write("new-big", vec![b'x'; 5000]);
        p.write("deep/.GIT/config", "x");
        p.write("fine", "y");
    });
    let paths: Vec<&str> = ran.finished.reverted.iter().map(|r| r.path.as_str()).collect();
    assert_eq!(paths, ["big", "deep/.GIT", "kg/entities/ada.md", "kg/entities/new.md", "new-big"]);
    assert!(ran.finished.reverted[2].reason.contains("front matter"));
    assert_eq!(place.read("kg/entities/ada.md"), GOOD);
    assert_eq!(place.read("big"), "small");
    assert!(!place.exists("new-big") && !place.exists("deep") && !place.exists("kg/entities/new.md"));
    assert_eq!(ran.commit.unwrap().files, 2);
    place.assert_clean();
}

#[test]
fn people_may_break_rules_and_are_told() {
    let mut place = Place::with_repository();
    place.limits.max_file_bytes = 1000;
    place.write("huge", vec![b'x'; 2000]);
    place.write("kg/entities/x.md", "free text");
    place.write("a.txt", vec![b'y'; 3000]);
    let ran = place.turn(1, |p| p.write("b", "2"));
    let paths: Vec<&str> = ran.violations.iter().map(|r| r.path.as_str()).collect();
    assert_eq!(paths, ["a.txt", "huge", "kg/entities/x.md"]);
    assert!(ran.finished.reverted.is_empty(), "{:?}", ran.finished.reverted);
    assert_eq!(fs::metadata(place.path("huge")).unwrap().len(), 2000);
    assert_eq!(fs::metadata(place.path("a.txt")).unwrap().len(), 3000, "left in place");
    assert_eq!(place.git(&["show", "HEAD:a.txt"]), "one", "not committed");
    assert_eq!(place.git(&["show", "HEAD:kg/entities/x.md"]), "free text");
    assert_eq!(place.git(&["show", "--name-only", "--format=", "HEAD"]), "b");
}

#[test]
fn too_many_files_or_bytes_are_put_back() {
    let mut place = Place::with_repository();
    place.limits.max_files = 10;
    place.limits.max_changed_bytes = 2000;
    let ran = place.turn(1, |p| {
        for n in 0..30 {
            p.write(&format!("n{n:02}"), "x");
        }
    });
    assert_eq!(ran.finished.reverted.len(), 21);
    assert_eq!(place.git(&["ls-tree", "-r", "--name-only", "HEAD"]).lines().count(), 10);
    let ran = place.turn(2, |p| {
        p.write("a.txt", vec![b'x'; 1500]);
        p.write("n00", vec![b'x'; 1500]);
        p.write("n01", "small");
    });
    assert_eq!(ran.finished.reverted.len(), 1);
    assert_eq!(place.read("n00"), "x");
    assert_eq!(ran.commit.unwrap().files, 2);
    place.assert_clean();
}

#[test]
fn what_is_too_much_for_one_turn_is_not_even_read() {
    let mut place = Place::with_repository();
    place.limits.max_changed_bytes = 10_000;
    let ran = place.turn(1, |p| (0..100_u8).for_each(|n| p.write(&format!("f{n:02}"), vec![n; 1000])));
    assert_eq!(ran.finished.reverted.len(), 90);
    assert!(ran.finished.reverted.iter().all(|r| r.reason.contains("10000 bytes")));
    assert_eq!(ran.commit.unwrap().files, 10);
    assert_eq!(place.git(&["count-objects"]).split(' ').next().unwrap().parse::<u32>().unwrap(), 3 + 12);
    place.assert_clean();
}

#[test]
fn ignored_files_have_limits_of_size_and_number() {
    let mut place = Place::with_repository();
    place.limits.max_ignored_bytes = 1000;
    place.limits.max_ignored_files = 5;
    place.write(".gitignore", "cache/\n");
    place.write("cache/old", vec![b'o'; 900]);
    let ran = place.turn(1, |p| {
        p.write("cache/new", vec![b'n'; 500]);
        p.write("cache/little", "l");
    });
    assert_eq!(ran.finished.reverted.len(), 1);
    assert!(!place.exists("cache/new") && place.exists("cache/old") && place.exists("cache/little"));
    let ran = place.turn(2, |p| (0..20).for_each(|n| p.write(&format!("cache/{n}"), "")));
    assert_eq!(ran.finished.reverted.len(), 17);
}

#[test]
fn special_files_are_skipped_and_never_opened() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        mkfifo(&p.path("fifo"));
        mkfifo(&p.path(".gitignore"));
        let socket = std::os::unix::net::UnixListener::bind(p.path("sock")).unwrap();
        drop(socket);
        p.write("b", "2");
    });
    assert_eq!(ran.finished.notices.iter().filter(|n| n.contains("neither file")).count(), 3);
    assert_eq!(ran.commit.unwrap().files, 1);
}

#[test]
fn the_agents_own_settings_decide_nothing() {
    let mut place = Place::with_repository();
    let trap = place.dir.path().join("trapped");
    let touch = format!("touch {}", trap.display());
    let ran = place.turn(1, |p| {
        p.write(".git/info/exclude", "*\n");
        p.write(".gitattributes", "* filter=evil text eol=crlf ident diff=evil\n");
        for (key, value) in [
            ("filter.evil.clean", touch.as_str()),
            ("filter.evil.smudge", touch.as_str()),
            ("diff.evil.command", touch.as_str()),
            ("core.fsmonitor", touch.as_str()),
            ("core.autocrlf", "true"),
            ("core.worktree", "/tmp"),
            ("core.bare", "true"),
            ("core.excludesFile", "/dev/zero"),
            ("include.path", "/dev/zero"),
        ] {
            p.write(
                ".git/config",
                format!(
                    "{}[{}]\n\t{} = \"{value}\"\n",
                    p.read(".git/config"),
                    key.rsplit_once('.')
                        .map(|(s, _)| s.split_once('.').map_or(s.to_owned(), |(a, b)| format!("{a} \"{b}\"")))
                        .unwrap(),
                    key.rsplit_once('.').unwrap().1
                ),
            );
        }
        for hook in ["pre-commit", "post-commit", "reference-transaction", "post-checkout"] {
            p.write(&format!(".git/hooks/{hook}"), format!("#!/bin/sh\n{touch}\n"));
            p.chmod(&format!(".git/hooks/{hook}"), 0o755);
        }
        p.write(".git/index", "rubbish");
        p.write("crlf", "a\r\n$Id$\n");
    });
    assert!(!trap.exists());
    let sha = ran.commit.unwrap().sha;
    fs::write(place.path(".git/config"), "[core]\n\trepositoryformatversion = 0\n").unwrap();
    assert_eq!(place.git(&["cat-file", "-p", &format!("{sha}:crlf")]), "a\r\n$Id$");
}

#[test]
fn traps_among_the_objects_hold_nothing_up() {
    let mut place = Place::with_repository();
    let hello = "ce013625030ba8dba906f756967f9e9ca394464a";
    let ran = place.turn(1, |p| {
        fs::create_dir_all(p.path(".git/objects/ce")).unwrap();
        mkfifo(&p.path(&format!(".git/objects/ce/{}", &hello[2..])));
        symlink("/dev/zero", p.path(".git/objects/pack/x.idx")).unwrap();
        fs::write(p.path(".git/objects/info/alternates"), "/elsewhere\n").unwrap();
        p.write("hello", "hello\n");
        // A damaged object in the place of one that will be needed.
        fs::create_dir_all(p.path(".git/objects/58")).unwrap();
        fs::write(p.path(".git/objects/58/7be6b4c3f93f93c489c0111bba5596147a26cb"), "rubbish").unwrap();
        p.write("x", "x\n");
    });
    assert_eq!(ran.finished.notices.iter().filter(|n| n.contains("no regular file")).count(), 2);
    assert!(ran.finished.notices.iter().any(|n| n.contains("alternates")));
    assert_eq!(place.git(&["show", "HEAD:hello"]), "hello");
    place.assert_clean();
}

#[test]
fn without_its_repository_a_turn_is_unusable_and_the_tree_is_kept() {
    let mut place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    place.write("b", "2");
    fs::remove_dir_all(place.path(".git")).unwrap();
    let error = workspace.finish(&begun.baseline, &meta(1)).unwrap_err();
    assert!(matches!(&error, WorkspaceError::Unusable { why } if why.contains("removed `.git`")), "{error}");
    assert!(matches!(workspace.interrupt(&begun.baseline, &meta(1)), Err(WorkspaceError::Unusable { .. })));
    assert!(place.exists("a.txt") && place.exists("b") && !place.exists(".git"));
    // The next turn begins a new history with everything that is there.
    drop(workspace);
    place.turn(2, |p| p.write("c", "3"));
    assert_eq!(place.log(), ["turn 2", "Changes from outside", "Begin"]);
    place.assert_clean();
}

#[test]
fn a_repository_made_anew_by_the_agent_is_unusable() {
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    fs::remove_dir_all(place.path(".git")).unwrap();
    place.git(&["init", "-q"]);
    let error = workspace.finish(&begun.baseline, &meta(1)).unwrap_err();
    assert!(matches!(&error, WorkspaceError::Unusable { why } if why.contains("is gone")), "{error}");
}

#[test]
fn folders_in_the_way_of_refs_are_cleared() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        p.write("b", "2");
        fs::create_dir_all(p.path(&format!(".git/refs/rekindle/pending/{UID}/x"))).unwrap();
        fs::write(p.path(".git/HEAD"), "rubbish").unwrap();
        fs::remove_file(p.path(".git/refs/heads/main")).unwrap();
        symlink("/etc/hostname", p.path(".git/refs/heads/main")).unwrap();
    });
    assert_eq!(place.head(), ran.commit.unwrap().sha);
    assert_eq!(fs::read_to_string("/etc/hostname").unwrap().lines().count(), 1, "not written through");
    assert!(fs::symlink_metadata(place.path(".git/refs/heads/main")).unwrap().is_file());
    place.assert_clean();
}

#[test]
fn a_tree_deeper_than_there_are_descriptors_is_taken_apart() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        use rustix::fs::{Mode, OFlags};
        let mut at = rustix::fs::open(&p.ws, OFlags::DIRECTORY, Mode::empty()).unwrap();
        for _ in 0..3000 {
            rustix::fs::mkdirat(&at, "d", Mode::RWXU).unwrap();
            at = rustix::fs::openat(&at, "d", OFlags::DIRECTORY, Mode::empty()).unwrap();
        }
        p.write("b", "2");
    });
    assert_eq!(ran.finished.reverted.len(), 1);
    assert!(ran.finished.reverted[0].reason.contains("deep"));
    assert_eq!(ran.commit.unwrap().files, 1);
}

#[test]
fn a_folder_that_nobody_may_enter_is_opened_up() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        p.write("closed/x", "1");
        p.chmod("closed/x", 0);
        p.chmod("closed", 0);
    });
    assert_eq!(ran.commit.unwrap().files, 1);
    assert_eq!(place.git(&["show", "HEAD:closed/x"]), "1");
}

#[test]
fn a_forged_note_cannot_lose_commits() {
    let place = Place::with_repository();
    let (workspace, _) = place.begin(1);
    drop(workspace);
    let first = place.head();
    place.write("b", "2");
    place.git(&["add", "."]);
    place.git(&["commit", "-qm", "agent"]);
    let theirs = place.head();
    let note = place.read(".git/rekindle/turn.json");
    assert!(note.contains(&first));
    let mut workspace = place.open();
    let recovered = workspace.recover(&turn_id(1), None).unwrap();
    assert_eq!(place.head(), first);
    assert_eq!(place.git(&["rev-parse", &recovered.agent_commits[0]]), theirs);
}
