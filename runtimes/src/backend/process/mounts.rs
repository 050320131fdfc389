//! A mount namespace for the shim, when the runtime is root.
//!
//! Workers have a uid of their own, and the folders that they may use lie below ones that this uid may not pass, such as
//! `/root`. Widening those is not ours to do. So the shim sees its workload's folders, and nothing else, bound below
//! [`ROOT`], which everybody may pass: a fence of its own where bubblewrap is absent, too.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_bind, mount_change, mount_remount};
use rustix::thread::UnshareFlags;

/// Where a shim's private mounts are. An empty folder to everybody else.
const ROOT: &str = "/run/rekindle-sandbox";

/// Makes the folder that the mounts are put on.
pub(super) fn prepare() -> io::Result<()> {
    std::fs::create_dir_all(ROOT)
}

/// Paths of the host and where the shim and its workload find them.
#[derive(Debug, Default, Clone)]
pub(super) struct PrivateMounts {
    binds: Vec<PrivateBind>,
}

#[derive(Debug, Clone)]
struct PrivateBind {
    host: CString,
    alias: CString,
    is_dir: bool,
    read_only: bool,
}

impl PrivateMounts {
    /// Where the path will be found: below [`ROOT`] when we are root, else where it is.
    pub fn add(&mut self, host: &Path, read_only: bool) -> io::Result<PathBuf> {
        if !rustix::process::geteuid().is_root() {
            return Ok(host.to_owned());
        }
        let alias = Path::new(ROOT).join(self.binds.len().to_string());
        self.binds.push(PrivateBind {
            host: CString::new(host.as_os_str().as_bytes())?,
            alias: CString::new(alias.as_os_str().as_bytes())?,
            is_dir: host
                .metadata()
                .map_err(|e| io::Error::new(e.kind(), format!("cannot mount {}: {e}", host.display())))?
                .is_dir(),
            read_only,
        });
        Ok(alias)
    }

    /// Enters a namespace of one's own and mounts. Runs between fork and exec: system calls only, no allocation.
    pub fn enter(&self) -> io::Result<()> {
        if self.binds.is_empty() {
            return Ok(());
        }
        // SAFETY: only this process' view of the mounts is unshared, not its descriptor table, and it has one thread.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
        // What the host unmounts later goes away here too; what is mounted here stays here.
        mount_change(c"/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        let flags = MountFlags::NOSUID | MountFlags::NODEV;
        mount(c"tmpfs", c"/run/rekindle-sandbox", c"tmpfs", flags, c"mode=0755,size=1m")?;
        for bind in &self.binds {
            if bind.is_dir {
                rustix::fs::mkdir(bind.alias.as_c_str(), rustix::fs::Mode::from_raw_mode(0o755))?;
            } else {
                let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::CLOEXEC | rustix::fs::OFlags::WRONLY;
                rustix::fs::open(bind.alias.as_c_str(), flags, rustix::fs::Mode::from_raw_mode(0o644))?;
            }
            mount_bind(bind.host.as_c_str(), bind.alias.as_c_str())?;
            if bind.read_only {
                mount_remount(bind.alias.as_c_str(), MountFlags::BIND | MountFlags::RDONLY, c"")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_literal_of_the_mount_is_the_root() {
        assert_eq!(super::ROOT, "/run/rekindle-sandbox");
    }
}
