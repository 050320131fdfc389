//! `rekindle-worker shim`: the parent of a sandboxed process.
//!
//! It is in a session of its own, so that the runtime's end is not its end; it dies with nobody, and what it starts dies with
//! it. It speaks through files in the generation's folder:
//!
//! | file | |
//! |---|---|
//! | `shim.pid` | written first: `{pid, starttime}` of the shim |
//! | `launch.json` | then read: what to start. Whoever removes it and finds no `shim.pid` knows that nothing starts any more |
//! | `inner.json` | written when the program has been started: `{pid, starttime}` of it |
//! | `inside.json` | the same of the first process in `bwrap`'s PID namespace, where there is one |
//! | `log` | the last that the program printed, at most 128 KiB |
//! | `exit.json` | written last, whole: how it ended, or why it could not be started |
//!
//! TERM and INT are passed on; around the program there may be `bwrap`, and then they go to the process inside.

mod files;
mod launch;
mod log;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, getpid, kill_process};

use crate::processes::{self, Stat};
use files::{Exit, Launch};
use launch::{Signals, Started};
use log::Log;

/// Runs the shim of one generation's folder, to the end of what it starts.
pub fn run(dir: &Path) -> ExitCode {
    match serve(dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let exit = Exit { error: Some(format!("{error:#}")), ..Exit::default() };
            if let Err(unwritten) = files::write_durably(dir, files::EXIT, &exit) {
                eprintln!("rekindle-worker shim: {error:#}; and {unwritten:#}");
            }
            ExitCode::FAILURE
        }
    }
}

fn serve(dir: &Path) -> anyhow::Result<()> {
    // Not awaited on the disk: what a loss of power takes from it, it takes the processes with.
    files::write(dir, files::SHIM, &files::Identity::of(getpid().as_raw_nonzero().get())?)?;
    let launch = Launch::read(dir)?;
    launch::detach(dir, &launch)?;
    // Blocked before anything can be missed; the program gets a mask of its own.
    let signals = Signals::block()?;
    processes::adopt_orphans()?;
    let kills_before = launch.oom_kills();
    let (mut log, output) = Log::open(dir).context("open the log")?;
    let mut started = launch::start(&launch, output)?;
    files::write(dir, files::INNER, &files::Identity::of(started.pid())?)?;
    if let Some(inside) = started.inside() {
        files::write(dir, files::INSIDE, &files::Identity::of(inside)?)?;
    }
    let status = loop {
        match signals.wait(&mut log)? {
            Signal::CHILD => {
                if let Some(status) = started.ended()? {
                    break status;
                }
            }
            passed @ (Signal::TERM | Signal::INT) => pass_on(&started, passed),
            // A terminal's or a runtime's end is not ours.
            _ => {}
        }
    };
    end_leftovers();
    // Before the end is told: its last words are part of it.
    log.finish();
    let oom = status.is_killed() && launch.oom_kills() > kills_before;
    files::write_durably(dir, files::EXIT, &Exit { code: status.code, signal: status.signal, oom, error: None })
}

/// To the program itself. `bwrap` has one child, which is the first process of its namespace; a signal that is sent to `bwrap`
/// would end that without a word.
fn pass_on(started: &Started, signal: Signal) {
    if let Some(pid) = Pid::from_raw(started.inside().unwrap_or(started.pid())) {
        // It may have ended this moment.
        let _ = kill_process(pid, signal);
    }
}

/// Without a namespace of its own the program may leave processes behind. This process adopts them, so that they are found.
fn end_leftovers() {
    let me = getpid().as_raw_nonzero().get();
    loop {
        let living: Vec<Stat> = processes::descendants(me).into_iter().filter(|stat| !stat.is_dead()).collect();
        for pid in living.iter().filter_map(|stat| Pid::from_raw(stat.pid)) {
            let _ = kill_process(pid, Signal::KILL);
        }
        // Waits for one to be gone, whichever; with no child left at all there is nothing to wait for.
        if rustix::process::wait(rustix::process::WaitOptions::empty()).is_err() {
            return;
        }
    }
}
