//! Turns that die, at each point where they can.

use std::fs;

use contract::{Generation, UnitId};
use workspace::{Outcome, Unit, Workspace};

use crate::fixture::{Place, UID, meta, turn_id};

#[test]
fn a_cancelled_turn_leaves_the_tree_as_it_was_and_its_work_on_a_ref() {
    let mut place = Place::with_repository();
    place.write(".gitignore", "*.log\n");
    place.write("d/x", "x");
    place.turn(1, |_| {});
    let head = place.head();
    let (mut workspace, begun) = place.begin(2);
    place.write("a.txt", "changed\n");
    place.write("new/file", "n");
    place.write("x.log", "ignored");
    fs::remove_dir_all(place.path("d")).unwrap();
    let out = workspace.interrupt(&begun.baseline, &meta(2)).unwrap();
    let kept = out.kept.unwrap();
    assert_eq!(kept, format!("refs/rekindle/interrupted/{}", turn_id(2)));
    assert_eq!(place.read("a.txt"), "one\n");
    assert_eq!(place.read("d/x"), "x");
    assert!(!place.exists("new") && place.exists("x.log"));
    assert_eq!(place.head(), head);
    assert_eq!(place.git(&["show", &format!("{kept}:a.txt")]), "changed");
    assert_eq!(place.git(&["rev-parse", &format!("{kept}^")]), head);
    assert_eq!(place.git(&["ls-tree", "-r", "--name-only", &kept]), ".gitignore\na.txt\nnew/file");
    place.assert_clean();
    assert_eq!(workspace.interrupt(&begun.baseline, &meta(2)).unwrap().kept, None, "again does nothing");
}

#[test]
fn a_gitignore_of_the_dead_turns_hides_nothing() {
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    place.write(".gitignore", "*\n");
    place.write("hidden/file", "h");
    let kept = workspace.interrupt(&begun.baseline, &meta(1)).unwrap().kept.unwrap();
    assert!(!place.exists("hidden") && !place.exists(".gitignore"));
    assert_eq!(place.git(&["show", &format!("{kept}:hidden/file")]), "h");
    place.assert_clean();
}

#[test]
fn a_gitignore_that_ignores_itself_goes_on_to() {
    let place = Place::with_repository();
    place.write("venv/.gitignore", "*\n");
    place.write("venv/lib", "big");
    for crash in [false, true] {
        let (mut workspace, begun) = place.begin(1);
        assert!(begun.outside.is_none());
        place.write("venv/.gitignore", "lib\n");
        place.write("venv/new", "n");
        let kept = if crash {
            place.open().recover(&turn_id(1), None).unwrap().kept
        } else {
            workspace.interrupt(&begun.baseline, &meta(1)).unwrap().kept
        };
        assert_eq!(place.git(&["show", &format!("{}:venv/new", kept.unwrap())]), "n");
        assert_eq!(place.read("venv/.gitignore"), "*\n");
        assert!(place.exists("venv/lib"));
        place.assert_clean();
    }
}

#[test]
fn an_interrupted_agents_own_commits_are_kept() {
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    place.write("x", "1");
    place.git(&["add", "."]);
    place.git(&["commit", "-qm", "mine"]);
    let theirs = place.head();
    let out = workspace.interrupt(&begun.baseline, &meta(1)).unwrap();
    assert_eq!(place.git(&["rev-parse", &out.agent_commits[0]]), theirs);
    assert_eq!(place.git(&["log", "-1", "--format=%P", &out.kept.unwrap()]).split(' ').nth(1), Some(theirs.as_str()));
    assert_eq!(place.log(), ["first"]);
    place.assert_clean();
}

#[test]
fn a_crash_before_the_record_keeps_the_work_on_a_ref_and_twice_is_once() {
    let place = Place::with_repository();
    let (workspace, _) = place.begin(1);
    drop(workspace);
    place.git(&["checkout", "-qb", "elsewhere"]);
    place.write("a.txt", "half done\n");
    place.write("junk", "j");
    fs::write(place.path(".git/index.lock"), "").unwrap();
    let mut workspace = place.open();
    let out = workspace.recover(&turn_id(1), None).unwrap();
    let kept = out.kept.unwrap();
    assert_eq!(place.git(&["show", &format!("{kept}:a.txt")]), "half done");
    assert_eq!(place.git(&["symbolic-ref", "--short", "HEAD"]), "main");
    assert_eq!(place.read("a.txt"), "one\n");
    place.assert_clean();
    for _ in 0..2 {
        let again = place.open().recover(&turn_id(1), None).unwrap();
        assert!(again.kept.is_none() && again.agent_commits.is_empty() && again.notices.is_empty());
    }
    assert_eq!(place.refs("refs/rekindle"), [kept]);
}

#[test]
fn a_crash_between_record_and_apply_is_finished() {
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    place.write("b", "2");
    let commit = workspace.finish(&begun.baseline, &meta(1)).unwrap().commit.unwrap();
    place.record(1, Outcome::Completed, vec![commit.clone()]);
    drop(workspace);
    let record = place.state.record().unwrap().unwrap();
    for _ in 0..2 {
        let out = place.open().recover(&turn_id(1), Some(&record)).unwrap();
        assert_eq!(out.commits.len(), 1);
        assert_eq!((out.commits[0].files, out.commits[0].insertions), (1, 1));
        assert!(out.kept.is_none() && out.refused.is_empty());
        assert_eq!(place.head(), commit.sha);
        assert_eq!(place.log(), ["turn 1", "first"]);
        place.assert_clean();
    }
    assert!(place.refs("refs/rekindle").is_empty());
}

#[test]
fn a_crash_between_finish_and_record_is_an_interruption() {
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    place.write("b", "2");
    workspace.finish(&begun.baseline, &meta(1)).unwrap().commit.unwrap();
    drop(workspace);
    let out = place.open().recover(&turn_id(1), None).unwrap();
    assert_eq!(place.git(&["show", &format!("{}:b", out.kept.unwrap())]), "2");
    assert!(!place.exists("b"));
    assert_eq!(place.refs("refs/rekindle/pending").len(), 0, "the pin is dropped");
    place.assert_clean();
}

#[test]
fn a_record_whose_branch_moved_is_reported_and_not_applied() {
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    place.write("b", "2");
    let commit = workspace.finish(&begun.baseline, &meta(1)).unwrap().commit.unwrap();
    place.record(1, Outcome::Completed, vec![commit.clone()]);
    place.git(&["commit", "-q", "--allow-empty", "-m", "a person's"]);
    let record = place.state.record().unwrap().unwrap();
    let out = place.open().recover(&turn_id(1), Some(&record)).unwrap();
    assert_eq!(out.refused.len(), 1);
    assert!(out.commits.is_empty());
    assert_eq!(place.log(), ["a person's", "first"]);
    let kept = format!("refs/rekindle/interrupted/{}", turn_id(1));
    assert_eq!(place.git(&["show", &format!("{kept}:b")]), "2");
    place.assert_clean();
}

#[test]
fn a_forged_record_moves_no_branch_to_strange_commits() {
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    place.write("b", "2");
    let mut commit = workspace.finish(&begun.baseline, &meta(1)).unwrap().commit.unwrap();
    let tree = place.git(&["rev-parse", "HEAD^{tree}"]);
    commit.sha = place.git(&[
        "commit-tree",
        "-p",
        "HEAD",
        "-m",
        "x",
        "-m",
        &format!("Unit: {UID}\nTurn: {}", turn_id(9)),
        &tree,
    ]);
    place.record(1, Outcome::Completed, vec![commit.clone()]);
    let record = place.state.record().unwrap().unwrap();
    let out = place.open().recover(&turn_id(1), Some(&record)).unwrap();
    assert!(out.refused[0].contains("does not name"), "{:?}", out.refused);
    assert_eq!(place.log(), ["first"]);
    commit.branch = "refs/../config".into();
    commit.sha = place.git(&[
        "commit-tree",
        "-p",
        "HEAD",
        "-m",
        "x",
        "-m",
        &format!("Unit: {UID}\nTurn: {}", turn_id(1)),
        &tree,
    ]);
    assert!(place.open().apply(&commit, &turn_id(1)).is_err());
}

#[test]
fn where_the_dead_turn_never_began_peoples_work_stays() {
    let mut place = Place::with_repository();
    place.turn(1, |p| p.write("b", "2"));
    place.write("person.txt", "p");
    place.record(2, Outcome::Failed, Vec::new());
    let mut workspace = place.open();
    workspace.remember(&place.cache);
    let out = workspace.recover(&turn_id(2), place.state.record().unwrap().as_ref()).unwrap();
    assert!(out.kept.is_none());
    assert!(place.exists("person.txt"));
    let begun = workspace.begin(&turn_id(2), &place.cache).unwrap();
    assert_eq!(begun.outside.unwrap().files, 1);
}

#[test]
fn what_no_ref_can_hold_is_not_destroyed() {
    let mut place = Place::with_repository();
    place.limits.max_file_bytes = 1000;
    let (workspace, _) = place.begin(1);
    drop(workspace);
    place.write("huge", vec![b'h'; 2000]);
    place.write("a.txt", vec![b'a'; 2000]);
    let out = place.open().recover(&turn_id(1), None).unwrap();
    assert_eq!(fs::metadata(place.path("huge")).unwrap().len(), 2000);
    assert_eq!(place.read("a.txt"), "one\n");
    let aside = format!("a.txt.interrupted-{}", turn_id(1));
    assert_eq!(fs::metadata(place.path(&aside)).unwrap().len(), 2000);
    assert_eq!(out.notices.len(), 2, "{:?}", out.notices);
}

#[test]
fn a_detached_turn_is_recovered_detached() {
    let place = Place::with_repository();
    place.git(&["checkout", "-q", "--detach"]);
    let (mut workspace, begun) = place.begin(1);
    place.write("b", "2");
    place.git(&["checkout", "-q", "main"]);
    let commit = workspace.finish(&begun.baseline, &meta(1)).unwrap().commit.unwrap();
    place.record(1, Outcome::Completed, vec![commit.clone()]);
    let record = place.state.record().unwrap().unwrap();
    let out = place.open().recover(&turn_id(1), Some(&record)).unwrap();
    assert_eq!(out.commits[0].branch, "HEAD");
    assert_eq!(place.head(), commit.sha);
    assert_eq!(place.git(&["log", "--format=%s", "main"]), "first");
    place.assert_clean();
}

/// Turn 1 began and died with this in the tree; turn 2 was delivered, and its worker died before it came to that.
fn given_up_and_dead_again() -> Place {
    let mut place = Place::with_repository();
    place.turn(1, |_| {});
    place.begin(2);
    place.write("leftover", "l");
    place.write("a.txt", "half done\n");
    place
}

#[test]
fn what_a_turn_that_was_given_up_left_is_never_peoples() {
    let mut place = given_up_and_dead_again();
    // The record is of turn 1; the ledger calls the tree unclean of turn 3, which never came to look at it.
    let record = place.state.record().unwrap();
    let out = place.open().recover(&turn_id(3), record.as_ref()).unwrap();
    assert_eq!(
        out.kept.as_deref(),
        Some(format!("refs/rekindle/interrupted/{}", turn_id(2)).as_str()),
        "by its own name"
    );
    assert!(place.git(&["log", "-1", "--format=%B", &out.kept.unwrap()]).contains(&format!("Turn: {}", turn_id(2))));
    assert_eq!((place.exists("leftover"), place.read("a.txt")), (false, "one\n".to_owned()));
    let ran = place.turn(3, |p| p.write("b", "2"));
    assert!(ran.outside.is_none());
    assert_eq!(place.log(), ["turn 3", "first"]);
    place.assert_clean();
}

#[test]
fn nor_when_the_next_turn_was_recorded_as_failed_before_it_came_to_that() {
    let place = given_up_and_dead_again();
    place.record(3, Outcome::Failed, Vec::new());
    let record = place.state.record().unwrap();
    let out = place.open().recover(&turn_id(3), record.as_ref()).unwrap();
    assert_eq!(out.kept.unwrap(), format!("refs/rekindle/interrupted/{}", turn_id(2)));
    assert!(!place.exists("leftover"));
    place.assert_clean();
}

#[test]
fn a_turn_that_was_given_up_after_its_record_is_finished_all_the_same() {
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    place.write("b", "2");
    let commit = workspace.finish(&begun.baseline, &meta(1)).unwrap().commit.unwrap();
    place.record(1, Outcome::Completed, vec![commit.clone()]);
    drop(workspace);
    let record = place.state.record().unwrap();
    let out = place.open().recover(&turn_id(2), record.as_ref()).unwrap();
    assert_eq!((out.commits.len(), place.head()), (1, commit.sha));
    assert!(out.kept.is_none() && place.exists("b"));
    place.assert_clean();
}

#[test]
fn another_unit_cleans_up_after_a_turn_that_was_given_up() {
    let other = Unit { uid: UnitId::parse("ubbbbbbbbbbbbbbbbbbbbbbbbb").unwrap(), generation: Generation(9) };
    let open = |place: &Place| Workspace::open(&place.mounted(), &other, place.limits.clone()).unwrap();
    let place = given_up_and_dead_again();
    let out = open(&place).recover(&turn_id(3), None).unwrap();
    assert_eq!(out.kept.unwrap(), format!("refs/rekindle/interrupted/{}", turn_id(2)));
    assert!(!place.exists("leftover"));
    assert_eq!(place.log(), ["first"]);

    // Where the branch has moved, the other unit's record was written, though it cannot be seen from here.
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    place.write("b", "2");
    let commit = workspace.finish(&begun.baseline, &meta(1)).unwrap().commit.unwrap();
    place.git(&["update-ref", "refs/heads/main", &commit.sha]);
    drop(workspace);
    let out = open(&place).recover(&turn_id(2), None).unwrap();
    assert!(out.kept.is_none() && out.agent_commits.is_empty());
    assert_eq!((place.head(), place.exists("b")), (commit.sha, true));
    place.assert_clean();
}

#[test]
fn after_any_end_of_a_turn_peoples_work_is_theirs() {
    for end in ["committed", "nothing to commit", "refused", "interrupted", "recovered", "recovered without a note"] {
        let mut place = Place::with_repository();
        match end {
            "committed" => drop(place.turn(1, |p| p.write("b", "2"))),
            "nothing to commit" => drop(place.turn(1, |_| {})),
            "refused" => {
                let (mut workspace, begun) = place.begin(1);
                place.write("b", "2");
                let commit = workspace.finish(&begun.baseline, &meta(1)).unwrap().commit.unwrap();
                place.git(&["commit", "-q", "--allow-empty", "-m", "meanwhile"]);
                workspace.apply(&commit, &turn_id(1)).unwrap_err();
                place.cache.update(&workspace);
            }
            "interrupted" => {
                let (mut workspace, begun) = place.begin(1);
                place.write("b", "2");
                workspace.interrupt(&begun.baseline, &meta(1)).unwrap();
                place.cache.update(&workspace);
            }
            _ => {
                place.begin(1);
                place.write("b", "2");
                if end == "recovered without a note" {
                    fs::remove_file(place.path(".git/rekindle/turn.json")).unwrap();
                }
                let mut workspace = place.open();
                workspace.recover(&turn_id(1), None).unwrap();
                place.cache.update(&workspace);
            }
        }
        assert_eq!(place.open().unconcluded(), None, "{end}");
        place.write("person.txt", "p");
        let mut workspace = place.open();
        workspace.remember(&place.cache);
        let out = workspace.recover(&turn_id(2), None).unwrap();
        assert!(out.kept.is_none() && place.exists("person.txt"), "{end}");
        assert!(place.begin(2).1.outside.is_some(), "{end}");
        assert_eq!(place.open().unconcluded(), Some(turn_id(2)), "{end}");
    }
}

#[test]
fn a_crash_before_the_branch_moved_leaves_the_note_open() {
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    place.write("b", "2");
    let commit = workspace.finish(&begun.baseline, &meta(1)).unwrap().commit.unwrap();
    assert_eq!(place.open().unconcluded(), Some(turn_id(1)));
    workspace.apply(&commit, &turn_id(1)).unwrap();
    assert_eq!(place.open().unconcluded(), None);
}
