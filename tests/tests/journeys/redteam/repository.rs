//! What a trick left, seen with git from outside, and without anything of the repository's own configuration.

use std::path::Path;
use std::time::Duration;

use tests::{git, paths};

use super::cases::Left;
use super::program::Outcome;

/// Runs git on a repository's objects and refs alone; `None` when it fails.
fn seen(folder: &Path, arguments: &[&str]) -> Option<String> {
    let output = paths::command(paths::tool("git", "git"))
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .args(["-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.bare=true"])
        .args(["-c", "core.hooksPath=/dev/null", "-c", "core.worktree="])
        .arg("--git-dir")
        .arg(folder.join(".git"))
        .args(arguments)
        .output()
        .expect("run git");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
}

/// The commit that a branch names.
pub(crate) fn tip(folder: &Path, branch: &str) -> Option<String> {
    seen(folder, &["rev-parse", "--verify", "-q", branch])
}

/// The branch that HEAD names.
///
/// # Panics
/// When it names none.
pub(crate) fn branch(folder: &Path) -> String {
    git::git(folder, &["symbolic-ref", "HEAD"])
}

/// Judges a trick: by the branch that was there before it, and the commit that it had.
pub(crate) fn judge(folder: &Path, branch: &str, before: &str, left: Left) -> Outcome {
    // What was borrowed from elsewhere is not in the workspace.
    let borrowed = folder.join(".git/objects/info/alternates");
    if borrowed.exists() {
        std::fs::remove_file(&borrowed).expect("remove the alternates");
    }
    let at = |path: &str| seen(folder, &["cat-file", "blob", &format!("{branch}:{path}")]);
    let now = tip(folder, branch).unwrap_or_else(|| "nothing".into());
    let reached = match left {
        Left::NoChange => {
            let lies = std::fs::read_to_string(folder.join("change.txt")).unwrap_or_default();
            at("change.txt").is_none_or(|text| text != lies.trim_end_matches('\n'))
        }
        Left::OldBase => at("base.txt").as_deref() != Some("changed!"),
        Left::Ran => folder.join(".git/ran").exists(),
        Left::GitLink => {
            seen(folder, &["ls-tree", "-r", branch]).is_none_or(|t| t.lines().any(|l| l.starts_with("160000")))
        }
        Left::ForeignCommit => {
            seen(folder, &["log", "--format=%an %cn", branch]).is_none_or(|log| log.contains("evil"))
        }
        Left::LostHistory => seen(folder, &["merge-base", "--is-ancestor", before, branch]).is_none(),
        Left::File(path) => at(path).is_some(),
    };
    Outcome { reached, said: format!("{left:?}: {branch} went from {before} to {now}") }
}

/// Whether a file changes still, looked at for longer than its writer waits between two writes.
pub(crate) async fn changes(file: &Path) -> Outcome {
    let first = std::fs::read(file).unwrap_or_default();
    let again = async {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if std::fs::read(file).unwrap_or_default() != first {
                return;
            }
        }
    };
    let reached = tokio::time::timeout(Duration::from_millis(700), again).await.is_ok();
    Outcome { reached, said: format!("{} was looked at", file.display()) }
}
