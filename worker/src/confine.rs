//! `rekindle-worker confine`: a namespace of users around a sandbox, for what the kernel counts for each user and not for each
//! process or control group.
//!
//! All workers have one uid, so that one of them could take all that the kernel gives to this uid. In a namespace of users each
//! uid is counted anew, up to what `/proc/sys/user` says there (namespaces(7)), and RLIMIT_SIGPENDING likewise (setrlimit(2)). Who
//! made the namespace may write these; what is started here has no capability any more and makes its own namespace inside.

use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::process::{Resource, Rlimit, getgid, getuid, setrlimit};
use rustix::thread::UnshareFlags;

/// The word for RLIMIT_SIGPENDING; others are names of files in `/proc/sys/user`.
const SIGNALS: &str = "sigpending";

/// Enters the namespace, sets its limits (`name=number`, up to `--`), and becomes the program that follows.
///
/// # Errors
/// When the namespace is refused here, a limit is not known, or the program cannot be run.
pub fn run(mut args: impl Iterator<Item = String>) -> anyhow::Result<std::convert::Infallible> {
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    // SAFETY: this process has one thread, and shares nothing with another one.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWUSER) }.context("no namespace of users")?;
    // In this order (user_namespaces(7)).
    for (file, text) in
        [("setgroups", "deny".to_owned()), ("uid_map", format!("{uid} {uid} 1")), ("gid_map", format!("{gid} {gid} 1"))]
    {
        std::fs::write(format!("/proc/self/{file}"), text).with_context(|| format!("write {file}"))?;
    }
    for limit in args.by_ref().take_while(|arg| arg != "--") {
        let Some((name, most)) = limit.split_once('=') else { bail!("`{limit}` is no limit") };
        if name == SIGNALS {
            let most = Some(most.parse().context("read a limit")?);
            setrlimit(Resource::Sigpending, Rlimit { current: most, maximum: most }).context("limit signals")?;
        } else {
            std::fs::write(format!("/proc/sys/user/{name}"), most).with_context(|| format!("set {name}"))?;
        }
    }
    let program = args.next().context("there is no program")?;
    Err(Command::new(&program).args(args).exec()).with_context(|| format!("cannot run `{program}`"))
}
