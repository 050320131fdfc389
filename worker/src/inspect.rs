//! `rekindle-worker inspect`: one read-only look into a workspace, for the gateway's `files`, `log` and `diff`.
//!
//! What to look at is in `REKINDLE_INSPECT` ([`contract::Look`]), what was seen goes to stdout as one JSON document
//! ([`contract::InspectOutcome`]). It is a workload of its own: whatever lies in the workspace, a repository made to be slow or
//! large included, costs no more than this process may have, and it may have little.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use contract::Look;
use rustix::process::{Resource, Rlimit, setrlimit};

/// Longer than the runtime gives any look: the last resort when the runtime was killed meanwhile.
const LAST_RESORT: Duration = Duration::from_secs(90);
const MEMORY_BYTES: u64 = 1 << 30;

/// Looks, and prints what was seen, or why nothing was.
///
/// # Errors
/// When `REKINDLE_INSPECT` says nothing that can be looked at, or stdout is closed.
pub fn run(folder: &Path) -> anyhow::Result<ExitCode> {
    let text = std::env::var("REKINDLE_INSPECT").context("REKINDLE_INSPECT is not set")?;
    let look: Look = contract::parse(text.as_bytes()).context("parse REKINDLE_INSPECT")?;
    let memory = Rlimit { current: Some(MEMORY_BYTES), maximum: Some(MEMORY_BYTES) };
    setrlimit(Resource::As, memory).context("limit the memory")?;
    // Not awaited: it ends the process, or the process ends first.
    std::thread::Builder::new().stack_size(64 << 10).spawn(give_up_late).context("start the last resort")?;
    let outcome = workspace::inspect::look(folder, &look);
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&serde_json::to_vec(&outcome)?).and_then(|()| stdout.flush()).context("answer")?;
    Ok(ExitCode::SUCCESS)
}

fn give_up_late() {
    // Nobody unparks it; a spurious wake-up ends a look early, which is asked for again.
    std::thread::park_timeout(LAST_RESORT);
    std::process::exit(124);
}
