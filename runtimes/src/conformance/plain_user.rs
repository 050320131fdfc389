//! The process backend as somebody who is not root: the same cases, run by another uid.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use super::bench::{SHIM_VARIABLE, shim};

/// A uid of nobody's.
const PLAIN: u32 = 54_321;

/// Cases of limits that only a cgroup holds; a plain user has none that it may write. `rlimits` says what holds then.
const CGROUPS: &[&str] = &[
    "bubblewrap::a_fork_bomb_is_held",
    "bubblewrap::out_of_memory_is_told",
    "bubblewrap::the_first_process_lives_and_sees_that_memory_ran_out",
];

/// Copies this program and the shim to where everybody may read them, and runs the cases of bubblewrap there.
#[test]
fn bubblewrap_holds_without_root() {
    if !rustix::process::geteuid().is_root() {
        // All of these tests are run by a plain user then, and this one has nothing to change to.
        return;
    }
    let folder = tempfile::Builder::new().prefix("rk").tempdir_in("/tmp").expect("a temporary folder");
    let open = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("set a mode");
    };
    open(folder.path(), 0o755);
    let own = std::env::current_exe().expect("this program's path");
    let programs = [(own.as_path(), "tests"), (shim(), "rekindle-worker")].map(|(from, name)| {
        let to = folder.path().join(name);
        std::fs::copy(from, &to).expect("copy a program");
        open(&to, 0o755);
        to
    });
    let home = folder.path().join("h");
    std::fs::create_dir(&home).expect("make a folder");
    std::os::unix::fs::chown(&home, Some(PLAIN), Some(PLAIN)).expect("give a folder away");
    let output = Command::new(&programs[0])
        .args(["conformance::bubblewrap::", "conformance::rlimits::without_cgroups", "--test-threads=2"])
        .args(CGROUPS.iter().flat_map(|case| ["--skip", case]))
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", &home)
        .env("TMPDIR", &home)
        .env(SHIM_VARIABLE, &programs[1])
        .current_dir(&home)
        .uid(PLAIN)
        .gid(PLAIN)
        .output()
        .expect("run the cases");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(!said.contains(" 0 passed"), "no case ran: {said}");
}
