//! Random changes: a finished turn commits exactly what is on disk, an interrupted one puts back exactly what was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;

use crate::fixture::{Place, meta};

#[derive(Debug, Clone)]
enum Change {
    Write(String, Vec<u8>),
    Link(String, String),
    Executable(String),
    Remove(String),
    Folder(String),
}

fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![Just("a"), Just("b"), Just("a.b"), Just("a-b"), Just("a0"), Just("x.log"), Just("out")];
    proptest::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (path(), proptest::collection::vec(any::<u8>(), 0..20)).prop_map(|(p, c)| Change::Write(p, c)),
        1 => (path(), path()).prop_map(|(p, t)| Change::Link(p, t)),
        1 => path().prop_map(Change::Executable),
        2 => path().prop_map(Change::Remove),
        1 => path().prop_map(Change::Folder),
        1 => prop_oneof![Just("*.log\n"), Just("out/\n"), Just("/a\n!a\n"), Just("*\n!*.b\n"), Just("")]
            .prop_map(|text| Change::Write(".gitignore".into(), text.as_bytes().to_vec())),
    ]
}

/// What cannot be done (a file in the way of a folder) is not done.
fn make(root: &Path, changes: &[Change]) {
    for change in changes {
        let (Change::Write(path, _)
        | Change::Link(path, _)
        | Change::Executable(path)
        | Change::Remove(path)
        | Change::Folder(path)) = change;
        // Never through a link: the test is about the folder.
        let mut at = root.to_path_buf();
        let parents: Vec<&str> = path.split('/').collect();
        let through_link = parents[..parents.len() - 1].iter().any(|name| {
            at.push(name);
            fs::symlink_metadata(&at).is_ok_and(|m| m.is_symlink())
        });
        if through_link {
            continue;
        }
        let at = root.join(path);
        let is_link = fs::symlink_metadata(&at).is_ok_and(|m| m.is_symlink());
        if !matches!(change, Change::Remove(_) | Change::Executable(_))
            && let Some(parent) = at.parent()
        {
            let _ = fs::create_dir_all(parent);
        }
        let _ = match change {
            Change::Write(..) | Change::Executable(_) if is_link => fs::remove_file(&at),
            Change::Write(_, content) => fs::write(&at, content),
            Change::Link(_, target) => symlink(target, &at),
            Change::Executable(_) => fs::set_permissions(&at, fs::Permissions::from_mode(0o755)),
            Change::Remove(_) => fs::remove_file(&at).or_else(|_| fs::remove_dir_all(&at)),
            Change::Folder(_) => fs::create_dir_all(&at),
        };
    }
}

/// Every file and link by path, with mode and content.
fn snapshot(root: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut left = vec![root.to_path_buf()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            let meta = fs::symlink_metadata(&path).unwrap();
            if name == ".git" {
            } else if meta.is_dir() {
                left.push(path);
            } else if meta.is_symlink() {
                let target = fs::read_link(&path).unwrap();
                all.insert(name, (0o120_000, target.to_str().unwrap().as_bytes().to_vec()));
            } else {
                let executable = if meta.permissions().mode() & 0o100 != 0 { 0o100_755 } else { 0o100_644 };
                all.insert(name, (executable, fs::read(&path).unwrap()));
            }
        }
    }
    all
}

/// What git itself would commit of the folder, by an index of its own.
fn as_git_would(place: &Place, tracked_from: &str) -> String {
    place.git(&["read-tree", tracked_from]);
    place.git(&["add", "-A"]);
    place.git(&["write-tree"])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn finish_commits_what_git_would(
        before in proptest::collection::vec(change(), 0..12),
        during in proptest::collection::vec(change(), 0..12),
    ) {
        let place = Place::new();
        make(&place.ws, &before);
        let (mut workspace, begun) = place.begin(1);
        let base = place.head();
        make(&place.ws, &during);
        let on_disk = snapshot(&place.ws);
        let finished = workspace.finish(&begun.baseline, &meta(1)).unwrap();
        prop_assert_eq!(&finished.reverted, &[]);
        prop_assert_eq!(snapshot(&place.ws), on_disk);
        let sha = finished.commit.as_ref().map_or(base.clone(), |c| c.sha.clone());
        let ours = place.git(&["rev-parse", &format!("{sha}^{{tree}}")]);
        let theirs = as_git_would(&place, &base);
        prop_assert_eq!(&ours, &theirs, "{}", place.git(&["diff", "--stat", &ours, &theirs]));
        if let Some(commit) = finished.commit {
            workspace.apply(&commit, &crate::fixture::turn_id(1)).unwrap();
        }
        place.assert_clean();
    }

    #[test]
    fn interrupt_puts_back_exactly_what_was(
        before in proptest::collection::vec(change(), 0..12),
        during in proptest::collection::vec(change(), 0..12),
        crash in any::<bool>(),
    ) {
        let place = Place::new();
        make(&place.ws, &before);
        let (mut workspace, begun) = place.begin(1);
        let base = place.head();
        let tracked: Vec<String> = place.git(&["ls-tree", "-rz", "--name-only", "HEAD"]).split_terminator('\0').map(str::to_owned).collect();
        let was = snapshot(&place.ws);
        make(&place.ws, &during);
        let left = snapshot(&place.ws);
        let kept = if crash {
            place.open().recover(&crate::fixture::turn_id(1), None).unwrap().kept
        } else {
            workspace.interrupt(&begun.baseline, &meta(1)).unwrap().kept
        };
        let now = snapshot(&place.ws);
        for path in &tracked {
            prop_assert_eq!(now.get(path), was.get(path), "{}", path);
        }
        prop_assert_eq!(place.head(), base);
        place.assert_clean();
        // Whatever the turn left is on disk still or on the ref.
        for (path, (_, content)) in &left {
            if now.get(path).is_none_or(|(_, there)| there != content) {
                let kept = kept.as_deref().expect("something to be kept");
                // On the ref itself, or on the commit before it.
                let found = [kept.to_owned(), format!("{kept}^")].iter().any(|at| {
                    place.try_git(&place.ws, &["cat-file", "-e", &format!("{at}:{path}")]).0
                });
                let in_the_way = tracked.iter().any(|t| t.starts_with(&format!("{path}/")) || path.starts_with(&format!("{t}/")));
                prop_assert!(found || in_the_way, "{} is lost", path);
            }
        }
    }
}
