//! What is laid into the tree itself.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{Mode, OFlags};

use super::{ended, mkfifo, unusable};
use crate::fixture::{Place, meta};

#[test]
fn special_files_are_skipped_and_never_opened() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        mkfifo(&p.path("fifo"));
        mkfifo(&p.path(".gitignore"));
        let socket = std::os::unix::net::UnixListener::bind(p.path("sock")).unwrap();
        drop(socket);
        p.write("b", "2");
    });
    assert_eq!(ran.finished.notices.iter().filter(|n| n.contains("neither file")).count(), 3);
    assert_eq!(ran.commit.unwrap().files, 1);
}

#[test]
fn a_device_is_neither_opened_nor_committed() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        // Where the kernel makes none for who runs this, a pipe stands in: to open either would be felt.
        let made = rustix::fs::mknodat(
            rustix::fs::CWD,
            p.path("device"),
            rustix::fs::FileType::CharacterDevice,
            Mode::RWXU,
            rustix::fs::makedev(1, 3),
        );
        made.unwrap_or_else(|_| mkfifo(&p.path("device")));
        p.write("b", "2");
    });
    assert_eq!(ran.finished.notices.iter().filter(|n| n.contains("device: neither file")).count(), 1);
    assert_eq!(place.git(&["ls-tree", "--name-only", "HEAD"]), "a.txt\nb");
}

fn bury(place: &Place, name: &str, folders: usize) {
    let mut at = rustix::fs::open(&place.ws, OFlags::DIRECTORY, Mode::empty()).unwrap();
    for _ in 0..folders {
        rustix::fs::mkdirat(&at, name, Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    let flags = OFlags::CREATE | OFlags::WRONLY;
    rustix::fs::openat(&at, "deep", flags, Mode::RWXU).unwrap();
}

#[test]
fn a_tree_deeper_than_there_are_descriptors_is_taken_apart() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        bury(p, "d", 3000);
        p.write("b", "2");
    });
    assert_eq!(ran.finished.reverted.len(), 1);
    assert!(ran.finished.reverted[0].reason.contains("deep"));
    assert_eq!(ran.commit.unwrap().files, 1);
    assert!(!place.exists("d"));
    place.assert_clean();
}

#[test]
fn a_path_longer_than_the_kernel_takes_is_put_back() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        bury(p, &"n".repeat(200), 30);
        p.write("b", "2");
    });
    assert_eq!(ran.finished.reverted.len(), 1, "{:?}", ran.finished.reverted);
    assert!(ran.finished.reverted[0].reason.contains("too long"));
    assert_eq!(place.git(&["ls-tree", "-r", "--name-only", "HEAD"]), "a.txt\nb");
}

#[test]
fn a_cancelled_turn_with_a_deep_tree_leaves_the_rest_as_it_was() {
    let place = Place::with_repository();
    let (mut workspace, begun) = place.begin(1);
    bury(&place, "d", 300);
    place.write("a.txt", "changed\n");
    let out = workspace.interrupt(&begun.baseline, &meta(1)).unwrap();
    assert_eq!(place.read("a.txt"), "one\n");
    assert!(out.kept.is_some() && place.exists("d"), "what no ref can hold is left");
    assert!(out.notices.iter().any(|n| n.contains("left in place")), "{:?}", out.notices);
}

#[test]
fn a_folder_that_nobody_may_enter_is_opened_up() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        p.write("closed/x", "1");
        p.chmod("closed/x", 0);
        p.chmod("closed", 0);
    });
    assert_eq!(ran.commit.unwrap().files, 1);
    assert_eq!(place.git(&["show", "HEAD:closed/x"]), "1");
}

#[test]
fn folders_that_nobody_may_write_to_are_put_back_all_the_same() {
    super::as_plain_user(|| {
        let mut place = Place::with_repository();
        place.turn(1, |p| p.write("d/x", "1"));
        let (mut workspace, begun) = place.begin(2);
        place.write("d/x", "2");
        place.write("d/new", "n");
        fs::remove_file(place.path("a.txt")).unwrap();
        for (path, mode) in [("d/x", 0o400), ("d/new", 0), ("d", 0o500), (".git/rekindle", 0o500), (".git/refs", 0o500)]
        {
            place.chmod(path, mode);
        }
        for path in [".git", "."] {
            place.chmod(path, 0o500);
        }
        let out = workspace.interrupt(&begun.baseline, &meta(2)).map_err(|e| e.chain()).unwrap();
        assert_eq!((place.read("d/x"), place.read("a.txt")), ("1".to_owned(), "one\n".to_owned()));
        assert!(!place.exists("d/new"));
        assert_eq!(place.git(&["show", &format!("{}:d/new", out.kept.unwrap())]), "n");
        place.turn(3, |p| p.write("b", "2"));
        place.assert_clean();
    });
}

#[test]
fn names_that_mean_dot_git_elsewhere_are_put_back() {
    let mut place = Place::with_repository();
    let names = [".GIT", ".git ", ".git.", "git~1", ".g\u{200c}it", ".git::$INDEX_ALLOCATION", ".Git"];
    let ran = place.turn(1, |p| {
        for (n, name) in names.iter().enumerate() {
            p.write(&format!("{n}/{name}/config"), "[core]\n\tfsmonitor = evil\n");
            p.write(&format!("f{n}/{name}"), "gitdir: /elsewhere\n");
        }
        p.write("b", "2");
    });
    assert_eq!(ran.finished.reverted.len(), 2 * names.len(), "{:?}", ran.finished.reverted);
    assert_eq!(place.git(&["ls-tree", "-r", "--name-only", "HEAD"]), "a.txt\nb");
    assert!(!place.exists("0") && !place.exists("f0"));
    place.assert_clean();
}

#[test]
fn a_file_named_dot_git_deeper_down_is_kept_out() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        p.write("d/.git", "gitdir: /elsewhere\n");
        p.write("d/x", "1");
    });
    assert_eq!(ran.commit.unwrap().files, 1);
    assert_eq!(place.git(&["ls-tree", "-r", "--name-only", "HEAD"]), "a.txt\nd/x");
}

#[test]
fn names_that_are_no_text_are_put_back_byte_by_byte() {
    let mut place = Place::with_repository();
    place.limits.max_file_bytes = 10;
    let names: [&[u8]; 4] = [b"new\nline", b"\xff\xfe", b"tab\t\"quote\"", b"\xc0\xae\xc0\xae"];
    let ran = place.turn(1, |p| {
        for name in names {
            fs::write(p.ws.join(OsStr::from_bytes(name)), vec![b'x'; 11]).unwrap();
        }
        fs::write(p.ws.join(OsStr::from_bytes(b"fine\n\xff")), "f").unwrap();
    });
    assert_eq!(ran.finished.reverted.len(), names.len());
    for name in names {
        assert!(fs::symlink_metadata(place.ws.join(OsStr::from_bytes(name))).is_err());
    }
    assert_eq!(place.git(&["ls-tree", "-z", "--name-only", "HEAD"]), "a.txt\0fine\n\u{fffd}\0");
    place.assert_clean();
}

#[test]
fn a_huge_file_is_put_back_without_being_read() {
    let mut place = Place::with_repository();
    let ran = place.turn(1, |p| {
        for name in ["a.txt", "new"] {
            fs::File::create(p.path(name)).unwrap().set_len(1 << 40).unwrap();
        }
        p.write("b", "2");
    });
    assert_eq!(ran.finished.reverted.len(), 2);
    assert!(ran.finished.stats.read_bytes < 100, "{:?}", ran.finished.stats);
    assert_eq!(place.read("a.txt"), "one\n");
    assert!(!place.exists("new"));
    assert_eq!(ran.commit.unwrap().files, 1);
    place.assert_clean();
}

#[test]
fn more_names_than_a_workspace_may_have_make_the_turn_fail() {
    for ignored in [false, true] {
        let mut place = Place::with_repository();
        place.limits.max_entries = 500;
        let head = place.head();
        let why = unusable(ended(&place, 1, |p| {
            p.write(".gitignore", if ignored { "many/\n" } else { "" });
            fs::create_dir(p.path("many")).unwrap();
            for n in 0..600 {
                fs::write(p.path(&format!("many/{n}")), "").unwrap();
            }
        }));
        assert!(why.contains("more than 500 entries"), "{why}");
        assert_eq!(place.head(), head);
        assert_eq!(place.read("a.txt"), "one\n");
    }
}

#[test]
fn what_is_written_through_a_mapping_after_it_was_read_is_seen_the_next_time() {
    let mut place = Place::with_repository();
    let size = 4096;
    place.turn(1, |p| p.write("mapped", vec![b'0'; size]));
    let open = fs::OpenOptions::new().read(true).write(true).open(place.path("mapped")).unwrap();
    // SAFETY: a shared mapping of a file as long as the mapping, used below through its pointer only and never unmapped.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED,
            std::os::fd::AsRawFd::as_raw_fd(&open),
            0,
        )
    };
    assert_ne!(at, libc::MAP_FAILED);
    for turn in 2..6_u8 {
        let ran = place.turn(u64::from(turn), |_| {
            // SAFETY: the first byte of the mapping above; nobody else writes to it.
            unsafe { at.cast::<u8>().write_volatile(b'0' + turn) };
        });
        assert_eq!(ran.commit.expect("a commit").files, 1, "turn {turn}");
        let shown = place.git(&["show", "HEAD:mapped"]);
        assert_eq!((shown.len(), shown.as_bytes()[0]), (size, b'0' + turn));
    }
    place.assert_clean();
}

#[test]
fn a_change_that_keeps_size_and_time_is_seen() {
    let mut place = Place::with_repository();
    // The clock of the file system moves on, so that nothing is read for being too fresh.
    (2..200).map(|n| place.turn(n, |_| {})).find(|ran| ran.finished.stats.read == 0).unwrap();
    let ran = place.turn(300, |p| {
        let was = fs::metadata(p.path("a.txt")).unwrap().modified().unwrap();
        p.write("a.txt", "two\n");
        fs::File::options().write(true).open(p.path("a.txt")).unwrap().set_modified(was).unwrap();
    });
    assert_eq!(ran.commit.unwrap().files, 1);
    assert_eq!(place.git(&["show", "HEAD:a.txt"]), "two");
}

#[test]
fn a_workspace_that_its_agent_closed_is_opened() {
    super::as_plain_user(|| {
        let mut place = Place::with_repository();
        for turn in [1, 2] {
            let ran = place.turn(turn, |p| {
                p.write("b", format!("{turn}"));
                p.chmod("", 0);
            });
            assert_eq!(ran.commit.unwrap().files, 1);
            assert_eq!(place.git(&["show", "HEAD:b"]), format!("{turn}"));
            // Between turns it was closed, too.
            place.chmod("", 0);
        }
        place.open();
        assert_eq!(place.log(), ["turn 2", "turn 1", "first"]);
    });
}
