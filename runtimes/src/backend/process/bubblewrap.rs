//! The `bwrap` program: what it can do here, and how it is called.

use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Resource, Signal, getpid, getppid, getrlimit, set_parent_process_death_signal};
use rustix::thread::{set_thread_gid, set_thread_groups, set_thread_uid};
use tracing::warn;

use super::mounts::PrivateMounts;
use super::sandbox::DEFAULT_PATH;
use super::{seccomp, text};

/// How long a trial may take.
const TRIAL_LIMIT: Duration = Duration::from_secs(10);
/// A sandbox may have one of so many parts of what the kernel gives to a uid, which is that of all workers.
const PARTS: u64 = 8;

/// A `bwrap` that works.
#[derive(Debug, Clone)]
pub(super) struct Bubblewrap {
    program: PathBuf,
    /// It can forbid further user namespaces by their number (since 0.8); the filter of system calls forbids them anyhow.
    closes_userns: bool,
    /// What `rekindle-worker confine` limits, where a namespace of users of ours may be around that of bwrap.
    shares: Option<Vec<String>>,
    filter: Vec<u8>,
}

impl Bubblewrap {
    /// Tries what will be asked of it: namespaces may be forbidden, `/proc` masked.
    ///
    /// # Errors
    /// Why it does not work.
    pub async fn find(program: &Path, shim: &Path, ids: (u32, u32)) -> io::Result<Self> {
        let filter = seccomp::program()?;
        let mut found = Self { program: program.to_owned(), closes_userns: true, shares: None, filter };
        if found.attempt(shim, ids).await.is_err() {
            found.closes_userns = false;
            found.attempt(shim, ids).await?;
        }
        found.shares = Some(shares());
        if let Err(error) = found.attempt(shim, ids).await {
            warn!(%error, "what the kernel counts for each user (inotify, pending signals) is not limited for each sandbox here");
            found.shares = None;
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

    /// The beginning of every call: nothing of the host is shared, and everything ends with who asked for it. Before it comes
    /// what limits an agent; `shim` is the worker's program of the platform.
    pub fn agents_command(&self, shim: &Path, mounts: &mut PrivateMounts, filter_fd: &str) -> io::Result<Vec<String>> {
        let mut argv = Vec::new();
        if let Some(shares) = &self.shares {
            argv.extend([text(&mounts.add(shim, true)?)?, "confine".into()]);
            argv.extend(shares.iter().cloned());
            argv.push("--".into());
        }
        argv.append(&mut self.command(filter_fd)?);
        Ok(argv)
    }

    /// As [`Self::agents_command`], of a program of the platform's own.
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

    async fn attempt(&self, shim: &Path, ids: (u32, u32)) -> io::Result<()> {
        let filter = self.filter_file()?;
        let mut mounts = PrivateMounts::default();
        let mut argv = self.agents_command(shim, &mut mounts, &filter.as_raw_fd().to_string())?;
        argv.extend(["--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"].map(str::to_owned));
        let mut command = as_worker(&argv, mounts, Some(filter), ids);
        command.env("PATH", DEFAULT_PATH);
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

/// The beginning of `confine`'s arguments: what of the host's is one part for each sandbox.
fn shares() -> Vec<String> {
    let host = |path: &str| untrusted::read_kernel(path, 64).ok()?.trim().parse::<u64>().ok();
    [
        ("max_inotify_instances", host("/proc/sys/fs/inotify/max_user_instances")),
        ("max_inotify_watches", host("/proc/sys/fs/inotify/max_user_watches")),
        ("sigpending", getrlimit(Resource::Sigpending).maximum),
    ]
    .into_iter()
    .filter_map(|(name, all)| Some(format!("{name}={}", (all? / PARTS).max(1))))
    .collect()
}

/// A command that is run as the worker's user, sees its mounts and dies with this process.
pub(super) fn as_worker(
    argv: &[String],
    mounts: PrivateMounts,
    filter: Option<OwnedFd>,
    (uid, gid): (u32, u32),
) -> std::process::Command {
    let mut command = std::process::Command::new(&argv[0]);
    command.args(&argv[1..]).env_clear().current_dir("/");
    let is_root = rustix::process::geteuid().is_root();
    let runtime = getpid();
    let prepare = move || -> io::Result<()> {
        mounts.enter()?;
        if let Some(filter) = &filter {
            // bwrap reads it and closes it.
            rustix::io::fcntl_setfd(filter, rustix::io::FdFlags::empty())?;
        }
        if is_root {
            // Not by `Command::uid`, which would come before the mounts.
            set_thread_groups(&[])?;
            set_thread_gid(rustix::process::Gid::from_raw(gid))?;
            set_thread_uid(rustix::process::Uid::from_raw(uid))?;
        }
        // A change of uid forgets it, so it comes last (prctl(2)).
        set_parent_process_death_signal(Some(Signal::KILL))?;
        if getppid() == Some(runtime) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    };
    // SAFETY: after the fork only system calls are made, on values that were made before it.
    unsafe { command.pre_exec(prepare) };
    command
}
