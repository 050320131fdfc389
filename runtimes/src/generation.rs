//! The folder of one generation: all that the runtime knows of a workload, written before the substrate is asked.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use contract::{WorkloadId, WorkloadSpec, WorkloadStatus};

use crate::files;
use crate::store::ensure_dir;

/// `generations/<uid>-<gen>/`, mode 0700; of it only `sock/` (read-only) and `home/` are seen inside a sandbox.
#[derive(Debug, Clone)]
pub(crate) struct GenerationDir {
    id: WorkloadId,
    path: PathBuf,
    worker: (u32, u32),
}

impl GenerationDir {
    pub fn new(id: WorkloadId, path: PathBuf, worker: (u32, u32)) -> Self {
        Self { id, path, worker }
    }

    pub fn id(&self) -> &WorkloadId {
        &self.id
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The two sockets' folder.
    pub fn sock(&self) -> PathBuf {
        self.path.join("sock")
    }

    /// The disposable home.
    pub fn home(&self) -> PathBuf {
        self.path.join("home")
    }

    /// What `/etc/hosts` is inside: a sandbox has its loopback and nothing else.
    pub fn hosts(&self) -> PathBuf {
        self.path.join("hosts")
    }

    /// What the worker and what starts it printed, where the substrate keeps no log of its own.
    pub fn log(&self) -> PathBuf {
        self.path.join("log")
    }

    /// Creates the folder with everything that a start needs and that a restart reads. After an error a part of it is left.
    pub fn create(&self, spec: &WorkloadSpec, status: &WorkloadStatus) -> io::Result<()> {
        std::fs::create_dir(&self.path)?;
        let dir = rustix::fs::open(
            &self.path,
            rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::RDONLY,
            rustix::fs::Mode::empty(),
        )?;
        rustix::fs::fchmod(&dir, rustix::fs::Mode::from_raw_mode(0o700))?;
        ensure_dir(dir.as_fd(), "sock", 0o755, None)?;
        ensure_dir(dir.as_fd(), "home", 0o700, Some(self.worker))?;
        std::fs::write(self.hosts(), "127.0.0.1 localhost\n::1 localhost\n")?;
        std::fs::set_permissions(self.hosts(), std::fs::Permissions::from_mode(0o644))?;
        files::write_atomically(&self.path, "token", spec.token.as_bytes())?;
        // The token has a file of its own, which is the only place where it lies.
        let spec = WorkloadSpec { token: String::new(), ..spec.clone() };
        files::write_atomically(&self.path, "spec.json", &serde_json::to_vec(&spec)?)?;
        self.write_status(status)
    }

    /// The dispatch token.
    pub fn token(&self) -> io::Result<String> {
        let text = files::read_if_there(&self.path.join("token"))?.ok_or(io::ErrorKind::NotFound)?;
        String::from_utf8(text).map_err(io::Error::other)
    }

    /// The spec that it was started with, but its token; none where the start was cut short before it was written.
    pub fn spec(&self) -> io::Result<Option<WorkloadSpec>> {
        self.read("spec.json")
    }

    /// The last status.
    pub fn status(&self) -> io::Result<Option<WorkloadStatus>> {
        self.read("status.json")
    }

    pub fn write_status(&self, status: &WorkloadStatus) -> io::Result<()> {
        files::write_atomically(&self.path, "status.json", &serde_json::to_vec(status)?)
    }

    /// A JSON file of this folder; none when it is absent, or empty, as a loss of power leaves one that was just written.
    pub fn read<T: serde::de::DeserializeOwned>(&self, name: &str) -> io::Result<Option<T>> {
        match files::read_if_there(&self.path.join(name))? {
            Some(text) if text.is_empty() => Ok(None),
            Some(text) => serde_json::from_slice(&text).map(Some).map_err(|e| {
                io::Error::new(io::ErrorKind::InvalidData, format!("{}: {e}", self.path.join(name).display()))
            }),
            None => Ok(None),
        }
    }
}
