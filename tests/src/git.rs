//! The real git, as a person would look at a workspace.

use std::path::Path;

use crate::paths;

/// Runs git in a folder that may belong to somebody else, and returns its output without the last line break.
///
/// # Panics
/// When git is missing or fails, with what it said.
#[track_caller]
pub fn git(folder: &Path, arguments: &[&str]) -> String {
    let output = paths::command(paths::tool("git", "git"))
        .args(["-c", "safe.directory=*", "-c", "user.name=Person", "-c", "user.email=person@example.com"])
        .arg("-C")
        .arg(folder)
        .args(arguments)
        .output()
        .expect("run git");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end_matches('\n').to_owned();
    assert!(output.status.success(), "git {arguments:?} in {}: {}", folder.display(), text(&output.stderr));
    text(&output.stdout)
}

/// Subjects of the commits on the present branch, newest first.
#[track_caller]
pub fn subjects(folder: &Path) -> Vec<String> {
    git(folder, &["log", "--format=%s"]).lines().map(str::to_owned).collect()
}

/// The value of a trailer of HEAD's commit, empty when it has none.
#[track_caller]
pub fn trailer(folder: &Path, name: &str) -> String {
    git(folder, &["log", "-1", &format!("--format=%(trailers:key={name},valueonly)")]).trim().to_owned()
}

/// Gives a folder and all in it to the deployment's worker uid, as if a worker had made it.
///
/// # Panics
/// When that is not allowed: tests run as root or as the worker's own uid.
pub fn give_to_worker(folder: &Path) {
    const WORKER_UID: u32 = 10_001;
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let mut left = vec![folder.to_path_buf()];
    while let Some(path) = left.pop() {
        std::os::unix::fs::lchown(&path, Some(WORKER_UID), Some(WORKER_UID))
            .unwrap_or_else(|e| panic!("give {} away: {e}", path.display()));
        if path.is_dir() && !path.is_symlink() {
            left.extend(std::fs::read_dir(&path).expect("list a folder").map(|e| e.expect("an entry").path()));
        }
    }
}
