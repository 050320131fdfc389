//! What the agent may not do to the worker beside it, although both have one uid: a filter of system calls around everything that
//! a runner starts.
//!
//! What looks into a process asks whether that is dumpable, which the worker is not. prlimit(2) does not ask: whoever has the uid
//! may lower the limits of any process, and a worker without descriptors, time or file size cannot finish a turn.

use std::io;

use libc::sock_filter;

/// Where `struct seccomp_data` has what (seccomp(2)). The lower half of an argument comes first: all machines here are
/// little-endian.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const PID: u32 = 16;
const NEW_LIMIT: u32 = 16 + 2 * 8;

/// `AUDIT_ARCH_*` of this machine and of the older one whose programs it may run, each with the number of prlimit64 there.
#[cfg(target_arch = "x86_64")]
const ARCHES: [(u32, u32); 2] = [(0xc000_003e, 302), (0x4000_0003, 340)];
#[cfg(target_arch = "aarch64")]
const ARCHES: [(u32, u32); 2] = [(0xc000_00b7, 261), (0x4000_0028, 369)];

/// Set in the numbers of x32, where calls are otherwise those of `x86_64`; no other machine has numbers that high.
const X32: u32 = 0x4000_0000;

const fn step(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

const fn load(offset: u32) -> sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

/// Skips so many steps when equal, and so many when not.
const fn compare(k: u32, equal: u8, other: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16, jt: equal, jf: other, k }
}

/// Setting limits of another process is refused. Asking for them, and everything else, is allowed.
static PROGRAM: [sock_filter; 16] = [
    load(ARCH),
    compare(ARCHES[0].0, 0, 3),
    load(NUMBER),
    step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, !X32),
    compare(ARCHES[0].1, 3, 9),
    compare(ARCHES[1].0, 0, 8),
    load(NUMBER),
    compare(ARCHES[1].1, 0, 6),
    // Zero is the caller itself. Any other number may be that of one of the worker's threads.
    load(PID),
    compare(0, 4, 0),
    load(NEW_LIMIT),
    compare(0, 0, 3),
    load(NEW_LIMIT + 4),
    compare(0, 0, 1),
    step(libc::BPF_RET, libc::SECCOMP_RET_ALLOW),
    step(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
];

/// Closes the fence around this process and all that come after it. Runs between fork and exec: system calls only.
///
/// # Errors
/// When the kernel has no such filters.
pub fn close() -> io::Result<()> {
    let program = libc::sock_fprog { len: PROGRAM.len() as u16, filter: PROGRAM.as_ptr().cast_mut() };
    // SAFETY: both calls read their arguments only, and the program is a static.
    let refused = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) != 0
    };
    if refused { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::{Command, Stdio};

    /// prlimit(1) of util-linux asks the kernel for whatever process it is told.
    #[test]
    fn nobody_elses_limits_can_be_set_and_ones_own_can() {
        let mut other = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = other.id().to_string();
        let fenced = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script, "sh", &pid]).stderr(Stdio::null());
            // SAFETY: two system calls are made between fork and exec.
            unsafe { command.pre_exec(super::close) };
            command.status().unwrap().success()
        };
        assert!(!fenced("prlimit --pid $1 --nofile=64:64"));
        assert!(fenced("prlimit --pid $1 --nofile"), "asking is allowed");
        assert!(fenced("ulimit -n 64 && prlimit --nofile=32:32 true"), "so is setting one's own");
        assert!(Command::new("prlimit").args(["--pid", &pid, "--nofile=64:64"]).status().unwrap().success());
        drop(other.stdin.take());
        other.wait().unwrap();
    }
}
