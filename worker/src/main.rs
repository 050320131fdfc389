//! `rekindle-worker`: parses its first argument, and goes there.

use std::process::ExitCode;

use anyhow::Context as _;

const USAGE: &str = "usage:
  rekindle-worker                                     the worker, inside a sandbox (settings: REKINDLE_* variables)
  rekindle-worker shim --dir <generation folder>      parent of a sandboxed process
  rekindle-worker confine <limit>=<number>… -- <program> …   a sandbox, with limits of its user's own
  rekindle-worker inspect <workspace folder>          one read-only look; what at: REKINDLE_INSPECT; answers on stdout
  rekindle-worker relay --sock <dir> --token-file <file> --gateway <unix:///path | tcp://host:port>";

pub(crate) fn main() -> ExitCode {
    worker::log::install();
    let mut args = std::env::args().skip(1);
    let ended = match args.next().as_deref() {
        // Before there is a thread, a connection or a child.
        None => worker::memory::seal().map_err(Into::into).and_then(|()| run(worker::service::main)),
        Some("shim") => match (args.next().as_deref(), args.next(), args.next()) {
            (Some("--dir"), Some(dir), None) => return worker::shim::run(dir.as_ref()),
            _ => Err(anyhow::anyhow!(USAGE)),
        },
        Some("confine") => worker::confine::run(args).context("confine").map(|never| match never {}),
        Some("inspect") => match (args.next(), args.next()) {
            (Some(folder), None) => worker::inspect::run(folder.as_ref()),
            _ => Err(anyhow::anyhow!(USAGE)),
        },
        Some("relay") => worker::sidecar::Args::parse(args).and_then(|args| run(|| worker::sidecar::run(args))),
        Some(_) => Err(anyhow::anyhow!(USAGE)),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("rekindle-worker: {error:#}");
        ExitCode::from(2)
    })
}

/// One thread, so that memory is given out from one arena and an idle worker stays small.
fn run<F, Fut>(serve: F) -> anyhow::Result<ExitCode>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = anyhow::Result<ExitCode>>,
{
    // SAFETY: called before any other thread exists; mallopt only sets a tunable of the allocator.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(4).build()?;
    let ended = runtime.block_on(serve());
    // A git thread may be at work still; the process ends without it, and the next generation finds what it left.
    runtime.shutdown_background();
    ended
}
