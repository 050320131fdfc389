//! The walk: what is in the tree, found by looking. Nothing but the files themselves, the `.gitignore` files
//! among them and the set of paths already tracked decides what is found.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{self, AtFlags, FileType};
use rustix::io::Errno;

use crate::cache::Known;
use crate::error::{Doing, Result, WorkspaceError};
use crate::ignore::Ignores;
use crate::root::{Root, StatKey, list_some, open_dir_at, open_file_at, read_at, split};
use crate::rules::{Limits, MAX_IGNORE_BYTES, Reverted, bad_name};
use crate::store::{Store, hash_blob};
use crate::tree::{Entry, Flat, Kind, has_below};

/// Longest path that the kernel takes, and git with it.
const MAX_PATH_BYTES: usize = 4095;
/// More files than this are made durable by one sync of the file system before they are read.
const FSYNC_ONE_BY_ONE: usize = 256;

/// Sessions that another system left in a workspace belong in no repository. A `.gitignore` may say otherwise.
const NEVER_COMMITTED: &[u8] = b"/.claude/.session\n/.claude/projects/\n";

/// How much work a walk was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalkStats {
    /// Entries looked at, ignored ones included.
    pub entries: u64,
    /// Files and links that count.
    pub files: u64,
    /// Of these, how many were read.
    pub read: u64,
    /// Bytes read of them.
    pub read_bytes: u64,
}

/// A file or link that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Found {
    pub kind: Kind,
    pub stat: StatKey,
    /// Its content; none where it is larger than may be committed.
    pub oid: Option<git2::Oid>,
}

/// What a walk found.
#[derive(Debug, Default)]
pub(crate) struct Walked {
    pub files: BTreeMap<Vec<u8>, Found>,
    /// What cannot be committed whatever it holds: forbidden name, too deep, unreadable.
    pub bad: BTreeMap<Vec<u8>, &'static str>,
    /// FIFOs, sockets, devices, other file systems.
    pub special: Vec<Vec<u8>>,
    /// Hashes of the paths that are kept out.
    pub ignored: HashSet<u64>,
    pub ignored_bytes: u64,
    /// Paths and sizes of those which are not in the set given to [`Walk::new_ignored`].
    pub ignored_new: Vec<(Vec<u8>, u64)>,
    /// Files that were not read, because more has changed than one turn may change.
    pub unread: BTreeSet<Vec<u8>>,
    /// `.gitignore` files that were heeded and are not tracked; the usual one ignores itself.
    pub ignore_files: Flat,
    ignore_contents: Vec<(Vec<u8>, Vec<u8>)>,
    /// File system's time at which it began.
    pub at_ns: i64,
    pub stats: WalkStats,
}

impl Walked {
    /// The tree as it would be committed, without what has no content to commit.
    pub fn flat(&self) -> Flat {
        let entry =
            |(path, found): (&Vec<u8>, &Found)| Some((path.clone(), Entry { kind: found.kind, oid: found.oid? }));
        self.files.iter().filter_map(entry).collect()
    }

    /// Files without content: too large.
    pub fn too_large(&self) -> impl Iterator<Item = (&Vec<u8>, &Found)> {
        self.files.iter().filter(|(_, found)| found.oid.is_none())
    }
}

pub(crate) fn path_hash(path: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// One walk.
pub(crate) struct Walk<'a> {
    root: &'a Root,
    limits: &'a Limits,
    tracked: &'a Flat,
    ignored_before: Option<&'a HashSet<u64>>,
    max_read_bytes: u64,
    changed_bytes: u64,
    out: Walked,
}

impl<'a> Walk<'a> {
    /// Paths of `tracked` count even where a `.gitignore` names them, as in git.
    pub fn new(root: &'a Root, limits: &'a Limits, tracked: &'a Flat) -> Self {
        Self {
            root,
            limits,
            tracked,
            ignored_before: None,
            max_read_bytes: u64::MAX,
            changed_bytes: 0,
            out: Walked::default(),
        }
    }

    /// Collects the ignored paths that are not in this set.
    pub fn new_ignored(mut self, before: &'a HashSet<u64>) -> Self {
        self.ignored_before = Some(before);
        self
    }

    /// Takes in no more than this of what differs from the tracked: what a turn wrote beyond it gets no room in the object database.
    pub fn read_at_most(mut self, bytes: u64) -> Self {
        self.max_read_bytes = bytes;
        self
    }

    /// Walks, and reads what has moved. Every content found is in the object database afterwards, as what is tracked
    /// has been before.
    ///
    /// # Errors
    /// `Unusable` when the tree has more entries than a workspace may have.
    pub fn run(mut self, store: &mut Store<'_>, known: &Known) -> Result<Walked> {
        self.out.at_ns = self.root.now_ns().doing(|| "write into .git".into())?;
        let top = self.root.dir(b"").doing(|| "open the workspace".into())?;
        self.folder(top, &mut Vec::new(), &Ignores::default().with(b"", NEVER_COMMITTED), false, 0)?;
        for (path, content) in std::mem::take(&mut self.out.ignore_contents) {
            let oid = store.write_blob(&content)?;
            self.out.ignore_files.insert(path, Entry { kind: Kind::File, oid });
        }
        self.read_moved(store, known)?;
        self.out.stats.files = self.out.files.len() as u64;
        Ok(self.out)
    }

    fn folder(
        &mut self,
        dir: OwnedFd,
        path: &mut Vec<u8>,
        ignores: &Ignores,
        ignored: bool,
        depth: usize,
    ) -> Result<()> {
        // One more than there may be, which is then said below.
        let most = (self.limits.max_entries - self.out.stats.entries).saturating_add(1);
        let names = list_some(dir.as_fd(), most).doing(|| format!("list {}", shown(path)))?;
        let inner;
        let mut ignores = ignores;
        if !ignored && names.iter().any(|(name, _)| name == b".gitignore") {
            // A link or anything else that is not a file is no ignore file; git holds it so too.
            if let Ok((_, Some(content))) = read_at(dir.as_fd(), b".gitignore", MAX_IGNORE_BYTES) {
                inner = ignores.with(path, &content);
                ignores = &inner;
                let at =
                    if path.is_empty() { b".gitignore".to_vec() } else { [path.as_slice(), b"/.gitignore"].concat() };
                if !self.tracked.contains_key(&at) {
                    self.out.ignore_contents.push((at, content));
                }
            }
        }
        let len = path.len();
        for (name, _) in names {
            self.out.stats.entries += 1;
            if self.out.stats.entries > self.limits.max_entries {
                let max = self.limits.max_entries;
                return Err(WorkspaceError::unusable(format!(
                    "the workspace holds more than {max} entries; remove some"
                )));
            }
            if len == 0 && name == b".git" {
                continue;
            }
            if len > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let done = self.entry(dir.as_fd(), &name, path, ignores, ignored, depth);
            path.truncate(len);
            done?;
        }
        Ok(())
    }

    fn entry(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &mut Vec<u8>,
        ignores: &Ignores,
        ignored: bool,
        depth: usize,
    ) -> Result<()> {
        let stat = match fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => StatKey::of(&stat),
            Err(Errno::NOENT) => return Ok(()),
            Err(e) => return Err(e).doing(|| format!("look at {}", shown(path))),
        };
        let kind = stat.file_type();
        let is_dir = kind == FileType::Directory;
        let tracked = self.tracked.get(path.as_slice());
        // A nested repository's own folder is kept out like an ignored one: its files count, its history does not.
        let is_git = name == b".git";
        let ignored = ignored || is_git || ignores.matches(path, is_dir);
        if is_dir {
            let submodule = tracked.filter(|entry| entry.kind == Kind::Gitlink);
            if let Some(entry) = submodule {
                self.out.files.insert(path.clone(), Found { kind: Kind::Gitlink, stat, oid: Some(entry.oid) });
            }
            let only_count = submodule.is_some() || is_git || (ignored && !has_below(self.tracked, path));
            return self.subfolder(dir, name, path, ignores, only_count, ignored, depth, stat);
        }
        if !matches!(kind, FileType::RegularFile | FileType::Symlink) {
            if !ignored {
                self.out.special.push(path.clone());
            }
            return Ok(());
        }
        if ignored && tracked.is_none() {
            self.count_ignored(path, stat.size);
            return Ok(());
        }
        if let Some(why) = self.unfit(name, path, kind == FileType::Symlink) {
            self.out.bad.insert(path.clone(), why);
            return Ok(());
        }
        let kind = match kind {
            FileType::Symlink => Kind::Link,
            _ if stat.mode & 0o100 != 0 => Kind::Executable,
            _ => Kind::File,
        };
        self.out.files.insert(path.clone(), Found { kind, stat, oid: None });
        Ok(())
    }

    #[allow(clippy::too_many_arguments, reason = "the state of one step of the recursion")]
    fn subfolder(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &[u8],
        path: &mut Vec<u8>,
        ignores: &Ignores,
        only_count: bool,
        ignored: bool,
        depth: usize,
        stat: StatKey,
    ) -> Result<()> {
        if stat.dev != self.root.dev {
            self.out.special.push(path.clone());
            return Ok(());
        }
        if depth + 1 > self.limits.max_depth {
            if only_count {
                self.count_ignored(path, 0);
            } else {
                self.out.bad.insert(path.clone(), "nested too deep");
            }
            return Ok(());
        }
        if !only_count && let Some(why) = self.unfit(name, path, false) {
            self.out.bad.insert(path.clone(), why);
            return Ok(());
        }
        match open_dir_at(dir, name) {
            Ok(below) => self.folder(below, path, ignores, ignored || only_count, depth + 1),
            Err(Errno::ACCESS) if only_count => Ok(()),
            Err(Errno::ACCESS) => {
                self.out.bad.insert(path.clone(), "cannot be opened");
                Ok(())
            }
            Err(e) => Err(e).doing(|| format!("open {}", shown(path))),
        }
    }

    fn unfit(&self, name: &[u8], path: &[u8], is_link: bool) -> Option<&'static str> {
        if path.len() > MAX_PATH_BYTES {
            return Some("the path is too long");
        }
        bad_name(name, is_link)
    }

    fn count_ignored(&mut self, path: &[u8], size: u64) {
        let hash = path_hash(path);
        self.out.ignored.insert(hash);
        self.out.ignored_bytes = self.out.ignored_bytes.saturating_add(size);
        if self.ignored_before.is_some_and(|before| !before.contains(&hash)) {
            self.out.ignored_new.push((path.to_vec(), size));
        }
    }

    /// Reads every file of which it is not known by its stat what it holds.
    fn read_moved(&mut self, store: &mut Store<'_>, known: &Known) -> Result<()> {
        let mut moved = Vec::new();
        for (path, found) in &mut self.out.files {
            if found.kind == Kind::Gitlink || (found.kind != Kind::Link && found.stat.size > self.limits.max_file_bytes)
            {
                continue;
            }
            match known.content(path, &found.stat) {
                Some(oid) => found.oid = Some(oid),
                None => moved.push(path.clone()),
            }
        }
        // A page dirtied through a memory map moves ctime only when it is first dirtied: written back first, the
        // next write to it shows.
        let one_by_one = moved.len() <= FSYNC_ONE_BY_ONE;
        if !one_by_one {
            fs::syncfs(self.root.fd()).doing(|| "write the workspace back".into())?;
        }
        let mut at: Option<(Vec<u8>, OwnedFd)> = None;
        for path in moved {
            let (parent, name) = split(&path);
            let dir = match at.take() {
                Some((open, dir)) if open == parent => dir,
                _ => self.root.dir(parent).doing(|| format!("open {}", shown(parent)))?,
            };
            self.read_one(store, &path, dir.as_fd(), name, one_by_one)?;
            at = Some((parent.to_vec(), dir));
        }
        Ok(())
    }

    fn read_one(
        &mut self,
        store: &mut Store<'_>,
        path: &[u8],
        dir: BorrowedFd<'_>,
        name: &[u8],
        sync: bool,
    ) -> Result<()> {
        let Some(found) = self.out.files.get_mut(path) else {
            return Ok(());
        };
        let tracked = self.tracked.get(path).map(|entry| entry.oid);
        let beyond = self.changed_bytes.saturating_add(found.stat.size) > self.max_read_bytes;
        if beyond && tracked.is_none() {
            self.out.unread.insert(path.to_vec());
            return Ok(());
        }
        let content = if found.kind == Kind::Link {
            let target = fs::readlinkat(dir, name, Vec::new()).doing(|| format!("read link {}", shown(path)))?;
            Some(target.into_bytes())
        } else {
            if sync && let Ok(fd) = open_file_at(dir, name) {
                // Not every file system knows it; then ctime is all there is.
                let _ = fs::fdatasync(fd);
            }
            match read_at(dir, name, self.limits.max_file_bytes) {
                Ok((stat, content)) => {
                    found.stat = stat;
                    content
                }
                Err(_) => {
                    self.out.files.remove(path);
                    self.out.bad.insert(path.to_vec(), "cannot be read");
                    return Ok(());
                }
            }
        };
        let Some(content) = content else { return Ok(()) };
        self.out.stats.read += 1;
        self.out.stats.read_bytes += content.len() as u64;
        let oid = hash_blob(&content)?;
        if tracked != Some(oid) {
            if beyond {
                self.out.unread.insert(path.to_vec());
                return Ok(());
            }
            self.changed_bytes += content.len() as u64;
            store.write_blob(&content)?;
        }
        found.oid = Some(oid);
        Ok(())
    }
}

fn shown(path: &[u8]) -> String {
    if path.is_empty() { "the workspace".into() } else { format!("`{}`", String::from_utf8_lossy(path)) }
}

/// What is skipped, told.
pub(crate) fn special_notice(path: &[u8]) -> Reverted {
    Reverted::new(path, "neither file, folder nor link: left out of the commit")
}
