//! Links, soft and hard, where they would lead out of the workspace.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};

use super::{Bystander, ended, unusable};
use crate::fixture::{Place, meta};

#[test]
fn a_repository_that_is_itself_a_link_makes_the_turn_fail() {
    let place = Place::with_repository();
    let other = Place::with_repository();
    let head = other.head();
    let why = unusable(ended(&place, 1, |p| {
        fs::rename(p.path(".git"), p.dir.path().join("away")).unwrap();
        symlink(other.path(".git"), p.path(".git")).unwrap();
        p.write("b", "2");
    }));
    assert!(why.contains("neither a folder nor a file"), "{why}");
    assert_eq!((other.head(), other.exists(".git/rekindle")), (head, false), "nothing was written there");
    assert!(place.unusable().contains("neither a folder nor a file"));
}

#[test]
fn a_repository_that_is_a_pointer_to_another_makes_the_turn_fail() {
    let place = Place::with_repository();
    let other = Place::with_repository();
    let head = other.head();
    let why = unusable(ended(&place, 1, |p| {
        fs::remove_dir_all(p.path(".git")).unwrap();
        p.write(".git", format!("gitdir: {}\n", other.path(".git").display()));
    }));
    assert!(why.contains("a file that points"), "{why}");
    assert_eq!((other.head(), other.exists(".git/rekindle")), (head, false));
}

#[test]
fn a_common_folder_elsewhere_is_removed() {
    let mut place = Place::with_repository();
    let other = Place::with_repository();
    let head = other.head();
    let ran = place.turn(1, |p| {
        p.write(".git/commondir", other.path(".git").to_str().unwrap());
        p.write("b", "2");
    });
    assert!(ran.finished.notices.iter().any(|n| n.contains("commondir")));
    assert!(!place.exists(".git/commondir"));
    assert_eq!((place.log(), other.head()), (vec!["turn 1".to_owned(), "first".to_owned()], head));
    place.assert_clean();
}

#[test]
fn refs_that_are_links_to_another_repository_move_nothing_there() {
    for (link, fails) in [("refs", true), ("refs/heads", false)] {
        let place = Place::with_repository();
        let other = Place::with_repository();
        let head = other.head();
        let ended = ended(&place, 1, |p| {
            fs::remove_dir_all(p.path(".git").join(link)).unwrap();
            symlink(other.path(".git").join(link), p.path(".git").join(link)).unwrap();
            p.write("b", "2");
        });
        if fails {
            assert!(unusable(ended).contains("not a folder"));
        } else {
            assert!(ended.unwrap().commit.is_some());
            assert_eq!(place.log(), ["first"], "its own branch is put back");
        }
        assert_eq!(other.head(), head);
        assert_eq!(other.refs("refs"), ["refs/heads/main"]);
    }
}

#[test]
fn the_platforms_own_files_are_not_written_through_links() {
    let mut place = Place::with_repository();
    let bystander = Bystander::new(&place);
    let elsewhere = place.dir.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let ran = place.turn(1, |p| {
        fs::remove_dir_all(p.path(".git/rekindle")).unwrap();
        symlink(&elsewhere, p.path(".git/rekindle")).unwrap();
        for file in [".git/index", ".git/HEAD", ".git/refs/heads/main"] {
            fs::remove_file(p.path(file)).unwrap();
            symlink(&bystander.0, p.path(file)).unwrap();
        }
        p.write("b", "2");
    });
    bystander.assert_untouched();
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert_eq!(place.head(), ran.commit.unwrap().sha);
    place.assert_clean();
}

#[test]
fn the_platforms_own_files_are_not_written_through_hard_links() {
    let mut place = Place::with_repository();
    let bystander = Bystander::new(&place);
    let ran = place.turn(1, |p| {
        for file in [".git/index", ".git/HEAD", ".git/refs/heads/main", ".git/rekindle/turn.json"] {
            fs::remove_file(p.path(file)).unwrap();
            fs::hard_link(&bystander.0, p.path(file)).unwrap();
        }
        for file in ["config", "HEAD"] {
            fs::remove_file(p.path(".git/rekindle/view").join(file)).unwrap();
            fs::hard_link(&bystander.0, p.path(".git/rekindle/view").join(file)).unwrap();
        }
        p.write("b", "2");
    });
    bystander.assert_untouched();
    assert_eq!(place.head(), ran.commit.unwrap().sha);
    place.assert_clean();
    assert_eq!(fs::metadata(&bystander.0).unwrap().nlink(), 1, "none of them is left");
}

#[test]
fn a_file_is_not_put_back_through_a_hard_link() {
    let mut place = Place::with_repository();
    place.limits.max_file_bytes = 8;
    let bystander = Bystander::new(&place);
    let ran = place.turn(1, |p| {
        fs::remove_file(p.path("a.txt")).unwrap();
        fs::hard_link(&bystander.0, p.path("a.txt")).unwrap();
    });
    assert_eq!(ran.finished.reverted.len(), 1, "it is too large");
    assert_eq!(place.read("a.txt"), "one\n");
    bystander.assert_untouched();
    place.assert_clean();
}

#[test]
fn a_tree_is_not_put_back_through_links() {
    let mut place = Place::with_repository();
    place.turn(1, |p| p.write("d/sub/x", "1"));
    let elsewhere = place.dir.path().join("elsewhere");
    fs::create_dir_all(elsewhere.join("sub")).unwrap();
    fs::write(elsewhere.join("sub/x"), "theirs").unwrap();
    let (mut workspace, begun) = place.begin(2);
    fs::remove_dir_all(place.path("d")).unwrap();
    symlink(&elsewhere, place.path("d")).unwrap();
    let out = workspace.interrupt(&begun.baseline, &meta(2)).unwrap();
    assert_eq!(place.read("d/sub/x"), "1");
    assert!(fs::symlink_metadata(place.path("d")).unwrap().is_dir());
    assert_eq!(fs::read_to_string(elsewhere.join("sub/x")).unwrap(), "theirs");
    assert!(place.git(&["ls-tree", &out.kept.unwrap()]).contains("120000 blob"));
    place.assert_clean();
}

#[test]
fn links_are_committed_as_links_and_nothing_behind_them() {
    let mut place = Place::with_repository();
    let bystander = Bystander::new(&place);
    place.turn(1, |p| {
        symlink(&bystander.0, p.path("file")).unwrap();
        symlink(p.dir.path(), p.path("folder")).unwrap();
        symlink(".git/config", p.path("config")).unwrap();
        symlink("/proc/self/environ", p.path("environ")).unwrap();
        fs::create_dir_all(p.path("kg/entities")).unwrap();
        symlink(&bystander.0, p.path("kg/entities/e.md")).unwrap();
        symlink(&bystander.0, p.path(".gitmodules")).unwrap();
    });
    let tree = place.git(&["ls-tree", "-r", "HEAD"]);
    assert_eq!(tree.lines().filter(|l| l.starts_with("120000")).count(), 4, "{tree}");
    assert_eq!(tree.lines().count(), 5, "an entity and .gitmodules may not be links: {tree}");
    assert_eq!(place.git(&["show", "HEAD:file"]), bystander.0.to_str().unwrap());
    place.assert_clean();
}

#[test]
fn a_gitignore_that_is_a_link_is_not_read() {
    let mut place = Place::with_repository();
    let star = place.dir.path().join("star");
    fs::write(&star, "*\n").unwrap();
    let ran = place.turn(1, |p| {
        symlink(&star, p.path(".gitignore")).unwrap();
        symlink("/dev/zero", p.path("zero")).unwrap();
        p.write("sub/b", "2");
        symlink("/dev/zero", p.path("sub/.gitignore")).unwrap();
    });
    assert_eq!(ran.commit.unwrap().files, 4);
    assert_eq!(place.git(&["show", "HEAD:sub/b"]), "2");
}
