//! Step 4 of a turn: when the runner has ended, nothing else may write to the workspaces.
//!
//! As PID 1 of a sandbox this holds for every process there is. Elsewhere it holds for this process' own tree, which,
//! this process being a subreaper, nothing can leave.

use std::time::Duration;

use rustix::process::{Pid, Signal, getpid, kill_process};
use tokio::time::Instant;

use crate::processes::{self, Stat};

/// How long processes may take to stop. One that waits for its child by vfork(2) does not stop before that child ends.
const STOPPING: Duration = Duration::from_millis(200);
/// How long they may take to be gone once they are killed. One that waits for a disk is not while it waits.
const BOUND: Duration = Duration::from_secs(20);

/// Processes that could not be killed: the workspaces may still change under us, so the worker has to go.
#[derive(Debug, thiserror::Error)]
#[error("{0} processes of the sandbox could not be ended within {BOUND:?}")]
pub struct Restless(usize);

/// Kills every other process, again and again, until all are gone. As PID 1 one call reaches all of them, those that are being
/// born included: the kernel lets no fork come between. Elsewhere they are killed one by one, so they are stopped before, as
/// far as they let themselves be stopped, and have no children meanwhile.
///
/// # Errors
/// [`Restless`] when some are left after a bound; they have been sent `SIGKILL`.
pub async fn end_everything_else() -> Result<(), Restless> {
    if !getpid().is_init() {
        // Whether all are stopped or not, what counts is that they go.
        let _ = settle(STOPPING, Signal::STOP, Stat::is_stopped).await;
    }
    settle(BOUND, Signal::KILL, |_| false).await
}

/// Sends a signal to every process that is not settled yet, until all are.
async fn settle(bound: Duration, signal: Signal, settled: impl Fn(&Stat) -> bool) -> Result<(), Restless> {
    let deadline = Instant::now() + bound;
    let mut pause = Duration::from_micros(200);
    loop {
        let restless: Vec<_> = others().into_iter().filter(|stat| !settled(stat)).collect();
        if restless.is_empty() {
            return Ok(());
        }
        if Instant::now() >= deadline {
            return Err(Restless(restless.len()));
        }
        send(&restless, signal);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(20));
    }
}

fn send(stats: &[Stat], signal: Signal) {
    if getpid().is_init() {
        // Every process but this one (kill(2)). Without `Pid` there is no safe call for -1.
        // SAFETY: kill takes two integers and touches no memory of ours.
        unsafe { libc::kill(-1, signal.as_raw()) };
        return;
    }
    for pid in stats.iter().filter_map(|stat| Pid::from_raw(stat.pid)) {
        // It may have gone meanwhile.
        let _ = kill_process(pid, signal);
    }
}

/// The living ones; dead ones that are ours are reaped on the way.
fn others() -> Vec<Stat> {
    let me = getpid();
    let raw = me.as_raw_nonzero().get();
    let mut list = if me.is_init() { processes::all() } else { processes::descendants(raw) };
    list.retain(|stat| {
        if stat.is_dead() && stat.ppid == raw {
            processes::reap(stat.pid);
        }
        stat.pid != raw && !stat.is_dead()
    });
    list
}
