//! The filter of system calls around a process sandbox: comparable with what a container engine puts around a container.
//!
//! It is a list of what is allowed: a call that a later kernel brings is not there. What is not allowed is told as "no such
//! call" (`ENOSYS`), so that a program takes its older way, as glibc does where `clone3` is missing, whose flags lie in memory
//! that no filter can see. Calls of another machine's kind (32 bits, on x86) end the process.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::syscalls::{COMMON, OLDER};

/// Flags of clone(2) that make a namespace: a namespace of users is the door to most of the kernel.
const NEW_NAMESPACE: u64 = (libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET) as u64;
/// What personality(2) may be: Linux on either width, either with `UNAME26`, and the question what it is.
const PERSONALITIES: [u64; 5] = [0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// Kinds of sockets that reach past a network namespace, or into the kernel's cryptography.
const SOCKETS_DENIED: [i32; 2] = [libc::AF_VSOCK, libc::AF_ALG];
/// Requests of ioctl(2) that type into a terminal as if by its user.
const TYPING: [u64; 2] = [0x5412, 0x541c];

/// The program as `bwrap --seccomp` reads it: `struct sock_filter` after `struct sock_filter`.
///
/// # Errors
/// When this machine's kind is none that the filter is known for.
pub(super) fn program() -> io::Result<Vec<u8>> {
    let program =
        compile().map_err(|e| io::Error::new(io::ErrorKind::Unsupported, format!("no seccomp filter: {e}")))?;
    let mut bytes = Vec::with_capacity(program.len() * 8);
    for step in program {
        bytes.extend(step.code.to_ne_bytes());
        bytes.extend([step.jt, step.jf]);
        bytes.extend(step.k.to_ne_bytes());
    }
    Ok(bytes)
}

fn compile() -> Result<BpfProgram, seccompiler::BackendError> {
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> =
        COMMON.iter().chain(OLDER).map(|call| (*call, Vec::new())).collect();
    let is = |argument, op, value| SeccompCondition::new(argument, Len::Dword, op, value);
    rules.insert(libc::SYS_clone, vec![SeccompRule::new(vec![is(0, Op::MaskedEq(NEW_NAMESPACE), 0)?])?]);
    let each = PERSONALITIES.iter().map(|value| SeccompRule::new(vec![is(0, Op::Eq, *value)?]));
    rules.insert(libc::SYS_personality, each.collect::<Result<_, _>>()?);
    let none_of = SOCKETS_DENIED.iter().map(|family| is(0, Op::Ne, u64::from(family.cast_unsigned())));
    rules.insert(libc::SYS_socket, vec![SeccompRule::new(none_of.collect::<Result<_, _>>()?)?]);
    let none_of = TYPING.iter().map(|request| is(1, Op::Ne, *request));
    rules.insert(libc::SYS_ioctl, vec![SeccompRule::new(none_of.collect::<Result<_, _>>()?)?]);
    let refused = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    SeccompFilter::new(rules, refused, SeccompAction::Allow, arch)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_kernel_is_attacked_through_is_not_on_the_list() {
        let allowed = |call: i64| COMMON.contains(&call) || OLDER.contains(&call);
        let denied = [
            libc::SYS_mount,
            libc::SYS_umount2,
            libc::SYS_pivot_root,
            libc::SYS_unshare,
            libc::SYS_setns,
            libc::SYS_clone3,
            libc::SYS_bpf,
            libc::SYS_keyctl,
            libc::SYS_add_key,
            libc::SYS_request_key,
            libc::SYS_userfaultfd,
            libc::SYS_perf_event_open,
            libc::SYS_kexec_load,
            libc::SYS_io_uring_setup,
            libc::SYS_io_setup,
            libc::SYS_mq_open,
            libc::SYS_open_by_handle_at,
            libc::SYS_pidfd_getfd,
        ];
        assert!(denied.iter().all(|call| !allowed(*call)));
        let needed = [libc::SYS_execve, libc::SYS_futex, libc::SYS_openat2, libc::SYS_memfd_create];
        assert!(needed.iter().all(|call| allowed(*call)));
    }

    #[test]
    fn the_program_is_whole_steps_and_not_too_many() {
        let bytes = program().unwrap();
        assert_eq!(bytes.len() % 8, 0);
        // BPF_MAXINSNS of the kernel.
        assert!((1000..4096).contains(&(bytes.len() / 8)), "{}", bytes.len() / 8);
    }
}
