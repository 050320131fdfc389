//! A unit's folder, written as an archive and read back.

use std::fs;
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use workspace::archive::{self, ArchiveError, ArchiveLimits, Restored, Written};

pub(crate) fn write(folder: &Path) -> (Vec<u8>, Written) {
    let mut out = Vec::new();
    let written = archive::write(folder, &mut out, &ArchiveLimits::default()).unwrap();
    (out, written)
}

pub(crate) fn read(mut bytes: &[u8], into: &Path) -> Result<Restored, ArchiveError> {
    archive::read(&mut bytes, into, &ArchiveLimits::default())
}

pub(crate) fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Everything below a folder that an archive keeps, one line each.
fn tree(folder: &Path) -> Vec<String> {
    fn below(at: &Path, top: &Path, out: &mut Vec<String>) {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let stat = fs::symlink_metadata(&path).unwrap();
            let what = if stat.is_symlink() {
                format!("-> {:?}", fs::read_link(&path).unwrap())
            } else if stat.is_dir() {
                below(&path, top, out);
                format!("{:o}/", stat.mode() & 0o7777)
            } else {
                format!("{:o} {} {:?}", stat.mode() & 0o7777, stat.mtime(), fs::read(&path).unwrap())
            };
            out.push(format!("{:?} {what}", path.strip_prefix(top).unwrap()));
        }
    }
    let mut out = Vec::new();
    below(folder, folder, &mut out);
    out.sort();
    out
}

/// A small unit: `workspace` and `state`, one of everything.
pub(crate) fn unit(folder: &Path) {
    let at = |name: &str| folder.join(name);
    fs::create_dir_all(at("workspace/.git/objects")).unwrap();
    fs::create_dir_all(at("state/claude")).unwrap();
    fs::write(at("workspace/run.sh"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(at("workspace/run.sh"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(at("workspace/empty"), "").unwrap();
    fs::write(at("workspace/.git/objects/a"), [7; 1500]).unwrap();
    fs::set_permissions(at("workspace/.git/objects/a"), fs::Permissions::from_mode(0o444)).unwrap();
    fs::write(at("state/session.json"), "{}").unwrap();
    fs::set_permissions(at("state"), fs::Permissions::from_mode(0o700)).unwrap();
    symlink("../../etc/passwd", at("workspace/link")).unwrap();
}

#[derive(Debug, Clone)]
enum Thing {
    File(Vec<u8>, u32),
    Folder,
    Link(String),
}

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        (proptest::collection::vec(any::<u8>(), 0..1200), 0..0o1000_u32).prop_map(|(c, m)| Thing::File(c, m | 0o400)),
        Just(Thing::Folder),
        "[a-z./]{1,150}".prop_map(Thing::Link),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_was_written_comes_back(
        things in proptest::collection::vec((proptest::collection::vec("[aAäé\n\u{1}]{1,40}", 1..5), thing()), 0..12),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let from = dir.path().join("from");
        fs::create_dir_all(from.join("workspace")).unwrap();
        for (names, thing) in &things {
            let path = from.join("workspace").join(names.join("/"));
            // Where one thing is in another's way, the first stays.
            if fs::create_dir_all(path.parent().unwrap()).is_err() || path.symlink_metadata().is_ok() {
                continue;
            }
            match thing {
                Thing::File(content, mode) => {
                    fs::write(&path, content).unwrap();
                    fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
                }
                Thing::Folder => fs::create_dir(&path).unwrap(),
                Thing::Link(target) => symlink(target, &path).unwrap(),
            }
        }
        let (bytes, written) = write(&from);
        prop_assert_eq!(written.left_out_count, 0);
        let to = dir.path().join("to");
        let restored = read(&bytes, &to).unwrap();
        prop_assert_eq!((restored.entries, restored.bytes), (written.entries, written.bytes));
        prop_assert_eq!(tree(&to), tree(&from));
        prop_assert_eq!(write(&to).0, bytes, "equal trees, equal bytes");
    }
}

#[test]
fn a_unit_is_restored_over_an_empty_folder_and_over_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    unit(&from);
    let (bytes, written) = write(&from);
    assert_eq!((written.entries, written.bytes), (10, 1512));
    // What an attempt that was killed left does not matter.
    fs::create_dir_all(dir.path().join(".to.restoring/workspace/old")).unwrap();
    fs::create_dir(&to).unwrap();
    read(&bytes, &to).unwrap();
    assert_eq!(tree(&to), tree(&from));
    assert!(!to.join("workspace/old").exists());

    fs::remove_dir_all(to.join("workspace")).unwrap();
    let before = tree(&to);
    assert!(matches!(read(&bytes, &to), Err(ArchiveError::Io { .. })));
    assert_eq!(tree(&to), before, "it is as it was");
    assert_eq!(names(dir.path()), ["from", "to"]);
}

#[test]
fn any_tar_can_look_into_one() {
    let dir = tempfile::tempdir().unwrap();
    let from = dir.path().join("from");
    unit(&from);
    let long = format!("workspace/{}/{}", "d".repeat(120), "f".repeat(120));
    fs::create_dir_all(from.join(&long).parent().unwrap()).unwrap();
    fs::write(from.join(&long), "deep").unwrap();
    symlink("t".repeat(200), from.join("workspace/far")).unwrap();
    let file = dir.path().join("unit.tar");
    fs::write(&file, write(&from).0).unwrap();
    let tar = |args: &[&str]| {
        let mut command = Command::new("tar");
        command.args(args).arg("-f").arg(&file).env_clear().env("PATH", "/usr/bin:/bin").stdin(Stdio::null());
        let output = command.output().expect("tar is needed: apt-get install tar");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let list = tar(&["-tv"]);
    assert!(list.contains(&long), "{list}");
    assert!(list.contains(&format!("workspace/far -> {}", "t".repeat(200))), "{list}");
    let manifest = tar(&["-xO", "rekindle-archive.json"]);
    assert_eq!(manifest, r#"{"format":"rekindle-archive","version":1,"hash":"sha256"}"#);
}

#[test]
fn a_cut_is_known_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    unit(&dir.path().join("from"));
    let (bytes, _) = write(&dir.path().join("from"));
    for end in (0..bytes.len()).step_by(101).chain((0..bytes.len()).step_by(512)).chain([bytes.len() - 1]) {
        let refused = read(&bytes[..end], &dir.path().join("to"));
        assert!(matches!(refused, Err(ArchiveError::Cut)), "{end}: {refused:?}");
        assert_eq!(names(dir.path()), ["from"], "{end}");
    }
}

#[test]
fn damage_is_known_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    unit(&dir.path().join("from"));
    let (bytes, _) = write(&dir.path().join("from"));
    for at in (0..bytes.len()).step_by(13) {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x11;
        assert!(read(&bytes, &dir.path().join("to")).is_err(), "byte {at}");
        assert_eq!(names(dir.path()), ["from"], "byte {at}");
    }
}

#[test]
fn links_are_stored_and_not_followed_and_pipes_are_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let (from, outside) = (dir.path().join("from"), dir.path().join("outside"));
    unit(&from);
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "the key of the house").unwrap();
    symlink(&outside, from.join("workspace/out")).unwrap();
    symlink(outside.join("secret"), from.join("workspace/stolen")).unwrap();
    fs::remove_dir_all(from.join("state")).unwrap();
    symlink(&outside, from.join("state")).unwrap();
    let pipe = from.join("workspace/pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU, 0).unwrap();
    fs::write(from.join("workspace/root.sh"), "x").unwrap();
    fs::set_permissions(from.join("workspace/root.sh"), fs::Permissions::from_mode(0o6755)).unwrap();

    let (bytes, written) = write(&from);
    assert!(!bytes.windows(8).any(|w| w == b"the key "), "a link was followed");
    let left: Vec<_> = written.left_out.iter().map(|l| (l.path.as_str(), l.why)).collect();
    assert_eq!(
        left,
        [("workspace/pipe", "it is neither file, folder nor link"), ("state", "it is not a folder")],
        "told in order"
    );
    let to = dir.path().join("to");
    read(&bytes, &to).unwrap();
    assert_eq!(fs::read_link(to.join("workspace/out")).unwrap(), outside);
    assert_eq!(fs::symlink_metadata(to.join("workspace/root.sh")).unwrap().mode() & 0o7777, 0o755, "no set-uid bit");
    assert_eq!(names(&to), ["workspace"]);
}

#[test]
fn both_sides_keep_to_the_limits() {
    let dir = tempfile::tempdir().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    unit(&from);
    let (bytes, written) = write(&from);
    let most = ArchiveLimits { max_bytes: written.bytes, max_entries: written.entries, max_depth: 3 };
    archive::write(&from, &mut Vec::new(), &most).unwrap();
    archive::read(&mut &bytes[..], &to, &most).unwrap();
    fs::remove_dir_all(&to).unwrap();
    for less in [
        ArchiveLimits { max_bytes: most.max_bytes - 1, ..most.clone() },
        ArchiveLimits { max_entries: most.max_entries - 1, ..most.clone() },
    ] {
        let refused = archive::write(&from, &mut Vec::new(), &less);
        assert!(matches!(refused, Err(ArchiveError::TooMuch { .. })), "{refused:?}");
        let refused = archive::read(&mut &bytes[..], &to, &less);
        assert!(matches!(refused, Err(ArchiveError::TooMuch { .. })), "{refused:?}");
    }
    let shallow = ArchiveLimits { max_depth: 2, ..most };
    let refused = archive::read(&mut &bytes[..], &to, &shallow);
    assert!(matches!(refused, Err(ArchiveError::Refused { .. })), "{refused:?}");
    let left = archive::write(&from, &mut Vec::new(), &shallow).unwrap().left_out;
    assert_eq!(left[0].path, "workspace/.git/objects");
    assert_eq!(names(dir.path()), ["from"]);
}

#[test]
fn a_stream_that_breaks_is_told_and_leaves_nothing() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("the store went away"))
        }
    }
    let dir = tempfile::tempdir().unwrap();
    unit(&dir.path().join("from"));
    let (bytes, _) = write(&dir.path().join("from"));
    let mut input = (&bytes[..3000]).chain(Broken);
    let refused = archive::read(&mut input, &dir.path().join("to"), &ArchiveLimits::default()).unwrap_err();
    assert!(refused.is_retryable() && matches!(refused, ArchiveError::Io { .. }), "{refused:?}");
    assert_eq!(names(dir.path()), ["from"]);
}
