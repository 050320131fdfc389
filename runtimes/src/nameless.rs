//! Files whose names were removed and that are not gone: whoever has one open, or mapped, keeps its blocks on the disk.
//!
//! Whose they are is told by the mounts that a process sees, which nobody in a sandbox can change: a file belongs to the folder of
//! the store whose mount it was opened through. The kernel tells this to root, and to a plain user of its own processes except
//! those that made themselves undumpable and what is mapped (proc_pid_map_files(5)). What is open nowhere, being on its way in a
//! Unix socket, is seen by nobody.

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Statx, StatxFlags, statx};

use crate::usage::Usage;

/// So many open files and mappings are looked at.
const LOOKS: usize = 500_000;
/// Bytes that are read of a table of mounts.
const TABLE_BYTES: usize = 1 << 20;

/// What processes of sandboxes hold of such files, by the folder of the store, as a path in it.
///
/// # Errors
/// When it cannot be told where the store lies.
pub(crate) fn held(store: &Path) -> io::Result<HashMap<PathBuf, Usage>> {
    let store = Origin::of(store)?;
    let own = std::fs::read_link("/proc/self/ns/mnt")?;
    let mut namespaces = HashMap::new();
    let mut search = Search { left: LOOKS, ..Search::default() };
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let process = entry.path();
        // It has ended, is somebody else's, or is no process.
        let Ok(namespace) = std::fs::read_link(process.join("ns/mnt")) else { continue };
        if namespace == own {
            continue;
        }
        if !namespaces.contains_key(&namespace) {
            let Ok(table) = table(&process) else { continue };
            namespaces.insert(namespace.clone(), store.bound(&table));
        }
        if let Some(folders) = namespaces.get(&namespace).filter(|folders| !folders.is_empty()) {
            search.process(&process, folders);
        }
    }
    Ok(search.found)
}

/// The store as file systems know it: the device, and the path there.
#[derive(Debug)]
struct Origin {
    device: String,
    path: String,
}

impl Origin {
    fn of(store: &Path) -> io::Result<Self> {
        let store = store.canonicalize()?;
        let mount = statx(CWD, &store, AtFlags::empty(), StatxFlags::MNT_ID)?.stx_mnt_id;
        let wrong = || io::Error::new(io::ErrorKind::NotFound, "the mount of the store is not in the table");
        let table = table(Path::new("/proc/self"))?;
        let of = table.lines().filter_map(Mounted::parse).find(|one| one.id == mount).ok_or_else(wrong)?;
        let store = escaped(store.to_str().ok_or_else(wrong)?);
        let below = store.strip_prefix(of.point.trim_end_matches('/')).ok_or_else(wrong)?;
        Ok(Self { device: of.device.to_owned(), path: format!("{}{below}", of.root.trim_end_matches('/')) })
    }

    /// The mounts of a table that show a folder of the store, and which.
    fn bound(&self, table: &str) -> HashMap<u64, PathBuf> {
        let folder = |one: Mounted<'_>| {
            let below = one.root.strip_prefix(&self.path)?.strip_prefix('/')?;
            (one.device == self.device && !below.is_empty()).then(|| (one.id, below.into()))
        };
        table.lines().filter_map(Mounted::parse).filter_map(folder).collect()
    }
}

fn table(process: &Path) -> io::Result<String> {
    untrusted::read_kernel(process.join("mountinfo"), TABLE_BYTES)
}

/// As tables of mounts write it.
fn escaped(path: &str) -> String {
    path.replace('\\', "\\134").replace(' ', "\\040").replace('\t', "\\011").replace('\n', "\\012")
}

/// One line of proc_pid_mountinfo(5).
#[derive(Debug, PartialEq, Eq)]
struct Mounted<'a> {
    id: u64,
    device: &'a str,
    root: &'a str,
    point: &'a str,
}

impl<'a> Mounted<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut words = line.split(' ');
        let id = words.next()?.parse().ok()?;
        Some(Self { id, device: words.nth(1)?, root: words.next()?, point: words.next()? })
    }
}

#[derive(Debug, Default)]
struct Search {
    found: HashMap<PathBuf, Usage>,
    counted: HashSet<(u32, u32, u64)>,
    left: usize,
}

impl Search {
    /// What a process has open or mapped; each thread may have open files of its own.
    fn process(&mut self, process: &Path, folders: &HashMap<u64, PathBuf>) {
        let Ok(threads) = std::fs::read_dir(process.join("task")) else { return };
        for thread in threads.flatten() {
            self.links(&thread.path().join("fd"), folders);
        }
        self.links(&process.join("map_files"), folders);
    }

    fn links(&mut self, links: &Path, folders: &HashMap<u64, PathBuf>) {
        let Ok(links) = std::fs::read_dir(links) else { return };
        for link in links.flatten() {
            if self.left == 0 {
                return;
            }
            self.left -= 1;
            let flags = StatxFlags::BASIC_STATS | StatxFlags::MNT_ID;
            if let Ok(file) = statx(CWD, link.path(), AtFlags::STATX_DONT_SYNC, flags) {
                self.count(&file, folders);
            }
        }
    }

    fn count(&mut self, file: &Statx, folders: &HashMap<u64, PathBuf>) {
        let is_file = FileType::from_raw_mode(file.stx_mode.into()) == FileType::RegularFile;
        let Some(folder) = folders.get(&file.stx_mnt_id).filter(|_| is_file && file.stx_nlink == 0) else { return };
        if self.counted.insert((file.stx_dev_major, file.stx_dev_minor, file.stx_ino)) {
            *self.found.entry(folder.clone()).or_default() += Usage { bytes: file.stx_blocks * 512, files: 1 };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_the_store_is_known_by_device_and_path() {
        let table = "36 35 98:0 /s\\040t/units/u/workspace /workspace rw,noatime master:1 - ext3 /dev/root rw\n\
                     37 35 98:0 /s\\040t/units /units rw - ext3 /dev/root rw\n\
                     38 35 98:0 /s\\040tore/x /x rw - ext3 /dev/root rw\n\
                     39 35 98:1 /s\\040t/units/u/state /state rw - ext3 /dev/root rw\n\
                     40 35 98:0 /s\\040t /store rw - ext3 /dev/root rw\n\
                     nothing\n";
        let store = Origin { device: "98:0".into(), path: escaped("/s t") };
        let bound = store.bound(table);
        assert_eq!(bound, HashMap::from([(36, "units/u/workspace".into()), (37, "units".into())]));
    }

    #[test]
    fn the_store_lies_on_a_mount_of_ours() {
        let dir = tempfile::tempdir().unwrap();
        let origin = Origin::of(dir.path()).unwrap();
        let name = dir.path().file_name().unwrap().to_str().unwrap();
        assert!(origin.path.ends_with(name) && origin.device.contains(':'), "{origin:?}");
    }
}
