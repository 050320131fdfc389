//! Places where the tests kill the worker: the numbered boundaries of a turn (ARCHITECTURE, "The turn, inside the worker").
//!
//! Only with the feature `crash-points`, which no program that is installed has. There, a line of the file `crash-at` in the
//! state folder names the next step at which the process ends as if by SIGKILL; `<step> hold` lets it stand still there until
//! the file `crash-go` appears, `<step> pass` lets it go on. What was reached is said in `crash-log`.

/// The boundaries of a turn that runs to its end and has two workspaces, in order.
pub const STEPS: [&str; 18] = [
    "delivered",
    "accepted",
    "opened",
    "begun",
    "agent",
    "agent-ended",
    "quiet",
    "objects-written",
    "prepared-one",
    "prepared",
    "record-written",
    "record-renamed",
    "recorded",
    "branch-moved",
    "moved",
    "moves-made",
    "commits-told",
    "done",
];

/// The process ends here when the test says so.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn crash_point(_step: &str) {}

/// The process ends here when the test says so.
#[cfg(feature = "crash-points")]
pub fn crash_point(step: &str) {
    let Some(state) = std::env::var_os("REKINDLE_STATE").map(std::path::PathBuf::from) else { return };
    let plan = state.join("crash-at");
    let Ok(text) = std::fs::read_to_string(&plan) else { return };
    let (line, rest) = text.split_once('\n').unwrap_or((&text, ""));
    let (wanted, how) = line.split_once(' ').unwrap_or((line, ""));
    if wanted != step {
        return;
    }
    // Each line once: the next generation passes where this one ended.
    let _ = std::fs::write(&plan, rest);
    let _ = std::fs::write(state.join("crash-log"), step);
    if how == "pass" {
        return;
    }
    while how == "hold" && !state.join("crash-go").exists() {
        let pause = rustix::thread::Timespec { tv_sec: 0, tv_nsec: 2_000_000 };
        let _ = rustix::thread::nanosleep(&pause);
    }
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
    // The first process of a PID namespace cannot be killed from inside (pid_namespaces(7)), but it can end, and with it
    // everything else in there.
    std::process::abort();
}
