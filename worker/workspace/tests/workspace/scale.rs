//! Many files.

use std::fs;

use crate::fixture::Place;

#[test]
fn twenty_thousand_unchanged_files_are_looked_at_and_not_read() {
    let mut place = Place::new();
    for dir in 0..200 {
        fs::create_dir_all(place.path(&format!("d{dir}"))).unwrap();
        for file in 0..100 {
            fs::write(place.path(&format!("d{dir}/f{file}")), format!("{dir} {file}")).unwrap();
        }
    }
    let ran = place.turn(1, |_| {});
    assert_eq!(ran.outside.unwrap().files, 20_000);
    assert_eq!(ran.finished.stats.files, 20_000);
    // The first walk took long: only what was written last can have been racy for it.
    assert!(ran.finished.stats.read < 20_000 / 2, "{:?}", ran.finished.stats);
    let ran = place.turn(2, |p| p.write("d7/f7", "changed"));
    assert_eq!(ran.finished.stats.read, 1, "{:?}", ran.finished.stats);
    assert_eq!(ran.finished.stats.read_bytes, 7);
    assert_eq!(ran.commit.unwrap().files, 1);
    place.assert_clean();
}
