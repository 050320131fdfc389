//! The folders on the host: who owns them, what they are called, how they come and go. What is in a workspace or a state is
//! nobody's business here.
//!
//! ```text
//! units/<uid>/{workspace,state}  workspaces/<id>  generations/<uid>-<gen>/  tombstones/<uid>  callbacks/  trash/<ulid>/
//! ```
//!
//! What a worker can write to is opened component by component without following links, so that no link put there by an
//! agent leads elsewhere.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use contract::{UnitId, WorkloadId, WorkspaceId, is_uid_shaped};
use rustix::fs::{AtFlags, Mode, OFlags};

use crate::generation::GenerationDir;

/// The deployment's store.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    worker: (u32, u32),
}

impl Store {
    /// Opens the store, and creates what is missing of it. It is closed to everybody else: sandboxes get at their folders by
    /// mounts, which ask nothing of the folders above.
    ///
    /// # Errors
    /// With the path that could not be made or opened, or why it cannot be closed.
    pub fn open(root: &Path, worker: (u32, u32)) -> io::Result<Self> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("cannot open the store {}: {e}", root.display()));
        settings::make_private(root, &["generations"]).map_err(named)?;
        let root = root.canonicalize().map_err(named)?;
        let store = Self { root, worker };
        let root = open_dir(rustix::fs::CWD, &store.root)?;
        for name in ["units", "workspaces", "generations", "tombstones", "callbacks", "trash"] {
            ensure_dir(root.as_fd(), name, 0o700, None).map_err(named)?;
        }
        Ok(store)
    }

    /// Takes the store for this process alone, until the file is closed.
    ///
    /// # Errors
    /// When another runtime has it.
    pub fn lock(&self) -> io::Result<std::fs::File> {
        let path = self.root.join("lock");
        let file = std::fs::OpenOptions::new().create(true).truncate(false).write(true).open(&path)?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let detail = format!("another runtime uses the store {}; end that first", self.root.display());
                Err(io::Error::new(io::ErrorKind::ResourceBusy, detail))
            }
            Err(e) => Err(e.into()),
        }
    }

    /// The folder of tombstones.
    pub fn tombstones(&self) -> PathBuf {
        self.root.join("tombstones")
    }

    /// The folder of callbacks that were not delivered yet.
    pub fn callbacks(&self) -> PathBuf {
        self.root.join("callbacks")
    }

    /// Where a workspace lies, whether it is there or not.
    pub fn workspace(&self, id: &WorkspaceId) -> PathBuf {
        if is_uid_shaped(id.as_str()) {
            self.root.join("units").join(id.as_str()).join("workspace")
        } else {
            self.root.join("workspaces").join(id.as_str())
        }
    }

    /// Where a unit's state lies, whether it is there or not.
    pub fn state(&self, uid: &UnitId) -> PathBuf {
        self.root.join("units").join(uid.as_str()).join("state")
    }

    /// The folder of a generation, whether it is there or not.
    pub fn generation(&self, id: &WorkloadId) -> GenerationDir {
        GenerationDir::new(id.clone(), self.root.join("generations").join(id.to_string()), self.worker)
    }

    /// The generations that have a folder.
    pub fn generations(&self) -> io::Result<Vec<WorkloadId>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.root.join("generations"))? {
            let name = entry?.file_name();
            match name.to_str().map(WorkloadId::parse) {
                Some(Ok(id)) => found.push(id),
                _ => tracing::warn!(?name, "the store's generations hold something that is none"),
            }
        }
        Ok(found)
    }

    /// Makes sure that the unit's folder, its state and the workspaces are there, and that the worker may enter them. What was
    /// there already keeps its content, and its mode as far as that goes.
    ///
    /// # Errors
    /// With the path and what it is instead of a folder.
    pub fn ensure(&self, uid: &UnitId, workspaces: &[&WorkspaceId]) -> io::Result<()> {
        let units = open_dir(rustix::fs::CWD, &self.root.join("units"))?;
        let unit = ensure_dir(units.as_fd(), uid.as_str(), 0o700, None).map_err(at(&self.state(uid)))?;
        ensure_dir(unit.as_fd(), "state", 0o700, Some(self.worker)).map_err(at(&self.state(uid)))?;
        for id in workspaces {
            let path = self.workspace(id);
            if is_uid_shaped(id.as_str()) {
                ensure_dir(unit.as_fd(), "workspace", 0o755, Some(self.worker)).map_err(at(&path))?;
            } else {
                let all = open_dir(rustix::fs::CWD, &self.root.join("workspaces"))?;
                ensure_dir(all.as_fd(), id.as_str(), 0o755, Some(self.worker)).map_err(at(&path))?;
            }
        }
        Ok(())
    }

    /// Moves a workspace into the trash; `false` when there was none.
    pub fn trash_workspace(&self, id: &WorkspaceId) -> io::Result<bool> {
        self.trash(&self.workspace(id), &format!("workspace-{id}"))
    }

    /// Moves a unit's state into the trash; `false` when there was none.
    pub fn trash_state(&self, uid: &UnitId) -> io::Result<bool> {
        self.trash(&self.state(uid), &format!("state-{uid}"))
    }

    /// Moves a unit's whole folder into the trash; `false` when there was none.
    pub fn trash_unit(&self, uid: &UnitId) -> io::Result<bool> {
        self.trash(&self.root.join("units").join(uid.as_str()), &format!("unit-{uid}"))
    }

    /// What is in the trash, by name, and since when in milliseconds since the epoch.
    pub fn trash_entries(&self) -> io::Result<Vec<(ulid::Ulid, u64)>> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.root.join("trash"))? {
            let name = entry?.file_name();
            match name.to_str().map(ulid::Ulid::from_string) {
                Some(Ok(id)) => found.push((id, id.timestamp_ms())),
                _ => tracing::warn!(?name, "the store's trash holds something that was not put there"),
            }
        }
        Ok(found)
    }

    /// Removes an entry of the trash for ever; one that is not there is no error.
    pub fn remove_trash(&self, id: ulid::Ulid) -> io::Result<()> {
        untrusted::remove(&self.root.join("trash").join(id.to_string()))
    }

    /// The folder of everything.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn trash(&self, path: &Path, name: &str) -> io::Result<bool> {
        let bin = self.root.join("trash").join(ulid::Ulid::new().to_string());
        std::fs::create_dir(&bin)?;
        match std::fs::rename(path, bin.join(name)) {
            Ok(()) => Ok(true),
            Err(e) => {
                std::fs::remove_dir(&bin)?;
                if e.kind() == io::ErrorKind::NotFound { Ok(false) } else { Err(e) }
            }
        }
    }

    /// Removes a generation's folder. Nothing of the generation may be alive.
    pub fn remove_generation(&self, id: &WorkloadId) -> io::Result<()> {
        untrusted::remove(self.generation(id).path())
    }
}

fn at(path: &Path) -> impl Fn(io::Error) -> io::Error {
    let path = path.to_owned();
    move |e| match rustix::io::Errno::from_io_error(&e) {
        Some(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
            io::Error::new(e.kind(), format!("{} is not a folder; move it away", path.display()))
        }
        _ => io::Error::new(e.kind(), format!("cannot use the folder {}: {e}", path.display())),
    }
}

fn open_dir(parent: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(parent, path, OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY, Mode::empty())?)
}

/// Opens `parent/name`, which must not be a link, and creates it with this mode and owner if it is missing.
pub(crate) fn ensure_dir(
    parent: BorrowedFd<'_>,
    name: &str,
    mode: u32,
    owner: Option<(u32, u32)>,
) -> io::Result<OwnedFd> {
    let created = match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(mode)) {
        Ok(()) => true,
        Err(rustix::io::Errno::EXIST) => false,
        Err(e) => return Err(e.into()),
    };
    // A folder of another owner may be unreadable to us; what is asked of it here needs no right to read.
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::PATH;
    let dir = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    if created {
        // The umask had its say in mkdirat.
        rustix::fs::chmodat(parent, name, Mode::from_raw_mode(mode), AtFlags::empty())?;
    }
    if let Some((uid, gid)) = owner {
        let stat = rustix::fs::fstat(&dir)?;
        // An agent that closes its workspace closes it to all later workers, too. One that is read-only may be meant so.
        if stat.st_uid == uid && stat.st_mode & 0o500 != 0o500 {
            untrusted::make_accessible(parent, name, 0o700)?;
        }
        // An empty folder of ours is one whose maker was killed before it gave it away.
        if stat.st_uid != uid && (created || (stat.st_uid == 0 && is_empty(parent, name)?)) {
            let (uid, gid) = (rustix::fs::Uid::from_raw(uid), rustix::fs::Gid::from_raw(gid));
            rustix::fs::chownat(&dir, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
        }
    }
    Ok(dir)
}

fn is_empty(parent: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
    let dir = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for entry in rustix::fs::Dir::read_from(&dir)? {
        let name = entry?;
        if !matches!(name.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let worker = if uid == 0 { (10_001, 10_001) } else { (uid, gid) };
        let store = Store::open(dir.path(), worker).unwrap();
        (dir, store)
    }

    fn uid() -> UnitId {
        UnitId::parse("uabcdefghijklmnopqrstuvwx2").unwrap()
    }

    #[test]
    fn folders_belong_to_the_worker_from_their_birth() {
        let (_dir, store) = store();
        let named = WorkspaceId::parse("notes").unwrap();
        store.ensure(&uid(), &[&uid().own_workspace(), &named]).unwrap();
        for path in [store.workspace(&named), store.workspace(&uid().own_workspace()), store.state(&uid())] {
            assert_eq!(path.metadata().unwrap().uid(), store.worker.0, "{}", path.display());
        }
        assert_eq!(store.state(&uid()).metadata().unwrap().mode() & 0o777, 0o700);
        // What is there is left alone, its content's owner too.
        let file = store.workspace(&named).join("kept");
        std::fs::write(&file, "x").unwrap();
        store.ensure(&uid(), &[&named]).unwrap();
        assert_eq!(std::fs::read(&file).unwrap(), b"x");
    }

    /// With a store that was made by hand, outside of any private folder.
    #[test]
    fn other_users_of_the_machine_read_nothing() {
        if !rustix::process::geteuid().is_root() {
            // There is nobody else that one could become.
            return;
        }
        use std::os::unix::fs::PermissionsExt as _;
        use std::os::unix::process::CommandExt as _;
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("store");
        std::fs::create_dir(&root).unwrap();
        for path in [dir.path(), &root] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let read = |path: &Path| {
            let output = std::process::Command::new("cat").arg(path).uid(54_321).gid(54_321).output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        std::fs::write(dir.path().join("open"), "x").unwrap();
        assert!(read(&dir.path().join("open")).0, "another user can read what is open");
        let store = Store::open(&root, (10_001, 10_001)).unwrap();
        let id = WorkspaceId::parse("notes").unwrap();
        store.ensure(&uid(), &[&id]).unwrap();
        let file = store.workspace(&id).join("file");
        std::fs::write(&file, "x").unwrap();
        let (could, said) = read(&file);
        assert!(!could && said.contains("Permission denied"), "{said}");
        assert_eq!(root.metadata().unwrap().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_file_or_a_link_in_the_place_of_a_workspace_is_refused_by_name() {
        let (dir, store) = store();
        let (file, link) = (WorkspaceId::parse("file").unwrap(), WorkspaceId::parse("link").unwrap());
        std::fs::write(store.workspace(&file), "").unwrap();
        std::os::unix::fs::symlink(dir.path(), store.workspace(&link)).unwrap();
        for id in [file, link] {
            let error = store.ensure(&uid(), &[&id]).unwrap_err().to_string();
            assert!(error.contains("is not a folder") && error.contains(id.as_str()), "{error}");
        }
    }

    #[test]
    fn trash_keeps_what_was_erased_and_is_idempotent() {
        let (dir, store) = store();
        let id = WorkspaceId::parse("notes").unwrap();
        store.ensure(&uid(), &[&id]).unwrap();
        std::fs::write(store.workspace(&id).join("a"), "x").unwrap();
        assert!(store.trash_workspace(&id).unwrap());
        assert!(!store.trash_workspace(&id).unwrap());
        assert!(!store.workspace(&id).exists());
        let bins: Vec<_> = std::fs::read_dir(dir.path().join("trash")).unwrap().map(|e| e.unwrap().path()).collect();
        assert_eq!(bins.len(), 1);
        assert_eq!(std::fs::read(bins[0].join("workspace-notes/a")).unwrap(), b"x");
        assert!(store.trash_state(&uid()).unwrap());
        assert!(store.trash_unit(&uid()).unwrap());
    }
}
