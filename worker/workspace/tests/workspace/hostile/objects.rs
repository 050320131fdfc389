//! Traps among the objects.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;

use contract::{InspectOutcome, InspectRefusal, Look};
use sha1::{Digest, Sha1};

use super::{Bystander, ended, mkfifo, unusable};
use crate::fixture::Place;

fn object(place: &Place, oid: &str) -> PathBuf {
    place.path(&format!(".git/objects/{}/{}", &oid[..2], &oid[2..]))
}

/// Puts something in the place of an object.
fn replace(place: &Place, oid: &str, with: impl FnOnce(&PathBuf)) {
    let at = object(place, oid);
    fs::create_dir_all(at.parent().unwrap()).unwrap();
    let _ = fs::remove_file(&at);
    with(&at);
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
fn alternates_are_removed_and_the_commit_stands_on_its_own() {
    let mut place = Place::with_repository();
    let other = Place::with_repository();
    other.write("secret", "borrowed\n");
    let blob = other.git(&["hash-object", "-w", "secret"]);
    let ran = place.turn(1, |p| {
        p.write(".git/objects/info/alternates", format!("{}\n", other.path(".git/objects").display()));
        assert_eq!(p.git(&["cat-file", "-t", &blob]), "blob", "git finds it");
        p.write("borrowed", "borrowed\n");
    });
    assert!(!place.exists(".git/objects/info/alternates"));
    assert!(ran.finished.notices.iter().any(|n| n.contains("must stand on its own")));
    drop(other);
    assert_eq!(place.git(&["show", "HEAD:borrowed"]), "borrowed");
    place.assert_clean();
}

#[test]
fn an_object_of_which_the_content_is_another_is_written_anew() {
    let mut place = Place::with_repository();
    place.write("wanted", "wanted\n");
    let wanted = place.git(&["hash-object", "wanted"]);
    fs::remove_file(place.path("wanted")).unwrap();
    let ran = place.turn(1, |p| {
        p.write("other", "other\n");
        let other = p.git(&["hash-object", "-w", "other"]);
        replace(p, &wanted, |at| fs::copy(object(p, &other), at).map(drop).unwrap());
        p.write("wanted", "wanted\n");
    });
    assert_eq!(ran.commit.unwrap().files, 2);
    assert_eq!(place.git(&["show", "HEAD:wanted"]), "wanted");
    place.assert_clean();
}

#[test]
fn an_object_that_says_it_has_terabytes_is_not_made_room_for() {
    let mut place = Place::with_repository();
    place.write("x", "x\n");
    let wanted = place.git(&["hash-object", "x"]);
    fs::remove_file(place.path("x")).unwrap();
    let ran = place.turn(1, |p| {
        replace(p, &wanted, |at| fs::write(at, stored(b"blob 99999999999999\0x\n")).unwrap());
        // And a commit of that size, to which the branch is pointed.
        let huge = "1".repeat(40);
        replace(p, &huge, |at| fs::write(at, stored(b"commit 99999999999999\0tree")).unwrap());
        p.write(".git/refs/heads/main", format!("{huge}\n"));
        p.write("x", "x\n");
    });
    assert_eq!(place.head(), ran.commit.unwrap().sha);
    assert_eq!(place.git(&["show", "HEAD:x"]), "x");
    assert_eq!(place.log(), ["turn 1", "first"]);
}

/// As zlib writes what it does not compress.
fn stored(content: &[u8]) -> Vec<u8> {
    let len = u16::try_from(content.len()).unwrap();
    let (a, b) = content.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    [&[0x78, 0x01, 0x01], &len.to_le_bytes()[..], &(!len).to_le_bytes(), content, &((b << 16) | a).to_be_bytes()]
        .concat()
}

#[test]
fn a_folder_in_the_place_of_an_object_makes_room() {
    let mut place = Place::with_repository();
    place.write("x", "x\n");
    let wanted = place.git(&["hash-object", "x"]);
    let ran = place.turn(1, |p| {
        replace(p, &wanted, |at| fs::create_dir_all(at.join("in/the/way")).unwrap());
        p.write("x", "x\n");
        p.write("y", "x\n");
    });
    assert!(ran.commit.is_some());
    assert_eq!(place.git(&["show", "HEAD:y"]), "x");
    place.assert_clean();
}

#[test]
fn files_in_the_place_of_the_objects_folders_make_room() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        for n in 0..=255 {
            let folder = p.path(&format!(".git/objects/{n:02x}"));
            if !folder.exists() {
                fs::write(folder, "in the way").unwrap();
            }
        }
        fs::remove_dir(p.path(".git/objects/pack")).unwrap();
        p.write(".git/objects/pack", "in the way");
        p.write("b", "2");
    });
    assert!(ran.finished.notices.iter().filter(|n| n.contains("no regular file")).count() > 200);
    assert_eq!(place.git(&["show", "HEAD:b"]), "2");
    place.assert_clean();
}

#[test]
fn folders_of_objects_that_are_closed_are_opened_up() {
    super::as_plain_user(|| {
        let mut place = Place::with_repository();
        let ran = place.turn(1, |p| {
            let tip = p.head();
            fs::set_permissions(object(p, &tip), std::os::unix::fs::PermissionsExt::from_mode(0o000)).unwrap();
            for n in 0..=255 {
                let folder = format!(".git/objects/{n:02x}");
                fs::create_dir_all(p.path(&folder)).unwrap();
                p.chmod(&folder, if n % 2 == 0 { 0o500 } else { 0 });
            }
            p.chmod(".git/objects/pack", 0);
            p.chmod(".git/objects", 0o500);
            p.write("b", "2");
        });
        assert_eq!(ran.commit.unwrap().files, 1);
        let folders = fs::read_dir(place.path(".git/objects")).unwrap();
        for folder in folders.map(|entry| entry.unwrap().path()) {
            fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
        }
        assert_eq!(place.git(&["show", "HEAD:b"]), "2");
        place.assert_clean();
    });
}

#[test]
fn a_link_in_the_place_of_an_object_is_not_followed() {
    let mut place = Place::with_repository();
    let bystander = Bystander::new(&place);
    place.write("x", "x\n");
    let wanted = place.git(&["hash-object", "x"]);
    let ran = place.turn(1, |p| {
        replace(p, &wanted, |at| symlink(&bystander.0, at).unwrap());
        p.write("y", "x\n");
    });
    assert!(ran.commit.is_some());
    bystander.assert_untouched();
    assert!(fs::symlink_metadata(object(&place, &wanted)).unwrap().is_file());
    place.assert_clean();
}

#[test]
fn packs_that_are_none_hold_nothing_up() {
    let mut place = Place::with_repository();
    place.git(&["gc", "-q"]);
    let ran = place.turn(1, |p| {
        p.write(".git/objects/pack/pack-1111111111111111111111111111111111111111.idx", "rubbish");
        p.write(".git/objects/pack/pack-1111111111111111111111111111111111111111.pack", "PACK rubbish");
        mkfifo(&p.path(".git/objects/pack/pack-2222222222222222222222222222222222222222.idx"));
        symlink("/dev/zero", p.path(".git/objects/pack/pack-3333333333333333333333333333333333333333.pack")).unwrap();
        p.write("b", "2");
    });
    assert_eq!(ran.commit.unwrap().files, 1);
    for name in fs::read_dir(place.path(".git/objects/pack")).unwrap().map(|e| e.unwrap().path()) {
        if name.to_str().unwrap().contains("1111") {
            fs::remove_file(name).unwrap();
        }
    }
    place.assert_clean();
}

/// An index over packs which says that the only pack there is holds nothing that it does hold.
fn forged_packs_index(place: &Place) -> Vec<u8> {
    let pack_of = |p: &Place| {
        let names = fs::read_dir(p.path(".git/objects/pack")).unwrap().map(|e| e.unwrap().file_name());
        names.map(|name| name.into_string().unwrap()).find(|name| name.ends_with(".idx")).unwrap()
    };
    let other = Place::with_repository();
    other.write("other", "other");
    other.git(&["add", "."]);
    other.git(&["commit", "-qm", "another history"]);
    other.git(&["gc", "-q"]);
    other.git(&["multi-pack-index", "write"]);
    let (theirs, ours) = (pack_of(&other), pack_of(place));
    let mut index = fs::read(other.path(".git/objects/pack/multi-pack-index")).unwrap();
    let at = index.windows(theirs.len()).position(|w| w == theirs.as_bytes()).unwrap();
    index[at..at + ours.len()].copy_from_slice(ours.as_bytes());
    let end = index.len() - 20;
    let sum = Sha1::digest(&index[..end]);
    index[end..].copy_from_slice(&sum);
    index
}

#[test]
fn a_forged_index_over_packs_hides_none_of_them() {
    let mut place = Place::with_repository();
    place.git(&["gc", "-q"]);
    let forged = forged_packs_index(&place);
    let ran = place.turn(1, |p| {
        p.write(".git/objects/pack/multi-pack-index", &forged);
        p.write("b", "2");
    });
    assert!(ran.finished.notices.iter().any(|n| n.contains("multi-pack-index")));
    assert_eq!(place.log(), ["turn 1", "first"]);
    assert_eq!(place.git(&["show", "HEAD:b"]), "2");
    place.assert_clean();
}

#[test]
fn a_forged_commit_graph_makes_no_other_history() {
    let mut place = Place::with_repository();
    place.turn(1, |p| p.write("b", "1"));
    let base = place.head();
    let ran = place.turn(2, |p| {
        let other = Place::with_repository();
        other.git(&["commit-graph", "write", "--reachable"]);
        fs::copy(other.path(".git/objects/info/commit-graph"), p.path(".git/objects/info/commit-graph")).unwrap();
        p.write("c", "2");
    });
    let sha = ran.commit.unwrap().sha;
    assert!(place.git(&["cat-file", "-p", &sha]).contains(&format!("parent {base}\n")));
    fs::remove_file(place.path(".git/objects/info/commit-graph")).unwrap();
    assert_eq!(place.log(), ["turn 2", "turn 1", "first"]);
    place.assert_clean();
}

#[test]
fn objects_that_are_a_link_to_another_repository_make_the_turn_fail() {
    let place = Place::with_repository();
    let other = Place::with_repository();
    let count = || other.git(&["count-objects"]);
    let (head, before) = (place.head(), count());
    let why = unusable(ended(&place, 1, |p| {
        fs::rename(p.path(".git/objects"), p.path(".git/objects.away")).unwrap();
        symlink(other.path(".git/objects"), p.path(".git/objects")).unwrap();
        p.write("b", "2");
    }));
    assert!(why.contains("`.git/objects` is missing or not a folder"), "{why}");
    assert_eq!(count(), before, "nothing was written there");
    assert_eq!(place.read(".git/refs/heads/main").trim(), head);
    assert!(place.unusable().contains("not a folder"), "nor is it worked on the next time");
}

#[test]
fn without_the_commit_it_began_with_the_turn_fails_and_its_files_are_left() {
    let place = Place::with_repository();
    let why = unusable(ended(&place, 1, |p| {
        p.write("b", "2");
        fs::remove_file(object(p, &p.head())).unwrap();
    }));
    assert!(why.contains("is gone from the repository"), "{why}");
    assert_eq!(place.read("b"), "2");
}

#[test]
fn who_only_looks_is_not_held_up_by_a_pipe_in_the_place_of_an_old_object() {
    let mut place = Place::with_repository();
    place.turn(1, |p| p.write("b", "2"));
    let tree = place.git(&["rev-parse", "HEAD^^{tree}"]);
    replace(&place, &tree, |at| mkfifo(at));
    for look in [Look::Diff { from: None, to: None }, Look::Log { limit: None, before: None }] {
        let InspectOutcome::Refused { reason: InspectRefusal::Unusable, detail } =
            workspace::inspect::look(&place.ws, &look)
        else {
            panic!("it was shown")
        };
        assert!(detail.contains("no regular file"), "{detail}");
    }
    assert!(place.exists(".git/HEAD") && object(&place, &tree).exists(), "and nothing was changed");
    // To put the repository in order is what removes it.
    place.open().tidy(&|| false).unwrap();
    assert!(!object(&place, &tree).exists());
}
