//! Starting a shim, and the moment from which its workload runs.

use std::fs::OpenOptions;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use super::group::{self, ProcessId};
use super::mounts::PrivateMounts;
use super::sandbox::DEFAULT_PATH;
use super::{BackendError, ExitFile};
use crate::files;
use crate::generation::GenerationDir;

/// A shim whose workload runs, or has run already.
#[derive(Debug)]
pub(super) struct Started {
    pub id: ProcessId,
    pub pidfd: AsyncFd<OwnedFd>,
}

/// Starts the shim and waits until it has started its workload.
///
/// # Errors
/// With the shim's own words, or the last ones of its log, when it ended before that.
pub(super) async fn start(shim: &Path, dir: &GenerationDir, mounts: &PrivateMounts) -> Result<Started, BackendError> {
    // Watched from before its birth: what it writes first is not missed.
    let news = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC).map_err(io::Error::from)?;
    let what = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::CLOSE_WRITE;
    inotify::add_watch(&news, dir.path(), what).map_err(io::Error::from)?;
    let news = group::watchable(news)?;

    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(dir.log())?;
    let mut command = Command::new(shim);
    command.arg("shim").arg("--dir").arg(dir.path());
    command.env_clear().env("PATH", DEFAULT_PATH).current_dir("/");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    let mounts = mounts.clone();
    // SAFETY: `enter` makes system calls on strings that were made before the fork, and nothing else.
    unsafe { command.pre_exec(move || mounts.enter()) };
    let child = command.spawn().map_err(|e| BackendError(format!("cannot start the shim {}: {e}", shim.display())))?;
    let pid = child.id().cast_signed();
    // Until it is waited for its number is its own. It is waited for by its handle: the child outlives this value.
    drop(child);
    let pidfd = group::open_child(pid)?;
    let id = ProcessId::of_child(pid).ok_or_else(|| BackendError(last_words(dir)))?;
    loop {
        // Asked in this order: one that was quick has written `inner.json` and is gone.
        let alive = id.is_alive();
        if dir.path().join("inner.json").exists() {
            return Ok(Started { id, pidfd });
        }
        if !alive {
            group::ended(pidfd).await;
            return Err(BackendError(last_words(dir)));
        }
        tokio::select! {
            ready = news.readable() => {
                let mut ready = ready?;
                let mut buffer = [0u8; 4096];
                // What exactly has happened is looked up above.
                match rustix::io::read(news.get_ref(), &mut buffer) {
                    Err(rustix::io::Errno::AGAIN) => ready.clear_ready(),
                    Err(e) => return Err(io::Error::from(e).into()),
                    Ok(_) => {}
                }
            }
            ready = pidfd.readable() => drop(ready?),
        }
    }
}

fn last_words(dir: &GenerationDir) -> String {
    let told = dir.read::<ExitFile>("exit.json").ok().flatten().and_then(|exit| exit.error);
    told.or_else(|| files::tail(&dir.log())).unwrap_or_else(|| "the shim ended before it had started anything".into())
}
