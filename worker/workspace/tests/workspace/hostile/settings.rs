//! What git may be told about a repository, by whoever writes into `.git`.

use std::fs;

use super::{Trap, ended, mkfifo, unusable};
use crate::fixture::Place;

/// The configuration as it was, so that the test's own git is not misled.
fn plain_config(place: &Place) {
    fs::remove_file(place.path(".git/config")).unwrap();
    place.write(".git/config", "[core]\n\trepositoryformatversion = 0\n");
}

#[test]
fn an_exclude_file_hides_nothing() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        p.write(".git/info/exclude", "*\n");
        p.write("hidden", "h");
    });
    assert_eq!(ran.commit.unwrap().files, 1);
    assert_eq!(place.git(&["show", "HEAD:hidden"]), "h");
    assert_eq!(place.read(".git/info/exclude"), "*\n", "it is theirs");
    place.assert_clean();
}

#[test]
fn an_excludes_file_of_the_configuration_hides_nothing() {
    let mut place = Place::with_repository();
    let everything = place.dir.path().join("everything");
    fs::write(&everything, "*\n").unwrap();
    let ran = place.turn(1, |p| {
        p.git(&["config", "core.excludesFile", everything.to_str().unwrap()]);
        p.write("hidden", "h");
    });
    assert_eq!(ran.commit.unwrap().files, 1);
    assert_eq!(place.git(&["show", "HEAD:hidden"]), "h");
}

#[test]
fn assume_unchanged_and_skip_worktree_hide_nothing() {
    let mut place = Place::with_repository();
    place.turn(1, |p| p.write("b.txt", "one\n"));
    let ran = place.turn(2, |p| {
        p.git(&["update-index", "--assume-unchanged", "a.txt"]);
        p.git(&["update-index", "--skip-worktree", "b.txt"]);
        p.write("a.txt", "two\n");
        p.write("b.txt", "two\n");
        assert_eq!(p.git(&["status", "--porcelain"]), "", "git itself sees nothing");
    });
    assert_eq!(ran.commit.unwrap().files, 2);
    assert_eq!(place.git(&["show", "HEAD:a.txt", "HEAD:b.txt"]), "two\ntwo");
    assert_eq!(place.git(&["ls-files", "-v"]), "H a.txt\nH b.txt", "and they are marked no more");
    place.assert_clean();
}

#[test]
fn a_sparse_checkout_deletes_nothing_from_the_commit() {
    let mut place = Place::with_repository();
    place.turn(1, |p| p.write("far/x", "x"));
    let ran = place.turn(2, |p| {
        p.git(&["config", "core.sparseCheckout", "true"]);
        p.write(".git/info/sparse-checkout", "/far/\n");
        p.git(&["update-index", "--skip-worktree", "far/x"]);
        p.write("far/x", "changed");
    });
    assert_eq!(ran.commit.unwrap().files, 1);
    assert_eq!(place.git(&["show", "HEAD:far/x"]), "changed");
    assert_eq!(place.git(&["ls-tree", "-r", "--name-only", "HEAD"]), "a.txt\nfar/x");
}

#[test]
fn another_worktree_in_the_configuration_is_not_gone_to() {
    let mut place = Place::with_repository();
    let elsewhere = place.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("theirs"), "t").unwrap();
    let ran = place.turn(1, |p| {
        p.git(&["config", "core.worktree", elsewhere.to_str().unwrap()]);
        p.write("b", "2");
    });
    assert_eq!(ran.commit.unwrap().files, 1);
    plain_config(&place);
    assert_eq!(place.git(&["ls-tree", "-r", "--name-only", "HEAD"]), "a.txt\nb");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 1);
    place.assert_clean();
}

#[test]
fn a_repository_that_calls_itself_bare_is_committed_to() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        p.git(&["config", "core.bare", "true"]);
        p.write("b", "2");
    });
    assert_eq!(ran.commit.unwrap().files, 1);
    plain_config(&place);
    assert_eq!(place.git(&["show", "HEAD:b"]), "2");
}

#[test]
fn no_file_system_monitor_is_asked() {
    let mut place = Place::with_repository();
    let trap = Trap::new(&place);
    let ran = place.turn(1, |p| {
        p.git(&["config", "core.fsmonitor", &trap.command()]);
        p.git(&["config", "core.fsmonitorHookVersion", "2"]);
        p.write("a.txt", "two\n");
    });
    trap.assert_unsprung();
    plain_config(&place);
    assert_eq!(ran.commit.unwrap().files, 1);
    assert_eq!(place.git(&["show", "HEAD:a.txt"]), "two");
}

#[test]
fn no_hook_is_run() {
    let mut place = Place::with_repository();
    let trap = Trap::new(&place);
    let elsewhere = place.dir.path().join("hooks");
    fs::create_dir(&elsewhere).unwrap();
    let ran = place.turn(1, |p| {
        p.write("b", "2");
        for hook in
            ["pre-commit", "post-commit", "post-index-change", "reference-transaction", "post-checkout", "update"]
        {
            for folder in [p.path(".git/hooks"), elsewhere.clone()] {
                fs::create_dir_all(&folder).unwrap();
                fs::write(folder.join(hook), format!("#!/bin/sh\n{}\n", trap.command())).unwrap();
            }
            p.chmod(&format!(".git/hooks/{hook}"), 0o755);
        }
        p.write(".git/config", format!("{}\thooksPath = {}\n", p.read(".git/config"), elsewhere.display()));
    });
    let mut workspace = place.open();
    workspace.tidy(&|| false).unwrap();
    trap.assert_unsprung();
    fs::remove_dir_all(place.path(".git/hooks")).unwrap();
    plain_config(&place);
    assert_eq!(place.head(), ran.commit.unwrap().sha);
}

#[test]
fn no_filter_is_run_and_no_attribute_heeded() {
    let mut place = Place::with_repository();
    let trap = Trap::new(&place);
    let ran = place.turn(1, |p| {
        for key in ["clean", "smudge", "process"] {
            p.git(&["config", &format!("filter.evil.{key}"), &trap.command()]);
        }
        p.git(&["config", "filter.evil.required", "true"]);
        p.git(&["config", "diff.evil.textconv", &trap.command()]);
        p.git(&["config", "merge.evil.driver", &trap.command()]);
        p.git(&["config", "core.autocrlf", "true"]);
        p.write(
            ".gitattributes",
            "* filter=evil diff=evil merge=evil text eol=crlf ident working-tree-encoding=UTF-16\n",
        );
        p.write(".git/info/attributes", "* filter=evil\n");
        p.write("crlf", "a\r\n$Id$\n");
    });
    trap.assert_unsprung();
    plain_config(&place);
    let sha = ran.commit.unwrap().sha;
    assert_eq!(place.git(&["cat-file", "-p", &format!("{sha}:crlf")]), "a\r\n$Id$");
    assert_eq!(place.git(&["cat-file", "-s", &format!("{sha}:crlf")]), "8", "byte for byte");
    assert_eq!(place.read("crlf"), "a\r\n$Id$\n");
}

#[test]
fn a_configuration_that_includes_endless_files_holds_nothing_up() {
    let mut place = Place::with_repository();
    let fifo = place.dir.path().join("fifo");
    mkfifo(&fifo);
    let ran = place.turn(1, |p| {
        let include = format!(
            "[include]\n\tpath = /dev/zero\n\tpath = {}\n[includeIf \"gitdir:/\"]\n\tpath = /dev/zero\n",
            fifo.display()
        );
        p.write(".git/config", p.read(".git/config") + &include);
        p.write("b", "2");
    });
    plain_config(&place);
    assert_eq!(place.head(), ran.commit.unwrap().sha);
    place.assert_clean();
}

#[test]
fn a_configuration_that_cannot_be_read_makes_the_turn_fail_and_moves_nothing() {
    for trick in ["fifo", "folder", "link"] {
        let place = Place::with_repository();
        let head = place.head();
        let why = unusable(ended(&place, 1, |p| {
            p.write("b", "2");
            let config = p.path(".git/config");
            fs::remove_file(&config).unwrap();
            match trick {
                "fifo" => mkfifo(&config),
                "folder" => fs::create_dir(&config).unwrap(),
                _ => std::os::unix::fs::symlink("/dev/zero", &config).unwrap(),
            }
        }));
        assert!(why.contains("`.git/config` cannot be read"), "{trick}: {why}");
        assert_eq!(place.read(".git/refs/heads/main").trim(), head, "{trick}");
        assert_eq!(place.read("b"), "2", "{trick}: what it wrote is left");
    }
}

#[test]
fn a_format_that_would_be_damaged_makes_the_turn_fail_and_moves_nothing() {
    for extension in ["objectFormat = sha256", "refStorage = reftable", "compatObjectFormat = sha256"] {
        let place = Place::with_repository();
        let head = place.head();
        let why = unusable(ended(&place, 1, |p| {
            p.write(".git/config", format!("{}[extensions]\n\t{extension}\n", p.read(".git/config")));
            p.write("b", "2");
        }));
        assert!(why.contains("not supported"), "{why}");
        assert_eq!(place.read(".git/refs/heads/main").trim(), head);
    }
}

#[test]
fn grafts_shallow_and_replaced_commits_make_no_other_history() {
    let mut place = Place::with_repository();
    place.turn(1, |p| p.write("b", "1"));
    let (base, first) = (place.head(), place.git(&["rev-parse", "HEAD^"]));
    let ran = place.turn(2, |p| {
        p.git(&["config", "advice.graftFileDeprecated", "false"]);
        p.write(".git/info/grafts", format!("{base}\n"));
        p.write(".git/shallow", format!("{base}\n"));
        p.write(&format!(".git/refs/replace/{base}"), format!("{first}\n"));
        p.write("c", "2");
    });
    let sha = ran.commit.unwrap().sha;
    let real = |what: &str| place.git(&["--no-replace-objects", "cat-file", "-p", what]);
    assert!(real(&sha).contains(&format!("parent {base}\n")));
    assert!(real(&base).contains(&format!("parent {first}\n")));
    assert_eq!(place.git(&["--no-replace-objects", "ls-tree", "--name-only", &sha]), "a.txt\nb\nc");
}

#[test]
fn a_submodule_made_by_the_agent_counts_as_files() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        p.git(&["init", "-q", "sub"]);
        p.write("sub/inside", "i");
        let (ok, out) = p.try_git(&p.path("sub"), &["add", "."]);
        assert!(ok, "{out}");
        assert!(p.try_git(&p.path("sub"), &["commit", "-qm", "its own"]).0);
        p.write(".gitmodules", "[submodule \"sub\"]\n\tpath = sub\n\turl = ../../../etc\n\tupdate = !touch x\n");
        p.git(&["add", "."]);
    });
    assert_eq!(ran.commit.unwrap().files, 2);
    let tree = place.git(&["ls-tree", "-r", "HEAD"]);
    assert!(!tree.contains("160000") && tree.contains("sub/inside"), "{tree}");
    assert!(place.exists("sub/.git/HEAD"), "its own history is left where it is");
}

#[test]
fn a_nested_repository_hides_neither_its_files_nor_an_entity() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        fs::create_dir_all(p.path("kg/entities")).unwrap();
        p.git(&["init", "-q", "kg/entities"]);
        p.write("kg/entities/.git/info/exclude", "*\n");
        p.write("kg/entities/bad.md", "no front matter");
        p.write("kg/entities/index.md", "fine");
    });
    assert_eq!(ran.finished.reverted.len(), 1);
    assert_eq!(ran.finished.reverted[0].path, "kg/entities/bad.md");
    assert!(!place.exists("kg/entities/bad.md"));
    assert_eq!(place.git(&["ls-tree", "-r", "--name-only", "HEAD"]), "a.txt\nkg/entities/index.md");
}
