//! Turns that run to their end.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;

use workspace::{StateDir, WalkCache};

use crate::fixture::{Place, UID, meta, turn_id};

#[test]
fn a_turn_becomes_one_commit() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        p.write("notes.md", "a\nb\n");
        p.write("a.txt", "two\n");
        p.write("run.sh", "#!/bin/sh\n");
        p.chmod("run.sh", 0o755);
        symlink("notes.md", p.path("link")).unwrap();
    });
    let commit = ran.commit.unwrap();
    assert_eq!((commit.files, commit.deletions), (4, 1));
    assert_eq!(commit.insertions, 5);
    assert_eq!(commit.branch, "refs/heads/main");
    assert_eq!(place.head(), commit.sha);
    let format = "--format=%an <%ae>|%cn <%ce>|%s|%(trailers:only,separator=%x7C)";
    let turn = turn_id(1);
    assert_eq!(
        place.git(&["log", "-1", format]),
        format!(
            "Ada <ada@example.org>|Rekindle <rekindle@localhost>|turn 1|Unit: {UID}|Turn: {turn}|Generation: 7|Trigger: message"
        )
    );
    let tree = place.git(&["ls-tree", "-r", "HEAD"]);
    for (mode, name) in [("100644", "a.txt"), ("120000", "link"), ("100644", "notes.md"), ("100755", "run.sh")] {
        assert!(tree.lines().any(|l| l.starts_with(mode) && l.ends_with(name)), "{tree}");
    }
    assert!(place.refs("refs/rekindle").is_empty(), "the pin is dropped");
    place.assert_clean();
}

#[test]
fn an_empty_turn_makes_no_commit() {
    let mut place = Place::with_repository();
    let head = place.head();
    let ran = place.turn(1, |p| p.write("a.txt", "one\n"));
    assert!(ran.commit.is_none() && ran.outside.is_none());
    assert_eq!(place.head(), head);
    place.assert_clean();
}

#[test]
fn people_and_agent_are_kept_apart() {
    let mut place = Place::with_repository();
    place.write("person.txt", "p");
    place.git(&["add", "."]);
    let ran = place.turn(1, |p| p.write("agent.txt", "a"));
    assert_eq!(ran.outside.unwrap().files, 1);
    assert_eq!(place.log(), ["turn 1", "Changes from outside", "first"]);
    assert_eq!(place.git(&["show", "--name-only", "--format=", "HEAD"]), "agent.txt");
    assert_eq!(place.git(&["show", "--name-only", "--format=", "HEAD^"]), "person.txt");
    place.assert_clean();
}

#[test]
fn ignored_files_stay_and_tracked_ones_count_though_ignored() {
    let mut place = Place::with_repository();
    place.write(".gitignore", "*.log\nout/\n");
    place.write("kept.log", "1");
    place.git(&["add", "-f", "."]);
    place.git(&["commit", "-qm", "ignore"]);
    let ran = place.turn(1, |p| {
        p.write("x.log", "ignored");
        p.write("out/deep/file", "ignored");
        p.write("kept.log", "2");
        p.write("sub/.gitignore", "!y.log\n");
        p.write("sub/y.log", "seen");
    });
    assert_eq!(ran.commit.unwrap().files, 3);
    let names = place.git(&["ls-tree", "-r", "--name-only", "HEAD"]);
    assert_eq!(names, ".gitignore\na.txt\nkept.log\nsub/.gitignore\nsub/y.log");
    assert!(place.exists("x.log") && place.exists("out/deep/file"));
    place.assert_clean();
}

#[test]
fn a_star_in_gitignore_does_not_delete_what_is_tracked() {
    let mut place = Place::with_repository();
    place.turn(1, |p| p.write(".gitignore", "*\n"));
    let names = place.git(&["ls-tree", "-r", "--name-only", "HEAD"]);
    assert_eq!(names, "a.txt", "the new .gitignore ignores itself");
    place.assert_clean();
}

#[test]
fn names_of_any_bytes_are_committed() {
    let mut place = Place::with_repository();
    let names: [&[u8]; 6] =
        [b"new\nline", b"\xff\xfe\x01", &[b'n'; 255], b"-rf", b" lead and trail ", "sn\u{f6}w \u{2603}".as_bytes()];
    place.turn(1, |p| {
        for name in names {
            fs::write(p.ws.join(OsStr::from_bytes(name)), name).unwrap();
        }
        p.write("back\\slash", "");
    });
    let listed = place.git(&["ls-tree", "-z", "--name-only", "HEAD"]);
    assert_eq!(listed.split_terminator('\0').count(), 8);
    place.assert_clean();
}

#[test]
fn a_file_becomes_a_folder_and_a_folder_a_link() {
    let mut place = Place::with_repository();
    place.turn(1, |p| p.write("d/x", "1"));
    let outside = place.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "s").unwrap();
    place.turn(2, |p| {
        fs::remove_file(p.path("a.txt")).unwrap();
        p.write("a.txt/inner", "2");
        fs::remove_dir_all(p.path("d")).unwrap();
        symlink(&outside, p.path("d")).unwrap();
    });
    let tree = place.git(&["ls-tree", "-r", "HEAD"]);
    assert!(tree.contains("a.txt/inner") && tree.contains("120000") && !tree.contains("secret"), "{tree}");
    place.assert_clean();
}

#[test]
fn a_virtual_environment_full_of_links_is_committed_as_links() {
    let mut place = Place::with_repository();
    place.turn(1, |p| {
        for dir in ["bin", "lib/python3.11/site-packages", "include"] {
            fs::create_dir_all(p.path("venv").join(dir)).unwrap();
        }
        symlink("/usr/bin/python3", p.path("venv/bin/python3")).unwrap();
        symlink("python3", p.path("venv/bin/python")).unwrap();
        symlink("lib", p.path("venv/lib64")).unwrap();
        symlink("../..", p.path("venv/lib/loop")).unwrap();
        symlink("/nowhere", p.path("venv/dangling")).unwrap();
        p.write("venv/pyvenv.cfg", "home = /usr/bin\n");
    });
    let tree = place.git(&["ls-tree", "-r", "HEAD", "venv"]);
    assert_eq!(tree.lines().filter(|l| l.starts_with("120000")).count(), 5, "{tree}");
    assert_eq!(tree.lines().count(), 6);
    place.assert_clean();
}

#[test]
fn a_nested_clone_counts_as_files_without_its_history() {
    let mut place = Place::with_repository();
    place.turn(1, |p| {
        fs::create_dir(p.path("vendor")).unwrap();
        let (ok, out) = p.try_git(&p.ws, &["clone", "-q", p.ws.to_str().unwrap(), "vendor/clone"]);
        assert!(ok, "{out}");
    });
    let tree = place.git(&["ls-tree", "-r", "HEAD"]);
    assert!(tree.contains("vendor/clone/a.txt") && !tree.contains("160000") && !tree.contains(".git/"), "{tree}");
    assert!(place.exists("vendor/clone/.git/HEAD"), "left where it is");
    let (ok, out) = place.try_git(&place.ws, &["fsck", "--strict"]);
    assert!(ok, "{out}");
}

#[test]
fn a_submodule_of_a_persons_is_left_as_it_is() {
    let mut place = Place::with_repository();
    let head = place.head();
    place.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{head},sub")]);
    place.git(&["commit", "-qm", "submodule"]);
    fs::create_dir(place.path("sub")).unwrap();
    let ran = place.turn(1, |p| {
        p.write("sub/inside", "not ours");
        p.write("b", "2");
    });
    assert_eq!(ran.commit.unwrap().files, 1);
    assert!(place.git(&["ls-tree", "HEAD", "sub"]).starts_with("160000"));
}

#[test]
fn an_agent_that_commits_gets_one_platform_commit_and_keeps_its_own() {
    let mut place = Place::with_repository();
    let before = place.head();
    let ran = place.turn(1, |p| {
        p.write("x", "1");
        p.git(&["add", "."]);
        p.git(&["commit", "-qm", "mine 1"]);
        p.write("x", "2");
        p.git(&["commit", "-qam", "mine 2"]);
        p.write("y", "uncommitted");
    });
    assert_eq!(ran.finished.agent_commits, [format!("refs/rekindle/agent/{}", turn_id(1))]);
    assert_eq!(place.log(), ["turn 1", "first"]);
    assert_eq!(place.git(&["rev-parse", "HEAD^"]), before);
    let theirs = place.git(&["log", "--format=%s", &ran.finished.agent_commits[0]]);
    assert_eq!(theirs, "mine 2\nmine 1\nfirst");
    assert_eq!(place.read("x"), "2");
    place.assert_clean();
}

#[test]
fn an_agent_that_checks_out_another_branch_finds_itself_back() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        p.git(&["checkout", "-qb", "elsewhere"]);
        p.write("x", "1");
        p.git(&["add", "."]);
        p.git(&["commit", "-qm", "on elsewhere"]);
    });
    assert_eq!(place.git(&["symbolic-ref", "--short", "HEAD"]), "main");
    assert_eq!(place.log(), ["turn 1", "first"]);
    assert_eq!(place.git(&["log", "-1", "--format=%s", "elsewhere"]), "on elsewhere");
    assert!(ran.finished.notices.iter().any(|n| n.contains("HEAD was put back")));
    place.assert_clean();
}

#[test]
fn an_agent_that_detaches_or_resets_loses_nothing() {
    let mut place = Place::with_repository();
    place.turn(1, |p| p.write("b", "2"));
    let tip = place.head();
    let ran = place.turn(2, |p| {
        p.git(&["checkout", "-q", "--detach"]);
        p.write("c", "3");
        p.git(&["add", "."]);
        p.git(&["commit", "-qm", "detached"]);
        p.git(&["branch", "-f", "main", "HEAD~2"]);
    });
    assert_eq!(place.git(&["rev-parse", "HEAD^"]), tip);
    assert_eq!(ran.finished.agent_commits.len(), 2, "{:?}", ran.finished.agent_commits);
    assert_eq!(place.log(), ["turn 2", "turn 1", "first"]);
    place.assert_clean();
}

#[test]
fn an_unfinished_rebase_of_the_agents_is_ended() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        p.git(&["checkout", "-qb", "side"]);
        p.write("a.txt", "side\n");
        p.git(&["commit", "-qam", "side"]);
        p.git(&["checkout", "-q", "main"]);
        p.write("a.txt", "main\n");
        p.git(&["commit", "-qam", "main"]);
        assert!(!p.try_git(&p.ws, &["rebase", "side"]).0);
        assert!(p.exists(".git/rebase-merge"));
        p.write("a.txt", "done\n");
    });
    assert!(!place.exists(".git/rebase-merge"));
    assert_eq!(place.git(&["symbolic-ref", "--short", "HEAD"]), "main");
    assert!(ran.finished.notices.iter().any(|n| n.contains("rebase-merge")));
    assert_eq!(place.log(), ["turn 1", "first"]);
    place.assert_clean();
}

#[test]
fn apply_refuses_when_the_tip_has_moved() {
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    place.write("b", "2");
    let finished = workspace.finish(&begun.baseline, &meta(1)).unwrap();
    let commit = finished.commit.unwrap();
    assert_eq!(place.log(), ["first"], "nothing has moved yet");
    assert_eq!(place.refs("refs/rekindle/pending"), [format!("refs/rekindle/pending/{UID}")]);
    place.git(&["commit", "-q", "--allow-empty", "-m", "meanwhile"]);
    let tip = place.head();
    let error = workspace.apply(&commit, &turn_id(1)).unwrap_err();
    assert!(error.to_string().contains("has moved") && !error.is_retryable(), "{error}");
    assert_eq!(place.head(), tip);
    assert_eq!(place.git(&["rev-parse", &format!("refs/rekindle/interrupted/{}", turn_id(1))]), commit.sha);
}

#[test]
fn apply_twice_is_once_and_a_forged_commit_is_never_applied() {
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    place.write("b", "2");
    let commit = workspace.finish(&begun.baseline, &meta(1)).unwrap().commit.unwrap();
    let tree = place.git(&["rev-parse", "HEAD^{tree}"]);
    let forged = place.git(&["commit-tree", "-p", "HEAD", "-m", "forged", &tree]);
    place.git(&["update-ref", &format!("refs/rekindle/pending/{UID}"), &forged]);
    let mut wrong = commit.clone();
    wrong.sha = forged;
    assert!(workspace.apply(&wrong, &turn_id(1)).unwrap_err().to_string().contains("does not name"));
    wrong.sha = tree;
    assert!(workspace.apply(&wrong, &turn_id(1)).unwrap_err().to_string().contains("not a commit"));
    assert!(workspace.apply(&commit, &turn_id(2)).is_err(), "another turn's");
    assert_eq!(place.log(), ["first"]);
    for _ in 0..2 {
        assert_eq!(workspace.apply(&commit, &turn_id(1)).unwrap().sha, commit.sha);
    }
    assert_eq!(place.log(), ["turn 1", "first"]);
    place.assert_clean();
}

#[test]
fn sessions_of_another_system_get_into_no_commit() {
    let mut place = Place::with_repository();
    place.write(".claude/.session", "sid");
    place.write(".claude/projects/-x/sid.jsonl", "{}");
    place.write(".claude/settings.json", "{}");
    let ran = place.turn(1, |p| p.write(".claude/projects/-x/sid.jsonl", "{}{}"));
    assert!(ran.commit.is_none());
    assert_eq!(place.git(&["ls-tree", "-r", "--name-only", "HEAD"]), ".claude/settings.json\na.txt");
    let legacy = workspace::legacy_session(&place.ws).unwrap();
    assert_eq!(legacy.session_id, "sid");
}

#[test]
fn the_cache_saves_reading_and_a_wrong_hash_reads_all() {
    let mut place = Place::with_repository();
    for n in 0..50 {
        place.write(&format!("d/{n}"), n.to_string());
    }
    place.turn(1, |_| {});
    let hash = place.cache.save(&place.state).unwrap();
    let state = StateDir::open(place.state.path()).unwrap();
    place.cache = WalkCache::load(&state, Some(&hash));
    // Written within the same clock tick as the walk, files are read again until the clock has moved on.
    let ran = (2..200).map(|n| place.turn(n, |_| {})).find(|ran| ran.finished.stats.read == 0);
    assert_eq!(ran.unwrap().finished.stats.files, 51);
    place.cache = WalkCache::load(&state, Some("another"));
    assert_eq!(place.begin(300).1.stats.read, 51);
}
