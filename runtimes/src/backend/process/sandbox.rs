//! What the shim runs: bubblewrap with the worker as PID 1, or the worker itself where there is no bubblewrap.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use contract::{Mode, WorkspaceId};

use super::bubblewrap::Bubblewrap;
use super::mounts::PrivateMounts;
use super::{Launch, text};
use crate::environment::Places;
use crate::generation::GenerationDir;

/// Where programs are looked for when the spec does not say.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What programs need of `/etc`, and nothing that tells of the host's people or keys.
pub(crate) const ETC: &[&str] = &[
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

/// What `/proc` tells of the whole machine, as container engines mask it.
const MASKED: &[&str] = &[
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/timer_list",
    "/proc/timer_stats",
];
const MASKED_FOLDERS: &[&str] = &["/proc/acpi", "/proc/asound", "/proc/scsi"];
/// Bytes of `/run`, and of `/dev/shm`.
const RUN_BYTES: u64 = 16 << 20;
const SHM_BYTES: u64 = 64 << 20;
/// In place of the descriptor that the filter of system calls is read from; the shim knows its number.
const FILTER_FD: &str = "{filter}";
/// The same of the one on which bwrap says what it has started.
const INFO_FD: &str = "{info}";

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

/// What a sandbox is made with.
#[derive(Debug)]
pub(super) struct Programs<'a> {
    pub worker: &'a Path,
    pub shim: &'a Path,
    pub bwrap: Option<&'a Bubblewrap>,
}

impl Sandbox {
    /// `counter` is a file of the host that the worker reads, and where.
    pub fn plan(
        launch: &Launch,
        programs: &Programs<'_>,
        ids: (u32, u32),
        counter: Option<(PathBuf, &'static str)>,
    ) -> io::Result<Self> {
        let mut mounts = PrivateMounts::default();
        let mut workspaces = Vec::new();
        for (id, mode, path) in &launch.workspaces {
            workspaces.push((id.clone(), *mode, mounts.add(path, *mode == Mode::Ro)?));
        }
        let bound = Bound {
            sock: mounts.add(&launch.dir.sock(), true)?,
            worker: mounts.add(programs.worker, true)?,
            state: mounts.add(&launch.state, false)?,
            home: mounts.add(&launch.dir.home(), false)?,
            workspaces,
        };
        match programs.bwrap {
            Some(bwrap) => {
                let mut inside = bubblewrap(launch, &bound, &mut mounts, ids)?;
                if let Some((file, place)) = counter {
                    inside.extend(["--ro-bind".into(), text(&mounts.add(&file, true)?)?, place.into()]);
                }
                let mut argv = bwrap.agents_command(programs.shim, &mut mounts, FILTER_FD)?;
                argv.extend(["--info-fd", INFO_FD, "--as-pid-1"].map(str::to_owned));
                argv.append(&mut inside);
                argv.extend(["--remount-ro", "/", "--chdir", "/workspace", "/rekindle/worker"].map(str::to_owned));
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

/// What there is in the sandbox, as arguments of bwrap(1). The environment comes through the shim: a command line can be read
/// by everybody on the host.
fn bubblewrap(launch: &Launch, bound: &Bound, mounts: &mut PrivateMounts, ids: (u32, u32)) -> io::Result<Vec<String>> {
    let mut argv = Vec::new();
    let mut add = |words: &[&str]| argv.extend(words.iter().map(|w| (*w).to_owned()));
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
    add(&["--proc", "/proc"]);
    for path in MASKED.iter().filter(|path| Path::new(path).exists()) {
        add(&["--ro-bind", "/dev/null", path]);
    }
    for path in MASKED_FOLDERS.iter().filter(|path| Path::new(path).exists()) {
        add(&["--size", "4096", "--tmpfs", path, "--remount-ro", path]);
    }
    // Each has a size of its own: what is written there is memory.
    let mut scratch = |path: &str, bytes: u64| add(&["--size", &bytes.to_string(), "--perms", "1777", "--tmpfs", path]);
    scratch("/tmp", launch.profile.tmp_mb.max(1) << 20);
    scratch("/run", RUN_BYTES);
    add(&["--dev", "/dev"]);
    add(&["--size", &SHM_BYTES.to_string(), "--perms", "1777", "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]);
    add(&["--dir", "/var", "--symlink", "../tmp", "/var/tmp", "--symlink", "../run", "/var/run"]);
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
