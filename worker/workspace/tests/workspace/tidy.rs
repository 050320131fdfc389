//! Repositories are put in order while nothing runs.

use std::cell::Cell;
use std::fs;

use crate::fixture::Place;

/// More loose objects than are left alone, in versions that resemble each other.
fn many_loose() -> Place {
    let mut place = Place::new();
    let text: String = (0..200).map(|n| format!("line {n}\n")).collect();
    for n in 0..2_100 {
        place.write(&format!("d{}/f{n}", n % 30), format!("{text}{n}\n"));
    }
    place.turn(1, |_| {});
    place
}

fn loose(place: &Place) -> u64 {
    let counts = place.git(&["count-objects"]);
    counts.split(' ').next().unwrap().parse().unwrap()
}

fn stray_files(place: &Place) -> Vec<String> {
    let packs = fs::read_dir(place.path(".git/objects/pack")).unwrap();
    let mut names: Vec<_> = packs.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn many_loose_objects_become_one_pack() {
    let mut place = many_loose();
    // What is no sound object stays where it is, and keeps nothing else from being packed.
    let damaged = place.path(".git/objects/00/00000000000000000000000000000000000000");
    fs::create_dir_all(damaged.parent().unwrap()).unwrap();
    fs::write(&damaged, "damaged").unwrap();
    let before = loose(&place);
    let tidied = place.open().tidy(&|| false).unwrap();
    // The tree without entries is known to git without being had: it stays too.
    assert_eq!((tidied.packed as u64, loose(&place)), (before - 2, 2));
    fs::remove_file(&damaged).unwrap();
    place.assert_clean();
    let files = stray_files(&place);
    assert!(files.len() == 2 && files[0].ends_with(".idx") && files[1].ends_with(".pack"), "{files:?}");
    let deltas = place.git(&["verify-pack", "-v", &format!(".git/objects/pack/{}", files[0])]);
    assert!(deltas.lines().filter(|line| line.split_whitespace().count() == 7).count() > 1_500, "delta-compressed");
    assert_eq!(place.open().tidy(&|| false).unwrap().packed, 0, "few are left alone");
    let ran = place.turn(2, |p| p.write("d1/f1", "changed"));
    assert_eq!(ran.commit.unwrap().files, 1);
    place.assert_clean();
}

#[test]
fn cut_off_anywhere_it_loses_nothing_and_goes_on_the_next_time() {
    let place = many_loose();
    let before = loose(&place);
    let (mut allowed, mut packed) = (1_u32, 0);
    while loose(&place) > 0 {
        let asked = Cell::new(0);
        let enough = || {
            asked.set(asked.get() + 1);
            asked.get() > allowed
        };
        packed += place.open().tidy(&enough).unwrap().packed as u64;
        let (ok, out) = place.try_git(&place.ws, &["fsck", "--connectivity-only", "--no-dangling"]);
        assert!(ok, "after {allowed}: {out}");
        if loose(&place) < before {
            // It is in the midst of removing them: the rest is fewer than are packed.
            break;
        }
        allowed *= 16;
    }
    assert!(packed > 0 && packed == before - loose(&place));
    place.assert_clean();
}
