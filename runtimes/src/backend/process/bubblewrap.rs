//! The `bwrap` program: what it can do here, and how it is called.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::sandbox::DEFAULT_PATH;
use super::{seccomp, text};

/// How long a trial may take.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);

/// A `bwrap` that works.
#[derive(Debug, Clone)]
pub(super) struct Bubblewrap {
    program: PathBuf,
    /// It can forbid further user namespaces by their number (since 0.8); the filter of system calls forbids them anyhow.
    closes_userns: bool,
    filter: Vec<u8>,
}

impl Bubblewrap {
    /// Tries what will be asked of it: namespaces may be forbidden, `/proc` masked.
    ///
    /// # Errors
    /// Why it does not work.
    pub async fn find(program: &Path, ids: (u32, u32)) -> io::Result<Self> {
        let mut found = Self { program: program.to_owned(), closes_userns: true, filter: seccomp::program()? };
        if found.attempt(ids).await.is_err() {
            found.closes_userns = false;
            found.attempt(ids).await?;
        }
        Ok(found)
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The filter of system calls, as it is read from the descriptor.
    pub fn filter(&self) -> &[u8] {
        &self.filter
    }

    /// The beginning of every call: nothing of the host is shared, and everything ends with who asked for it.
    pub fn command(&self, filter_fd: &str) -> io::Result<Vec<String>> {
        let mut argv = vec![text(&self.program)?];
        argv.extend(["--unshare-all", "--die-with-parent", "--new-session"].map(str::to_owned));
        if self.closes_userns {
            argv.extend(["--unshare-user", "--disable-userns"].map(str::to_owned));
        }
        argv.extend(["--seccomp", filter_fd].map(str::to_owned));
        Ok(argv)
    }

    /// The filter in a file that only a child of ours gets to see.
    pub fn filter_file(&self) -> io::Result<OwnedFd> {
        let fd = rustix::fs::memfd_create("filter", rustix::fs::MemfdFlags::CLOEXEC)?;
        let mut file = std::fs::File::from(fd);
        file.write_all(&self.filter)?;
        io::Seek::rewind(&mut file)?;
        Ok(file.into())
    }

    async fn attempt(&self, (uid, gid): (u32, u32)) -> io::Result<()> {
        let filter = self.filter_file()?;
        let argv = self.command(&filter.as_raw_fd().to_string())?;
        let mut command = std::process::Command::new(&argv[0]);
        command.args(&argv[1..]).args(["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]);
        command.env_clear().env("PATH", DEFAULT_PATH).current_dir("/");
        if rustix::process::geteuid().is_root() {
            command.uid(uid).gid(gid);
        }
        // SAFETY: after the fork one system call is made, on a descriptor that the closure owns.
        unsafe {
            command.pre_exec(move || rustix::io::fcntl_setfd(&filter, rustix::io::FdFlags::empty()).map_err(Into::into))
        };
        let mut command = tokio::process::Command::from(command);
        let output = tokio::time::timeout(TRIAL_LIMIT, command.kill_on_drop(true).output())
            .await
            .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "bwrap does not come back"))?
            .map_err(|e| io::Error::new(e.kind(), format!("cannot run {}: {e}", self.program.display())))?;
        if output.status.success() {
            Ok(())
        } else {
            Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
        }
    }
}
