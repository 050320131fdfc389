//! Starting the program, and waiting for its end.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Resource, Rlimit, Signal, getpid, getppid, getrlimit, setrlimit};

use serde::Deserialize;

use super::files::{Launch, Rlimits};
use super::log::{self, Log};
use crate::processes::Stat;

/// Leaves the runtime: own session, nothing of its standard streams, own cgroup.
pub(super) fn detach(dir: &Path, launch: &Launch) -> anyhow::Result<()> {
    // Fails only for the leader of a process group, which may already have its own session.
    if rustix::process::setsid().is_err() && rustix::process::getsid(None)? != getpid() {
        anyhow::bail!("the shim must not be started as the leader of a process group");
    }
    let null = File::options().read(true).write(true).open("/dev/null").context("open /dev/null")?;
    let log = log::file(dir).context("open the log")?;
    for (fd, becomes) in [(&null, 0), (&null, 1), (&log, 2)] {
        // SAFETY: both are open descriptors, and the standard streams are used by nobody else in this single thread.
        if unsafe { libc::dup2(fd.as_raw_fd(), becomes) } < 0 {
            return Err(io::Error::last_os_error()).context("leave the standard streams");
        }
    }
    for cgroup in &launch.cgroups {
        let procs = cgroup.join("cgroup.procs");
        std::fs::write(&procs, getpid().to_string()).with_context(|| format!("enter {}", procs.display()))?;
    }
    Ok(())
}

/// How a program ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub code: Option<i32>,
    pub signal: Option<i32>,
}

impl Status {
    /// By KILL, as far as can be seen: `bwrap` tells its child's signal as a status.
    pub fn is_killed(&self) -> bool {
        self.signal == Some(9) || self.code == Some(137)
    }
}

/// The program, started.
#[derive(Debug)]
pub(super) struct Started {
    child: Child,
    inside: Option<i32>,
}

/// What `bwrap` says of what it has started.
#[derive(Debug, Deserialize)]
struct Info {
    #[serde(rename = "child-pid")]
    child_pid: i32,
}

/// Bytes of that.
const INFO_BYTES: u64 = 4096;

/// Starts the program with its own uid, gid and environment, and no more.
/// What it prints goes to `output`.
pub(super) fn start(launch: &Launch, output: OwnedFd) -> anyhow::Result<Started> {
    let (program, args) = launch.argv.split_first().context("argv is empty")?;
    let filter = match &launch.filter {
        Some(path) => Some(File::open(path).with_context(|| format!("open {}", path.display()))?),
        None => None,
    };
    let number = filter.as_ref().map(|file| file.as_raw_fd().to_string()).unwrap_or_default();
    let (info, told) = pipe_with(PipeFlags::CLOEXEC)?;
    let told_number = told.as_raw_fd().to_string();
    let args = args.iter().map(|arg| match arg.as_str() {
        Launch::FILTER => &number,
        Launch::INFO => &told_number,
        _ => arg,
    });
    let tells = launch.argv.iter().any(|arg| arg == Launch::INFO);
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(&launch.env).stdin(Stdio::null());
    command.stdout(output.try_clone()?).stderr(output);
    if let Some(cwd) = &launch.cwd {
        command.current_dir(cwd);
    }
    if rustix::process::geteuid().is_root() {
        // With root's groups dropped, too, which std does by itself when it changes the uid as root.
        command.uid(launch.uid).gid(launch.gid);
    }
    let (shim, rlimits) = (getpid(), launch.rlimits);
    let prepare = move || {
        limit(rlimits)?;
        if let Some(filter) = &filter {
            rustix::io::fcntl_setfd(filter, rustix::io::FdFlags::empty())?;
        }
        if tells {
            rustix::io::fcntl_setfd(&told, rustix::io::FdFlags::empty())?;
        }
        die_with(shim)
    };
    // SAFETY: between fork and exec only system calls are made; nothing is allocated and no lock is taken.
    unsafe {
        command.pre_exec(prepare);
    }
    let child = command.spawn().with_context(|| format!("cannot start `{program}`"))?;
    // The closure has the other end of the pipe: without it there is an end to what is told.
    drop(command);
    let mut text = Vec::new();
    File::from(info).take(INFO_BYTES).read_to_end(&mut text).context("read what bwrap says")?;
    // One that could not do what it was asked for says nothing here.
    let inside = serde_json::from_slice::<Info>(&text).ok().map(|info| info.child_pid);
    Ok(Started { child, inside })
}

/// In the child: KILL when the shim dies, whose end may have come already; and no signal stays blocked.
fn die_with(shim: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    if getppid() != Some(shim) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    set_mask(libc::SIG_SETMASK, &[]).map(drop)
}

/// In the child: what its processes may have of each. A core file would hold what they knew, the worker's nonce too.
fn limit(rlimits: Rlimits) -> io::Result<()> {
    let most = [
        (Resource::Core, Some(0)),
        // Message queues are counted for the uid, which all workers share.
        (Resource::Msgqueue, Some(0)),
        (Resource::Nofile, rlimits.nofile),
        (Resource::Data, rlimits.data),
    ];
    for (resource, most) in most {
        let Some(most) = most else { continue };
        // Not above what we have ourselves, which only root could give.
        let most = Some(getrlimit(resource).maximum.map_or(most, |own| own.min(most)));
        setrlimit(resource, Rlimit { current: most, maximum: most })?;
    }
    Ok(())
}

impl Started {
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// The first process of the sandbox's PID namespace, while it is there.
    pub fn inside(&self) -> Option<i32> {
        self.inside.filter(|pid| Stat::of(*pid).is_some_and(|stat| stat.ppid == self.pid()))
    }

    /// Reaps what has died; how the program ended, if it has.
    pub fn ended(&mut self) -> anyhow::Result<Option<Status>> {
        let status = self.child.try_wait().context("wait for the program")?;
        if status.is_none() {
            for pid in crate::processes::children(getpid().as_raw_nonzero().get()) {
                if pid != self.pid() {
                    crate::processes::reap(pid);
                }
            }
        }
        Ok(status.map(|status| Status { code: status.code(), signal: status.signal() }))
    }
}

/// The signals that the shim waits for, instead of being interrupted by them.
#[derive(Debug)]
pub(super) struct Signals(OwnedFd);

const WAITED: [Signal; 4] = [Signal::CHILD, Signal::TERM, Signal::INT, Signal::HUP];

impl Signals {
    pub fn block() -> io::Result<Self> {
        set_mask(libc::SIG_BLOCK, &WAITED)?;
        let set = set_of(&WAITED);
        // SAFETY: the set is initialised; -1 asks for a new descriptor.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it is open, new, and nobody else's.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Waits for the next one, and copies what is printed meanwhile.
    pub fn wait(&self, log: &mut Log) -> io::Result<Signal> {
        loop {
            let mut fds = vec![PollFd::new(&self.0, PollFlags::IN)];
            let output = log.waits_for();
            fds.extend(output.as_ref().map(|fd| PollFd::new(fd, PollFlags::IN)));
            match poll(&mut fds, None) {
                Err(rustix::io::Errno::INTR) => continue,
                polled => polled?,
            };
            let printed = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
            if printed {
                log.copy();
            }
            // One that prints without end does not keep a signal waiting.
            if let Some(signal) = self.next()? {
                return Ok(signal);
            }
        }
    }

    fn next(&self) -> io::Result<Option<Signal>> {
        let mut news = [0; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(self.0.as_fd(), &mut news) {
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => return Ok(None),
            // The kernel gives whole ones only (signalfd(2)).
            read => read?,
        };
        // Its first field is the signal's number.
        let number = u32::from_ne_bytes([news[0], news[1], news[2], news[3]]);
        Ok(WAITED.iter().find(|known| known.as_raw().cast_unsigned() == number).copied())
    }
}

fn set_of(signals: &[Signal]) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::uninit();
    // SAFETY: sigemptyset initialises the set, sigaddset is given an initialised one and valid numbers.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), signal.as_raw());
        }
        set.assume_init()
    }
}

fn set_mask(how: i32, signals: &[Signal]) -> io::Result<()> {
    let set = set_of(signals);
    // SAFETY: the set is initialised; the old mask is not asked for.
    match unsafe { libc::sigprocmask(how, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
