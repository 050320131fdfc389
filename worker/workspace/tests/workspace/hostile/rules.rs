//! Turns that break rules.

use std::fs;

use crate::fixture::Place;

const GOOD: &str = "---\ntype: person\nid: p1\ntitle: Ada\n---\n";

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
