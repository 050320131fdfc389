//! The object database of a workspace's repository. libgit2 gets to see it through a bare repository made here,
//! so that it never reads the real one's configuration, refs, attributes or hooks.

use std::cell::RefCell;
use std::ffi::OsString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Once;

use git2::{ConfigLevel, DiffOptions, ObjectType, OdbLookupFlags, Oid, Patch, Repository};
use rustix::fs::{self, AtFlags, FileType, Mode};
use rustix::io::Errno;

use crate::error::{Doing, Result, WorkspaceError};
use crate::root::{Root, SCRATCH, make_accessible, open_dir_at, open_file_at, remove_at};
use crate::rules::bad_name;
use crate::tree::{Entry, Flat, Kind};

const MAX_TREE_DEPTH: usize = 256;
/// What an object says of its size is believed, and room made for it, before it is read: a few bytes may say terabytes.
const MAX_COMMIT_BYTES: usize = 16 << 20;
const MAX_TREE_BYTES: usize = 256 << 20;
const MAX_BLOB_BYTES: usize = 1 << 30;
/// Objects beyond this many are made durable by one sync of the file system.
const SYNC_ONE_BY_ONE: usize = 128;
/// Larger files are not counted line by line.
const MAX_DIFF_BYTES: usize = 1 << 20;

static LIBGIT2: Once = Once::new();

/// To be called before libgit2 is used for anything.
pub(crate) fn set_up_libgit2() {
    LIBGIT2.call_once(|| {
        for level in [ConfigLevel::ProgramData, ConfigLevel::System, ConfigLevel::XDG, ConfigLevel::Global] {
            // SAFETY: changes global state of libgit2 that has no lock. Nothing else in the program uses git2,
            // and every use in this crate begins with a `Store`, whose opening waits for this to be done.
            let _ = unsafe { git2::opts::set_search_path(level, "") };
        }
        git2::opts::strict_hash_verification(true);
        // An idle worker shall be small; what is read twice comes from the page cache.
        git2::opts::enable_caching(false);
    });
}

/// An open object database.
pub(crate) struct Store<'a> {
    root: &'a Root,
    repo: Repository,
    written: Vec<Oid>,
    objects: OwnedFd,
    removed: RefCell<Vec<String>>,
}

impl<'a> Store<'a> {
    /// Opens the objects of the repository at `path`, of which `root` is the open folder.
    pub fn open(root: &'a Root, path: &Path) -> Result<Self> {
        set_up_libgit2();
        let scratch = root.scratch().doing(|| "make a folder in .git".into())?;
        let made = (|| {
            remove_at(scratch.as_fd(), b"view")?;
            fs::mkdirat(&scratch, "view", Mode::from_raw_mode(0o700))?;
            let view = open_dir_at(scratch.as_fd(), b"view")?;
            fs::mkdirat(&view, "refs", Mode::from_raw_mode(0o700))?;
            fs::symlinkat("../../objects", &view, "objects")
        })();
        made.doing(|| "prepare the repository for reading".into())?;
        let config = b"[core]\n\trepositoryformatversion = 0\n\tbare = true\n";
        root.write(b".git/rekindle/view/config", config, 0o600).doing(|| "prepare the repository".into())?;
        root.write(b".git/rekindle/view/HEAD", b"ref: refs/heads/none\n", 0o600)
            .doing(|| "prepare the repository".into())?;
        let view = path.join(OsString::from_vec([SCRATCH, b"/view"].concat()));
        let repo = Repository::open_bare(view).doing(|| "open the object database".into())?;
        let objects = root.dir(b".git/objects").doing(|| "open the object database".into())?;
        Ok(Self { root, repo, written: Vec::new(), objects, removed: RefCell::default() })
    }

    pub fn repo(&self) -> &Repository {
        &self.repo
    }

    fn read(&self, oid: Oid, kind: ObjectType) -> Result<Vec<u8>> {
        self.guard(oid)?;
        let odb = self.repo.odb().doing(|| "open the object database".into())?;
        let max = match kind {
            ObjectType::Commit => MAX_COMMIT_BYTES,
            ObjectType::Tree => MAX_TREE_BYTES,
            _ => MAX_BLOB_BYTES,
        };
        if odb.read_header(oid).doing(|| format!("read object {oid}"))?.0 > max {
            return Err(WorkspaceError::unusable(format!("object {oid} is larger than {max} bytes; run `git fsck`")));
        }
        let object = odb.read(oid).doing(|| format!("read object {oid}"))?;
        if object.kind() != kind {
            return Err(WorkspaceError::unusable(format!("object {oid} is not a {kind}; run `git fsck`")));
        }
        Ok(object.data().to_vec())
    }

    pub fn commit(&self, oid: Oid) -> Result<Vec<u8>> {
        self.read(oid, ObjectType::Commit)
    }

    pub fn blob(&self, oid: Oid) -> Result<Vec<u8>> {
        self.read(oid, ObjectType::Blob)
    }

    /// Whether a commit is here.
    pub fn has_commit(&self, oid: Oid) -> bool {
        let header = || self.repo.odb().and_then(|odb| odb.read_header(oid));
        self.guard(oid).is_ok() && header().is_ok_and(|(_, kind)| kind == ObjectType::Commit)
    }

    fn write(&mut self, kind: ObjectType, data: &[u8]) -> Result<Oid> {
        let oid = Oid::hash_object(kind, data).doing(|| "hash an object".into())?;
        self.guard(oid)?;
        let odb = self.repo.odb().doing(|| "open the object database".into())?;
        // The database was opened a moment ago: looking for new packs at every miss is for nothing.
        if odb.exists_ext(oid, OdbLookupFlags::NO_REFRESH) {
            // Something under that name may have been planted: what a commit refers to must be sound.
            if odb.read_header(oid).is_ok_and(|(bytes, _)| bytes == data.len()) && odb.read(oid).is_ok() {
                return Ok(oid);
            }
            let hex = oid.to_string();
            let path = format!(".git/objects/{}/{}", &hex[..2], &hex[2..]);
            self.root.remove(path.as_bytes()).doing(|| format!("remove the damaged object {oid}"))?;
        }
        if odb.write(kind, data).is_err() {
            // The folders' permissions may be the agent's.
            self.open_up(oid).doing(|| format!("make room for object {oid}"))?;
            odb.write(kind, data).doing(|| "write an object".into())?;
        }
        self.written.push(oid);
        Ok(oid)
    }

    pub fn write_blob(&mut self, data: &[u8]) -> Result<Oid> {
        self.write(ObjectType::Blob, data)
    }

    pub fn write_commit(&mut self, data: &[u8]) -> Result<Oid> {
        self.write(ObjectType::Commit, data)
    }

    /// Writes the tree objects of a flat tree.
    pub fn write_tree(&mut self, flat: &Flat) -> Result<Oid> {
        let entries: Vec<(&[u8], &Entry)> = flat.iter().map(|(path, entry)| (path.as_slice(), entry)).collect();
        self.write_level(&entries, 0)
    }

    fn write_level(&mut self, entries: &[(&[u8], &Entry)], skip: usize) -> Result<Oid> {
        let mut data = Vec::new();
        let mut at = 0;
        while at < entries.len() {
            let (path, entry) = entries[at];
            let rest = &path[skip..];
            let (mode, name, oid, next) = match rest.iter().position(|b| *b == b'/') {
                None => (entry.kind.mode(), rest, entry.oid, at + 1),
                Some(slash) => {
                    let prefix = &path[..skip + slash + 1];
                    let below = entries[at..].iter().take_while(|(p, _)| p.starts_with(prefix)).count();
                    let oid = self.write_level(&entries[at..at + below], prefix.len())?;
                    (0o040_000, &rest[..slash], oid, at + below)
                }
            };
            data.extend_from_slice(format!("{mode:o} ").as_bytes());
            data.extend_from_slice(name);
            data.push(0);
            data.extend_from_slice(oid.as_bytes());
            at = next;
        }
        self.write(ObjectType::Tree, &data)
    }

    /// Reads a whole tree.
    pub fn read_tree(&self, tree: Oid, max_entries: u64) -> Result<Flat> {
        let mut flat = Flat::new();
        let mut left = max_entries;
        self.read_level(tree, &mut Vec::new(), 0, &mut left, &mut flat)?;
        Ok(flat)
    }

    fn read_level(&self, tree: Oid, path: &mut Vec<u8>, depth: usize, left: &mut u64, flat: &mut Flat) -> Result<()> {
        let damaged =
            |what: &str| WorkspaceError::unusable(format!("tree {tree} of the repository {what}; run `git fsck`"));
        if depth > MAX_TREE_DEPTH {
            return Err(damaged("is nested too deep"));
        }
        let data = self.read(tree, ObjectType::Tree)?;
        let mut rest = data.as_slice();
        while !rest.is_empty() {
            *left = left.checked_sub(1).ok_or_else(|| damaged("has too many entries"))?;
            let space = rest.iter().position(|b| *b == b' ').ok_or_else(|| damaged("is damaged"))?;
            let nul = rest.iter().position(|b| *b == 0).filter(|n| *n > space).ok_or_else(|| damaged("is damaged"))?;
            let mode = std::str::from_utf8(&rest[..space]).ok().and_then(|m| u32::from_str_radix(m, 8).ok());
            let mode = mode.ok_or_else(|| damaged("is damaged"))?;
            let name = &rest[space + 1..nul];
            let raw = rest.get(nul + 1..nul + 21).ok_or_else(|| damaged("is damaged"))?;
            let oid = Oid::from_bytes(raw).doing(|| "read a tree".into())?;
            rest = &rest[nul + 21..];
            if name == b".git" || bad_name(name, false).is_some() {
                return Err(damaged(&format!("has an entry `{}`", String::from_utf8_lossy(name))));
            }
            let len = path.len();
            if len > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
            if mode & 0o170_000 == 0o040_000 {
                self.read_level(oid, path, depth + 1, left, flat)?;
            } else {
                let kind = Kind::from_mode(mode).ok_or_else(|| damaged("is damaged"))?;
                flat.insert(path.clone(), Entry { kind, oid });
            }
            path.truncate(len);
        }
        Ok(())
    }

    /// Lines added and removed between two trees. Of the objects only the changed files' are looked at.
    pub fn count_lines(&self, old: &Flat, new: &Flat) -> Result<(u64, u64)> {
        let gone = old.iter().filter(|(path, _)| !new.contains_key(*path)).map(|(_, entry)| (Some(entry), None));
        let come = new.iter().map(|(path, entry)| (old.get(path), Some(entry))).filter(|(old, new)| old != new);
        let (mut insertions, mut deletions) = (0, 0);
        for (old, new) in gone.chain(come) {
            let (Some(old), Some(new)) = (self.countable(old)?, self.countable(new)?) else { continue };
            let mut options = DiffOptions::new();
            options.context_lines(0);
            let stats = Patch::from_buffers(&old, None, &new, None, Some(&mut options)).and_then(|p| p.line_stats());
            let (_, added, removed) = stats.doing(|| "compare two versions of a file".into())?;
            insertions += added as u64;
            deletions += removed as u64;
        }
        Ok((insertions, deletions))
    }

    /// What lines are counted in: nothing where there is no file, `None` where they are not counted.
    fn countable(&self, entry: Option<&Entry>) -> Result<Option<Vec<u8>>> {
        let Some(entry) = entry.filter(|entry| entry.kind != Kind::Gitlink) else { return Ok(Some(Vec::new())) };
        self.guard(entry.oid)?;
        let size = self.repo.odb().and_then(|odb| odb.read_header(entry.oid)).map(|(bytes, _)| bytes);
        let small = size.doing(|| format!("look at object {}", entry.oid))? <= MAX_DIFF_BYTES;
        if small { self.blob(entry.oid).map(Some) } else { Ok(None) }
    }

    /// To be called before libgit2 reads an object: a FIFO in its place would keep it waiting for ever, a link lead it
    /// elsewhere. What is neither file nor folder is removed. (That the folders are folders is `sweep`'s business.)
    fn guard(&self, oid: Oid) -> Result<()> {
        let hex = oid.to_string();
        let path = format!("{}/{}", &hex[..2], &hex[2..]);
        let look = || fs::statat(&self.objects, &path, AtFlags::SYMLINK_NOFOLLOW);
        let looked = match look() {
            Err(Errno::ACCESS) => self.open_up(oid).and_then(|()| look()),
            looked => looked,
        };
        let kind = match looked {
            Ok(stat) => {
                let kind = FileType::from_raw_mode(stat.st_mode);
                if kind == FileType::RegularFile && stat.st_mode & 0o400 == 0 {
                    make_accessible(self.objects.as_fd(), path.as_bytes(), 0o400)
                        .doing(|| format!("open object {oid}"))?;
                }
                kind
            }
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(e) => return Err(e).doing(|| format!("look at object {oid}")),
        };
        if !matches!(kind, FileType::RegularFile | FileType::Directory) {
            let path = format!(".git/objects/{path}");
            self.root.remove(path.as_bytes()).doing(|| "remove what is no object".into())?;
            self.removed.borrow_mut().push(format!("removed {path}, which is no regular file"));
        }
        Ok(())
    }

    /// Makes the folder in which an object belongs accessible and writable, and the one above.
    fn open_up(&self, oid: Oid) -> rustix::io::Result<()> {
        make_accessible(self.objects.as_fd(), c".", 0o700)?;
        match make_accessible(self.objects.as_fd(), &oid.to_string().as_bytes()[..2], 0o700) {
            Err(Errno::NOENT) => Ok(()),
            made => made,
        }
    }

    /// What was removed since it was opened, for people.
    pub fn take_notices(&self) -> Vec<String> {
        self.removed.take()
    }

    /// Makes what was written durable.
    pub fn sync(&mut self) -> Result<()> {
        let written = std::mem::take(&mut self.written);
        if written.len() > SYNC_ONE_BY_ONE {
            return fs::syncfs(self.root.fd()).doing(|| "make the objects durable".into());
        }
        for oid in written {
            let hex = oid.to_string();
            let synced = (|| {
                let dir = self.root.dir(format!(".git/objects/{}", &hex[..2]).as_bytes())?;
                fs::fsync(open_file_at(dir.as_fd(), &hex.as_bytes()[2..])?)?;
                fs::fsync(dir)
            })();
            synced.doing(|| format!("make object {oid} durable"))?;
        }
        Ok(())
    }
}

/// The id that a content has as a blob.
pub(crate) fn hash_blob(content: &[u8]) -> Result<Oid> {
    Oid::hash_object(ObjectType::Blob, content).doing(|| "hash a file".into())
}
