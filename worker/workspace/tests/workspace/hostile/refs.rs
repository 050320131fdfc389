//! HEAD, branches and the platform's own refs.

use std::fs;
use std::os::unix::fs::symlink;

use super::{Bystander, ended, mkfifo, unusable};
use crate::fixture::{Place, UID, meta, turn_id};

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
fn files_in_the_place_of_the_folders_of_refs_are_cleared() {
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    place.write("b", "2");
    fs::remove_dir_all(place.path(".git/refs/heads")).unwrap();
    place.write(".git/refs/heads", "in the way");
    let _ = fs::remove_dir_all(place.path(".git/refs/rekindle"));
    place.write(".git/refs/rekindle", "in the way");
    let out = workspace.interrupt(&begun.baseline, &meta(1)).map_err(|e| e.chain()).unwrap();
    assert_eq!(place.git(&["show", &format!("{}:b", out.kept.unwrap())]), "2");
    assert_eq!(place.log(), ["first"]);
    place.assert_clean();
}

#[test]
fn refs_of_ours_that_are_links_lead_nowhere() {
    let mut place = Place::with_repository();
    let elsewhere = place.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let ran = place.turn(1, |p| {
        fs::create_dir_all(p.path(".git/refs/rekindle")).unwrap();
        for kind in ["pending", "agent", "interrupted", "merge"] {
            symlink(&elsewhere, p.path(&format!(".git/refs/rekindle/{kind}"))).unwrap();
        }
        p.write("b", "2");
        p.git(&["add", "."]);
        p.git(&["commit", "-qm", "mine"]);
    });
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert_eq!(ran.finished.agent_commits.len(), 1);
    assert_eq!(place.git(&["log", "-1", "--format=%s", &ran.finished.agent_commits[0]]), "mine");
    assert_eq!(place.log(), ["turn 1", "first"]);
}

#[test]
fn a_forged_pending_commit_is_neither_applied_nor_kept() {
    let mut place = Place::with_repository();
    let pin = format!("refs/rekindle/pending/{UID}");
    let ran = place.turn(1, |p| {
        let tree = p.git(&["rev-parse", "HEAD^{tree}"]);
        let trailers = format!("Unit: {UID}\nTurn: {}", turn_id(1));
        let forged = p.git(&["commit-tree", "-p", "HEAD", "-m", "forged", "-m", &trailers, &tree]);
        p.git(&["update-ref", &pin, &forged]);
        p.git(&["update-ref", &format!("{pin}.2"), &forged]);
    });
    assert!(ran.commit.is_none());
    assert_eq!(place.log(), ["first"]);
    let ran = place.turn(2, |p| p.write("b", "2"));
    assert_eq!(place.head(), ran.commit.unwrap().sha);
    assert!(!place.refs("refs/rekindle").contains(&pin), "{:?}", place.refs("refs/rekindle"));
}

#[test]
fn a_ref_that_is_taken_already_makes_none_of_the_agents_commits_be_lost() {
    let mut place = Place::with_repository();
    let first = place.head();
    let name = format!("refs/rekindle/agent/{}", turn_id(1));
    let ran = place.turn(1, |p| {
        p.git(&["update-ref", &name, &first]);
        p.write("b", "2");
        p.git(&["add", "."]);
        p.git(&["commit", "-qm", "mine"]);
    });
    assert_eq!(ran.finished.agent_commits, [format!("{name}.2")]);
    assert_eq!(place.git(&["rev-parse", &name]), first);
    assert_eq!(place.git(&["log", "-1", "--format=%s", &format!("{name}.2")]), "mine");
    place.assert_clean();
}

#[test]
fn refs_of_ours_that_were_deleted_are_made_anew() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        p.write("b", "2");
        fs::remove_dir_all(p.path(".git/rekindle")).unwrap();
        let _ = fs::remove_dir_all(p.path(".git/refs/rekindle"));
        fs::remove_dir_all(p.path(".git/refs/tags")).unwrap();
    });
    assert_eq!(place.head(), ran.commit.unwrap().sha);
    place.assert_clean();
}

#[test]
fn a_branch_that_was_deleted_or_packed_to_elsewhere_is_put_back() {
    for packed in [false, true] {
        let mut place = Place::with_repository();
        place.turn(1, |p| p.write("b", "1"));
        let (tip, first) = (place.head(), place.git(&["rev-parse", "HEAD^"]));
        let ran = place.turn(2, |p| {
            fs::remove_file(p.path(".git/refs/heads/main")).unwrap();
            if packed {
                p.write(
                    ".git/packed-refs",
                    format!("# pack-refs with: peeled fully-peeled sorted \n{first} refs/heads/main\n"),
                );
            }
            p.write("c", "2");
        });
        assert_eq!(place.git(&["rev-parse", "HEAD^"]), tip);
        assert_eq!(place.head(), ran.commit.unwrap().sha);
        assert_eq!(ran.finished.agent_commits.len(), usize::from(packed), "{:?}", ran.finished.agent_commits);
        place.assert_clean();
    }
}

#[test]
fn packed_refs_that_cannot_be_read_make_the_turn_fail_and_move_nothing() {
    for trick in ["rubbish", "folder", "fifo", "link"] {
        let place = Place::with_repository();
        let head = place.head();
        let why = unusable(ended(&place, 1, |p| {
            let packed = p.path(".git/packed-refs");
            match trick {
                "rubbish" => fs::write(packed, b"\xff\0 refs/heads/main\n").unwrap(),
                "folder" => fs::create_dir(packed).unwrap(),
                "fifo" => mkfifo(&packed),
                _ => symlink("/dev/zero", packed).unwrap(),
            }
            p.write("b", "2");
        }));
        assert!(why.contains("packed-refs"), "{trick}: {why}");
        assert_eq!(place.read(".git/refs/heads/main").trim(), head);
    }
}

#[test]
fn a_head_that_is_anything_is_put_back() {
    for trick in ["fifo", "folder", "link", "circle", "gone", "outside", "ours", "huge"] {
        let mut place = Place::with_repository();
        let bystander = Bystander::new(&place);
        let ran = place.turn(1, |p| {
            let head = p.path(".git/HEAD");
            p.write("b", "2");
            fs::remove_file(&head).unwrap();
            match trick {
                "fifo" => mkfifo(&head),
                "folder" => fs::create_dir_all(head.join("below")).unwrap(),
                "link" => symlink(&bystander.0, head).unwrap(),
                "circle" => fs::write(head, "ref: HEAD\n").unwrap(),
                "outside" => fs::write(head, "ref: ../../outside\n").unwrap(),
                "ours" => fs::write(head, format!("ref: refs/rekindle/pending/{UID}\n")).unwrap(),
                "huge" => fs::File::create(head).unwrap().set_len(1 << 40).unwrap(),
                _ => {}
            }
        });
        assert_eq!(place.git(&["symbolic-ref", "HEAD"]), "refs/heads/main", "{trick}");
        assert_eq!(place.log(), ["turn 1", "first"], "{trick}");
        assert_eq!(place.head(), ran.commit.unwrap().sha);
        bystander.assert_untouched();
        place.assert_clean();
    }
}

#[test]
fn a_branch_that_became_symbolic_moves_no_other() {
    let mut place = Place::with_repository();
    let first = place.head();
    place.git(&["branch", "theirs"]);
    place.turn(1, |p| {
        p.write(".git/refs/heads/main", "ref: refs/heads/theirs\n");
        p.write("b", "2");
    });
    assert_eq!(place.git(&["rev-parse", "theirs"]), first);
    assert_eq!(place.git(&["symbolic-ref", "HEAD"]), "refs/heads/main");
    assert_eq!(place.log(), ["turn 1", "first"]);
    place.assert_clean();
}

#[test]
fn locks_that_the_agent_left_are_removed_and_told() {
    let mut place = Place::with_repository();
    let locks = ["index.lock", "HEAD.lock", "config.lock", "packed-refs.lock", "shallow.lock", "refs/heads/main.lock"];
    let ran = place.turn(1, |p| {
        for lock in locks {
            p.write(&format!(".git/{lock}"), "");
        }
        fs::create_dir_all(p.path(&format!(".git/refs/rekindle/pending/{UID}.lock/full"))).unwrap();
        mkfifo(&p.path(".git/refs/heads/other.lock"));
        p.write("b", "2");
    });
    assert_eq!(ran.finished.notices.iter().filter(|n| n.contains("stale lock")).count(), locks.len() + 1);
    assert!(locks.iter().all(|lock| !place.exists(&format!(".git/{lock}"))));
    assert_eq!(place.head(), ran.commit.unwrap().sha);
    place.assert_clean();
}
