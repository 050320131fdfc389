//! What the shim runs: bubblewrap with the worker as PID 1, or the worker itself where there is no bubblewrap.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use contract::{Mode, WorkspaceId};

use super::mounts::PrivateMounts;
use super::{Launch, text};
use crate::environment::Places;
use crate::generation::GenerationDir;

/// Where programs are looked for when the spec does not say.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What programs need of `/etc`, and nothing that tells of the host's people or keys.
const ETC: &[&str] = &[
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "pki",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
];

/// A command for the shim, and where its workload finds things.
#[derive(Debug)]
pub(super) struct Sandbox {
    pub argv: Vec<String>,
    pub cwd: PathBuf,
    pub places: Places,
    pub mounts: PrivateMounts,
}

struct Bound {
    sock: PathBuf,
    worker: PathBuf,
    state: PathBuf,
    home: PathBuf,
    workspaces: Vec<(WorkspaceId, Mode, PathBuf)>,
}

impl Sandbox {
    pub fn plan(launch: &Launch, worker: &Path, bwrap: Option<&Path>, ids: (u32, u32)) -> io::Result<Self> {
        let mut mounts = PrivateMounts::default();
        let mut workspaces = Vec::new();
        for (id, mode, path) in &launch.workspaces {
            workspaces.push((id.clone(), *mode, mounts.add(path, *mode == Mode::Ro)?));
        }
        let bound = Bound {
            sock: mounts.add(&launch.dir.sock(), true)?,
            worker: mounts.add(worker, true)?,
            state: mounts.add(&launch.state, false)?,
            home: mounts.add(&launch.dir.home(), false)?,
            workspaces,
        };
        match bwrap {
            Some(bwrap) => {
                let argv = bubblewrap(launch, bwrap, &bound, &mut mounts, ids)?;
                Ok(Self { argv, cwd: "/".into(), places: Places::sandboxed(&launch.spec), mounts })
            }
            None => {
                let places = Places {
                    workspaces: (bound.workspaces.iter())
                        .map(|(id, mode, path)| Ok((id.clone(), *mode, text(path)?)))
                        .collect::<io::Result<_>>()?,
                    state: text(&bound.state)?,
                    sock: text(&bound.sock)?,
                    home: text(&bound.home)?,
                };
                let cwd = bound.workspaces.first().map_or_else(|| "/".into(), |(_, _, path)| path.clone());
                Ok(Self { argv: vec![text(&bound.worker)?], cwd, places, mounts })
            }
        }
    }
}

/// Arguments of bwrap(1). The environment comes through the shim: a command line can be read by everybody on the host.
fn bubblewrap(
    launch: &Launch,
    bwrap: &Path,
    bound: &Bound,
    mounts: &mut PrivateMounts,
    ids: (u32, u32),
) -> io::Result<Vec<String>> {
    let mut argv = vec![text(bwrap)?];
    let mut add = |words: &[&str]| argv.extend(words.iter().map(|w| (*w).to_owned()));
    add(&["--unshare-all", "--die-with-parent", "--as-pid-1"]);
    add(&["--ro-bind", "/usr", "/usr"]);
    for path in ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"] {
        match std::fs::read_link(path) {
            Ok(target) => add(&["--symlink", &text(&target)?, path]),
            Err(_) if Path::new(path).is_dir() => add(&["--ro-bind", path, path]),
            Err(_) => {}
        }
    }
    for name in ETC {
        let path = format!("/etc/{name}");
        add(&["--ro-bind-try", &path, &path]);
    }
    for (name, path) in write_etc(&launch.dir, ids)? {
        add(&["--ro-bind", &text(&mounts.add(&path, true)?)?, &format!("/etc/{name}")]);
    }
    add(&["--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp", "--dir", "/var", "--symlink", "../tmp", "/var/tmp"]);
    for path in &launch.profile.process_paths {
        // One that is part of what is bound already needs nothing; one that is missing is told by its own error below.
        if !path.starts_with("/usr") {
            add(&["--ro-bind", &text(&mounts.add(path, true)?)?, &text(path)?]);
        }
    }
    add(&["--bind", &text(&bound.home)?, "/home/agent"]);
    for (index, (id, mode, path)) in bound.workspaces.iter().enumerate() {
        let bind = if *mode == Mode::Rw { "--bind" } else { "--ro-bind" };
        let inside = if index == 0 { "/workspace".to_owned() } else { format!("/workspaces/{id}") };
        add(&[bind, &text(path)?, &inside]);
    }
    add(&["--bind", &text(&bound.state)?, "/rekindle/state"]);
    add(&["--ro-bind", &text(&bound.sock)?, "/rekindle/sock"]);
    add(&["--ro-bind", &text(&bound.worker)?, "/rekindle/worker"]);
    add(&["--remount-ro", "/", "--chdir", "/workspace", "/rekindle/worker"]);
    Ok(argv)
}

/// Names for the worker's uid: many programs refuse to run as nobody.
fn write_etc(dir: &GenerationDir, (uid, gid): (u32, u32)) -> io::Result<Vec<(&'static str, PathBuf)>> {
    let files = [
        (
            "passwd",
            format!("root:x:0:0:root:/nonexistent:/usr/sbin/nologin\nagent:x:{uid}:{gid}:agent:/home/agent:/bin/sh\n"),
        ),
        ("group", format!("root:x:0:\nagent:x:{gid}:\n")),
    ];
    let mut written = vec![("hosts", dir.hosts())];
    for (name, content) in files {
        let path = dir.path().join(name);
        std::fs::write(&path, content)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644))?;
        written.push((name, path));
    }
    Ok(written)
}

/// Whether bubblewrap can do here what we ask of it: namespaces may be forbidden, `/proc` masked.
pub(super) async fn probe(bwrap: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    let mut command = std::process::Command::new(bwrap);
    command.args([
        "--unshare-all",
        "--die-with-parent",
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "--dev",
        "/dev",
        "true",
    ]);
    command.env_clear().env("PATH", DEFAULT_PATH).current_dir("/");
    if rustix::process::geteuid().is_root() {
        command.uid(uid).gid(gid);
    }
    let mut command = tokio::process::Command::from(command);
    let output = tokio::time::timeout(Duration::from_secs(10), command.kill_on_drop(true).output())
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "bwrap does not come back"))?
        .map_err(|e| io::Error::new(e.kind(), format!("cannot run {}: {e}", bwrap.display())))?;
    if output.status.success() {
        Ok(())
    } else {
        Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()))
    }
}
