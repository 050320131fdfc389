//! A turn that makes itself crash, and what it forged for those who clean up after it.

use std::fs;
use std::os::unix::fs::symlink;

use workspace::{Outcome, Recovered, StateDir, WalkCache, WorkspaceError};

use super::{Bystander, mkfifo};
use crate::fixture::{Place, meta, turn_id};

const NOTE: &str = ".git/rekindle/turn.json";

/// The turn begins, the agent works and everything dies.
fn crash(place: &Place, turn: u64, agent: impl FnOnce(&Place)) {
    place.begin(turn);
    agent(place);
}

fn recover(place: &Place, turn: u64) -> Recovered {
    let record = place.state.record().unwrap();
    let mut workspace = place.open();
    workspace.remember(&place.cache);
    workspace.recover(&turn_id(turn), record.as_ref()).map_err(|e| e.chain()).unwrap()
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
fn its_leftovers_get_onto_no_branch_whatever_it_did_to_the_repository() {
    let mut place = Place::with_repository();
    let first = place.head();
    crash(&place, 1, |p| {
        p.write("kg/entities/x.md", "no front matter");
        p.write(".gitignore", "*\n");
        p.write(".git/info/exclude", "*\n");
        p.git(&["config", "core.fsmonitor", "false"]);
        p.git(&["update-index", "--assume-unchanged", "a.txt"]);
        p.write("a.txt", "half done\n");
        p.git(&["checkout", "-q", "--detach"]);
        p.write(".git/index.lock", "");
        p.write(".git/refs/heads/main.lock", "");
        p.write(".git/MERGE_HEAD", format!("{first}\n"));
        fs::create_dir(p.path(".git/rebase-merge")).unwrap();
        mkfifo(&p.path("fifo"));
    });
    let out = recover(&place, 1);
    let kept = out.kept.unwrap();
    assert_eq!(place.git(&["show", &format!("{kept}:kg/entities/x.md")]), "no front matter");
    assert_eq!(place.git(&["show", &format!("{kept}:a.txt")]), "half done");
    assert_eq!((place.log(), place.read("a.txt")), (vec!["first".to_owned()], "one\n".to_owned()));
    for left in ["kg", ".gitignore", "fifo", ".git/index.lock", ".git/MERGE_HEAD", ".git/rebase-merge"] {
        assert!(!place.exists(left), "{left}");
    }
    place.assert_clean();
    let ran = place.turn(2, |_| {});
    assert!(ran.outside.is_none() && ran.commit.is_none(), "nothing of it passes for people's");
}

#[test]
fn a_record_that_names_another_repositorys_commit_moves_nothing() {
    let place = Place::with_repository();
    let other = Place::with_repository();
    let theirs = ended_commit(&other);
    crash(&place, 1, |p| {
        let mut forged = theirs.clone();
        forged.branch = "refs/heads/main".into();
        p.record(1, Outcome::Completed, vec![forged]);
        p.write("b", "2");
    });
    let out = recover(&place, 1);
    assert!(out.refused[0].contains("is not a commit of this repository"), "{:?}", out.refused);
    // The same with its objects at hand.
    place.git(&["fetch", "-q", other.ws.to_str().unwrap(), &format!("{}:refs/tags/theirs", theirs.sha)]);
    let mut record = place.state.record().unwrap().unwrap();
    let out = place.open().recover(&turn_id(1), Some(&record)).unwrap();
    assert!(out.refused[0].contains("has moved"), "its parent is another: {:?}", out.refused);
    record.commits[0].branch = "refs/heads/new".into();
    let out = place.open().recover(&turn_id(1), Some(&record)).unwrap();
    assert_eq!((out.refused.len(), out.commits.len()), (1, 0), "nor is a branch made for it");
    assert_eq!(place.log(), ["first"]);
    assert_eq!(place.refs("refs/heads"), ["refs/heads/main"]);
    place.assert_clean();
}

/// A commit that names the same unit and turn, on no branch yet, in a repository that begins with another commit.
fn ended_commit(other: &Place) -> workspace::PreparedCommit {
    other.git(&["commit", "-q", "--amend", "-m", "another first"]);
    let (mut workspace, begun) = other.begin(1);
    other.write("theirs", "t");
    let commit = workspace.finish(&begun.baseline, &meta(1)).unwrap().commit.unwrap();
    other.git(&["update-ref", "refs/heads/shared", &commit.sha]);
    other.git(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
    commit
}

#[test]
fn a_record_that_names_an_old_commit_moves_nothing_back() {
    let mut place = Place::with_repository();
    let old = place.turn(1, |p| p.write("b", "1")).finished.commit.unwrap();
    let tip = place.turn(2, |p| p.write("b", "2")).commit.unwrap().sha;
    crash(&place, 3, |p| p.record(3, Outcome::Completed, vec![old.clone()]));
    let out = recover(&place, 3);
    assert!(out.refused[0].contains("does not name this unit and turn"), "{:?}", out.refused);
    assert_eq!(place.head(), tip);
    // With the old turn's name on the record, its commit is the branch's parent and not its next.
    place.record(1, Outcome::Completed, vec![old]);
    let record = place.state.record().unwrap().unwrap();
    let out = place.open().recover(&turn_id(1), Some(&record)).unwrap();
    assert_eq!((out.refused.len(), place.head()), (1, tip));
}

#[test]
fn a_record_of_another_workspaces_commits_moves_nothing() {
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    place.write("b", "2");
    let mut commit = workspace.finish(&begun.baseline, &meta(1)).unwrap().commit.unwrap();
    commit.workspace = contract::WorkspaceId::parse("another").unwrap();
    assert!(matches!(workspace.apply(&commit, &turn_id(1)), Err(WorkspaceError::Refused { .. })));
    place.record(1, Outcome::Completed, vec![commit]);
    drop(workspace);
    let out = recover(&place, 1);
    assert!(out.commits.is_empty() && out.refused.is_empty());
    assert_eq!(place.log(), ["first"]);
}

#[test]
fn a_forged_cache_hides_no_change() {
    let mut place = Place::with_repository();
    place.turn(1, |p| p.write("b", "1"));
    let honest = place.cache.save(&place.state).unwrap();
    // The agent says of its changed file that it holds what it held.
    let file = place.state.path().join("walk.cache");
    let mut bytes = fs::read(&file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&file, &bytes).unwrap();
    place.cache = WalkCache::load(&StateDir::open(place.state.path()).unwrap(), Some(&honest));
    assert_eq!(place.cache, WalkCache::default());
    let (mut workspace, begun) = place.begin(2);
    assert_eq!(begun.stats.read, 2, "everything is read");
    place.write("b", "2");
    assert!(workspace.finish(&begun.baseline, &meta(2)).unwrap().commit.is_some());
    for trick in ["link", "fifo", "folder"] {
        fs::remove_file(&file).unwrap_or_else(|_| fs::remove_dir(&file).unwrap());
        match trick {
            "link" => symlink("/dev/zero", &file).unwrap(),
            "fifo" => mkfifo(&file),
            _ => fs::create_dir(&file).unwrap(),
        }
        assert_eq!(WalkCache::load(&place.state, Some(&honest)), WalkCache::default(), "{trick}");
    }
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

#[test]
fn a_note_that_is_none_is_none_and_the_tree_is_cleaned() {
    for trick in ["gone", "fifo", "link", "folder", "rubbish", "huge"] {
        let place = Place::with_repository();
        let bystander = Bystander::new(&place);
        crash(&place, 1, |p| {
            let note = p.path(NOTE);
            fs::remove_file(&note).unwrap();
            match trick {
                "fifo" => mkfifo(&note),
                "link" => symlink(&bystander.0, &note).unwrap(),
                "folder" => fs::create_dir_all(note.join("below")).unwrap(),
                "rubbish" => fs::write(&note, "{\"turn\":").unwrap(),
                "huge" => fs::File::create(&note).unwrap().set_len(1 << 40).unwrap(),
                _ => {}
            }
            p.write("a.txt", "half done\n");
        });
        let out = recover(&place, 1);
        assert_eq!(place.git(&["show", &format!("{}:a.txt", out.kept.unwrap())]), "half done", "{trick}");
        assert_eq!(place.read("a.txt"), "one\n", "{trick}");
        bystander.assert_untouched();
        assert!(place.begin(2).1.outside.is_none(), "{trick}");
    }
}

#[test]
fn a_note_that_names_other_places_leads_to_none_of_them() {
    let place = Place::with_repository();
    let first = place.head();
    for (from, to) in
        [("refs/heads/main", "refs/../../../bystander"), (first.as_str(), "not-a-commit"), (&first, &"1".repeat(40))]
    {
        crash(&place, 1, |p| {
            let forged = p.read(NOTE).replace(from, to);
            p.write(NOTE, forged);
            p.write("a.txt", "half done\n");
        });
        recover(&place, 1);
        assert_eq!((place.head(), place.read("a.txt")), (first.clone(), "one\n".to_owned()), "{to}");
        assert!(!place.dir.path().join("bystander").exists());
        place.assert_clean();
    }
}

#[test]
fn a_note_in_another_turns_name_makes_no_recorded_turn_unhappen() {
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(2);
    place.write("b", "2");
    // The agent forges the note; the turn goes well, is recorded, and its worker dies before the branch moves.
    let forged = place.read(NOTE).replace(turn_id(2).as_str(), turn_id(1).as_str());
    place.write(NOTE, forged);
    let commit = workspace.finish(&begun.baseline, &meta(2)).unwrap().commit.unwrap();
    place.record(2, Outcome::Completed, vec![commit.clone()]);
    drop(workspace);
    let out = recover(&place, 2);
    assert_eq!((out.commits.len(), place.head()), (1, commit.sha));
    assert_eq!(place.log(), ["turn 2", "first"]);
    assert!(place.open().unconcluded().is_none());
    place.assert_clean();
}

#[test]
fn a_note_in_another_turns_name_keeps_the_leftovers_off_the_branch() {
    let place = Place::with_repository();
    crash(&place, 2, |p| {
        let forged = p.read(NOTE).replace(turn_id(2).as_str(), turn_id(1).as_str());
        p.write(NOTE, forged);
        p.write("b", "2");
    });
    let out = recover(&place, 2);
    assert_eq!(out.kept.unwrap(), format!("refs/rekindle/interrupted/{}", turn_id(1)), "under the name it gave itself");
    assert!(!place.exists("b"));
    assert!(place.begin(3).1.outside.is_none());
    assert_eq!(place.log(), ["first"]);
}

#[test]
fn a_note_that_says_the_turn_never_began_makes_nothing_of_it_peoples() {
    // The note as the last turn left it, to the letter: but it was not the platform that put it there.
    for copy in ["copied", "linked", "renamed"] {
        let mut place = Place::with_repository();
        place.turn(1, |p| p.write("b", "1"));
        let (note, spare) = (place.path(NOTE), place.dir.path().join("spare"));
        match copy {
            "linked" => fs::hard_link(&note, &spare).unwrap(),
            "renamed" => fs::rename(&note, &spare).unwrap(),
            _ => drop(fs::copy(&note, &spare).unwrap()),
        }
        crash(&place, 2, |p| {
            fs::rename(&spare, p.path(NOTE)).unwrap();
            p.write("b", "left over");
        });
        assert!(place.open().unconcluded().is_none(), "{copy}");
        let out = recover(&place, 2);
        assert_eq!(out.kept.unwrap(), format!("refs/rekindle/interrupted/{}", turn_id(2)), "{copy}");
        assert_eq!(place.read("b"), "1", "{copy}");
        assert!(place.begin(3).1.outside.is_none(), "{copy}");
        place.assert_clean();
    }
}
