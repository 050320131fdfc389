//! The worker's memory: nobody else's to read, and little of it while the worker is idle.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// How many processes there may be beside the worker, said by a runtime that has no cgroup to count them.
const PROCESSES_LIMIT: &str = "REKINDLE_PROCESSES_LIMIT";

/// Done before anything else: what this process knows, it keeps. The agent runs as the same uid, and without this it could read
/// the nonce from our memory, our environment and our descriptors (prctl(2), ptrace(2), proc(5)). An exec would undo it, but a
/// worker never execs; a child has it until its own exec, and from then on is the agent's.
///
/// # Errors
/// When the system refuses; then nothing may run here.
pub fn seal() -> io::Result<()> {
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    // For all that come after, too: a core file lies where the agent may read.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    if let Some(most) = std::env::var(PROCESSES_LIMIT).ok().and_then(|most| most.parse().ok()) {
        setrlimit(Resource::Nproc, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

/// What is free goes back to the system.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim may be called at any time from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
