//! Trees as an agent may leave them, below few descriptors and on the small stack of a test's thread. What is there is counted
//! by find(1), too.

use std::ffi::CStr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Once;

use rustix::fs::{self, AtFlags, FileType, Mode, OFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::{Resource, Rlimit};
use rustix::thread::UnshareFlags;
use untrusted::{Next, remove, walk};

const FEW_FILES: u64 = 160;
const DEEP: usize = 20_000;
const MANY: usize = 500_000;
/// Memory, where it is there: a disk that is told of every block that is free again takes minutes.
const FAST: &str = "/dev/shm";

/// All tests of this program share what it may open.
fn few_files() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let limit = Rlimit { current: Some(FEW_FILES), maximum: Some(FEW_FILES) };
        rustix::process::setrlimit(Resource::Nofile, limit).expect("a limit");
    });
}

fn temporary() -> tempfile::TempDir {
    few_files();
    let fast = Path::new(FAST);
    let made = if fast.is_dir() { tempfile::tempdir_in(fast) } else { tempfile::tempdir() };
    made.expect("a temporary folder")
}

fn open(path: &Path) -> OwnedFd {
    fs::open(path, OFlags::PATH | OFlags::DIRECTORY, Mode::empty()).expect("open a folder")
}

/// Folders in each other below `top`; the lowest of them.
fn nest(top: &Path, name: &str, depth: usize) -> OwnedFd {
    let mut at = open(top);
    for _ in 0..depth {
        fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)).expect("make a folder");
        at = fs::openat(&at, name, OFlags::PATH, Mode::empty()).expect("open a folder");
    }
    at
}

fn touch(at: &OwnedFd, name: &str) {
    fs::openat(at, name, OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644)).expect("make a file");
}

/// Entries below a folder, as the walk and as find(1) see them, and how deep they lie.
fn counted(top: &Path) -> (usize, usize, usize) {
    let (mut entries, mut deepest) = (0, 0);
    let walked = walk(top, |entry| {
        let stat = entry.stat()?;
        entries += 1;
        deepest = deepest.max(entry.depth);
        let is_folder = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        Ok(if is_folder { Next::Into } else { Next::Past })
    });
    assert!(walked.expect("a walk").whole);
    let find = Command::new("find").arg(top).args(["-mindepth", "1", "-printf", "x"]).output().expect("find");
    (entries, find.stdout.len(), deepest)
}

#[test]
fn as_deep_as_may_be() {
    let dir = temporary();
    let top = dir.path().join("top");
    std::fs::create_dir(&top).unwrap();
    let name = "n".repeat(255);
    touch(&nest(&top, &name, DEEP), "lowest");
    assert_eq!(counted(&top), (DEEP + 1, DEEP + 1, DEEP + 1));
    remove(&top).unwrap();
    assert!(!top.exists());
    // What is not there is removed.
    remove(&top).unwrap();
    remove(&top.join("below")).unwrap();
}

#[test]
fn as_many_as_may_be() {
    let dir = temporary();
    let top = dir.path().join("top");
    std::fs::create_dir(&top).unwrap();
    let at = open(&top);
    // Names of few files: an ext4 file has 65,000 at most.
    for n in 0..MANY {
        match n % 60_000 {
            0 => touch(&at, &format!("{n}")),
            rest => fs::linkat(&at, format!("{}", n - rest), &at, format!("{n}"), AtFlags::empty()).unwrap(),
        }
    }
    assert_eq!(counted(&top), (MANY, MANY, 1));
    remove(&top).unwrap();
    assert!(!top.exists());
}

#[test]
fn folders_beside_each_other_at_every_depth() {
    let dir = temporary();
    let top = dir.path().join("top");
    std::fs::create_dir(&top).unwrap();
    let mut at = open(&top);
    for _ in 0..300 {
        for name in ["a", "b", "c"] {
            fs::mkdirat(&at, name, Mode::from_raw_mode(0o755)).unwrap();
            let below = fs::openat(&at, name, OFlags::PATH, Mode::empty()).unwrap();
            touch(&below, "file");
        }
        at = fs::openat(&at, "b", OFlags::PATH, Mode::empty()).unwrap();
    }
    assert_eq!(counted(&top), (1800, 1800, 301));
    remove(&top).unwrap();
    assert!(!top.exists());
}

/// In a thread that is nobody, for whom permissions count.
fn as_nobody<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::spawn(move || {
        if rustix::process::geteuid().is_root() {
            rustix::thread::set_thread_groups(&[]).unwrap();
            rustix::thread::set_thread_gid(rustix::process::Gid::from_raw(10_002)).unwrap();
            rustix::thread::set_thread_uid(rustix::process::Uid::from_raw(10_002)).unwrap();
        }
        what()
    })
    .join()
    .unwrap()
}

#[test]
fn what_is_closed_to_its_owner_is_opened() {
    let dir = temporary();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    let top = dir.path().join("top");
    as_nobody(move || {
        let closed = [0o000, 0o400, 0o100, 0o200];
        for number in 0..closed.len() {
            let folder = top.join(format!("{number}/below"));
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("file"), "x").unwrap();
        }
        for (number, mode) in closed.into_iter().enumerate() {
            let close = |path: &Path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
            close(&top.join(format!("{number}/below")));
            close(&top.join(format!("{number}")));
        }
        std::fs::set_permissions(&top, std::fs::Permissions::from_mode(0o000)).unwrap();
        let mut files = 0;
        let walked = walk(&top, |entry| {
            files += usize::from(FileType::from_raw_mode(entry.stat()?.st_mode) == FileType::RegularFile);
            Ok(if entry.kind == FileType::Directory { Next::Into } else { Next::Past })
        });
        assert!(walked.unwrap().whole);
        assert_eq!(files, closed.len());
        for path in [&top.join("1/below"), &top.join("0"), &top] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o000)).unwrap();
        }
        remove(&top).unwrap();
        assert!(!top.exists());
    });
}

#[test]
fn links_are_neither_followed_nor_in_the_way() {
    let dir = temporary();
    let (top, other) = (dir.path().join("top"), dir.path().join("other"));
    std::fs::create_dir_all(top.join("in")).unwrap();
    std::fs::create_dir(&other).unwrap();
    std::fs::write(other.join("kept"), "x").unwrap();
    for link in ["link", "in/link"] {
        std::os::unix::fs::symlink(&other, top.join(link)).unwrap();
    }
    let mut seen = Vec::new();
    let walked = walk(&top, |entry| {
        seen.push(entry.name.to_owned());
        Ok(Next::Into)
    });
    assert!(walked.unwrap().whole);
    assert!(seen.iter().all(|name| name.as_c_str() != c"kept") && seen.len() == 3, "{seen:?}");
    assert!(walk(&top.join("link"), |_| Ok(Next::Past)).is_err());
    remove(&top.join("link")).unwrap();
    remove(&top).unwrap();
    assert!(!top.exists() && other.join("kept").exists());
}

/// The folder that is walked through is moved away, to where other things are.
#[test]
fn who_moves_folders_about_leads_nobody_astray() {
    let dir = temporary();
    let (top, other) = (dir.path().join("top"), dir.path().join("other"));
    for path in [&top, &other] {
        std::fs::create_dir(path).unwrap();
    }
    std::fs::write(other.join("kept"), "x").unwrap();
    touch(&nest(&top, "d", 60), "lowest");
    let moved = top.join(["d"; 30].join("/"));
    let move_it = |entry: &untrusted::Entry<'_>, way: (&Path, &Path)| {
        if entry.name == c"lowest" && way.0.exists() {
            std::fs::rename(way.0, way.1).unwrap();
        }
    };
    let mut seen = Vec::new();
    let walked = walk(&top, |entry| {
        move_it(entry, (&moved, &other.join("moved")));
        seen.push(entry.name.to_owned());
        Ok(if entry.name == c"d" { Next::Into } else { Next::Past })
    });
    assert!(!walked.unwrap().whole);
    let all = |name: &CStr| seen.iter().filter(|n| n.as_c_str() == name).count();
    assert_eq!((all(c"kept"), all(c"lowest"), all(c"d")), (0, 1, 60));

    // The same while it is removed: what it was in is removed, and what it was moved to is not.
    std::fs::rename(other.join("moved"), &moved).unwrap();
    let walked = walk(&top, |entry| {
        move_it(entry, (&moved, &other.join("moved")));
        let is_folder = entry.kind == FileType::Directory;
        match fs::unlinkat(entry.folder, entry.name, if is_folder { AtFlags::REMOVEDIR } else { AtFlags::empty() }) {
            Err(rustix::io::Errno::NOTEMPTY) => Ok(Next::IntoAndAgain),
            other => other.map(|()| Next::Past),
        }
    });
    assert!(!walked.unwrap().whole);
    assert_eq!(std::fs::read_dir(&top).unwrap().count(), 0);
    assert!(other.join("kept").exists());
    assert_eq!(counted(&other.join("moved")).0, 0);
}

#[test]
fn what_is_mounted_is_left_alone() {
    let dir = temporary();
    let top = dir.path().join("top");
    let mount = top.join("a/mount");
    std::fs::create_dir_all(&mount).unwrap();
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let inside = std::thread::spawn({
        let top = top.clone();
        move || {
            // SAFETY: only this thread's view of the mounts is unshared.
            unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }.unwrap();
            rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC).unwrap();
            rustix::mount::mount("tmpfs", &mount, "tmpfs", MountFlags::empty(), c"").unwrap();
            std::fs::write(mount.join("kept"), "x").unwrap();
            assert_eq!(counted_names(&top), ["a", "mount"]);
            let error = remove(&top).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::BUSY.raw_os_error()));
            assert!(mount.join("kept").exists());
        }
    });
    inside.join().unwrap();
    remove(&top).unwrap();
    assert!(!top.exists());
}

fn counted_names(top: &Path) -> Vec<String> {
    let mut seen = Vec::new();
    let walked = walk(top, |entry| {
        seen.push(entry.name.to_string_lossy().into_owned());
        Ok(Next::Into)
    });
    assert!(walked.unwrap().whole);
    seen
}

#[test]
fn a_file_is_removed_as_well_and_the_way_may_lead_through_links() {
    let dir = temporary();
    std::fs::write(dir.path().join("file"), "x").unwrap();
    std::os::unix::fs::symlink(".", dir.path().join("link")).unwrap();
    remove(&dir.path().join("link/file")).unwrap();
    assert!(!dir.path().join("file").exists());
    assert!(remove(Path::new("/")).is_err());
}
