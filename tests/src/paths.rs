//! Where the repository, the programs under test and the tools are.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The repository's root.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_path_buf()
}

/// The folder with the programs: `$REKINDLE_BIN_DIR`, else where cargo puts those of this program's profile.
pub fn binaries() -> PathBuf {
    if let Some(dir) = std::env::var_os("REKINDLE_BIN_DIR") {
        return dir.into();
    }
    let this = std::env::current_exe().expect("this program's own path");
    let folder = this.parent().expect("target/<profile>, and for tests deps below it");
    if folder.ends_with("deps") {
        folder.parent().expect("target/<profile>").to_path_buf()
    } else {
        folder.to_path_buf()
    }
}

/// A program of the workspace.
///
/// # Panics
/// When it was not built, with the command that does.
pub fn program(name: &str) -> PathBuf {
    let path = binaries().join(name);
    assert!(
        path.exists(),
        "{} is not built: run `make binaries`, or `make release` for release programs",
        path.display()
    );
    path
}

/// The static worker: `$REKINDLE_WORKER`, else `rekindle-worker-static` beside the programs.
///
/// # Panics
/// When it was not built, with the command that does.
pub fn static_worker() -> PathBuf {
    match std::env::var_os("REKINDLE_WORKER") {
        Some(path) => path.into(),
        None => program("rekindle-worker-static"),
    }
}

/// A tool of the machine, by its name on the usual `PATH`.
///
/// # Panics
/// When it is missing, with the package that has it.
pub fn tool(name: &str, package: &str) -> PathBuf {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&dirs)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file())
        .unwrap_or_else(|| panic!("{name} is missing: apt-get install {package}"))
}

/// The `PATH` of everything that tests start.
pub const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A command with an empty environment but for `PATH`, so that nothing of the machine's own reaches what is tested.
pub fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(program);
    command.env_clear().env("PATH", SYSTEM_PATH);
    command
}
