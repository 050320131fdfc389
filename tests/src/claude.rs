//! The real claude CLI: where it is, and a run of it outside any sandbox.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Child;

use crate::paths;

/// The uid that the CLI is run as where the test itself is root: bypassing permissions is refused to root.
const UID: u32 = 10_001;

/// The pinned CLI: `$REKINDLE_CLAUDE`, else from the cache, into which it is installed once.
///
/// # Panics
/// When it cannot be installed.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        if let Some(path) = std::env::var_os("REKINDLE_CLAUDE") {
            return path.into();
        }
        let installer = paths::repository().join("worker/image/cli");
        // npm has its own settings in the environment; the CLI itself never sees this one.
        let output =
            std::process::Command::new(&installer).stdin(Stdio::null()).output().expect("run worker/image/cli");
        assert!(output.status.success(), "worker/image/cli: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().into()
    })
}

/// Settings of a default profile that runs it on either backend.
///
/// # Panics
/// As [`program`].
pub fn profile() -> String {
    let folder = program().parent().expect("the CLI's folder").display().to_string();
    format!(
        "[profiles.default]\nimage = \"rekindle/agent:latest\"\nrunner = \"claude-code\"\nidle_timeout_sec = 60\n\
         process_paths = [\"{folder}\"]\nenv = {{ PATH = \"{folder}:/usr/local/bin:/usr/bin:/bin\" }}\n"
    )
}

/// A place where the CLI keeps its state, and a folder it works in.
#[derive(Debug)]
pub struct Claude {
    home: tempfile::TempDir,
    base_url: String,
}

/// What one run came to.
#[derive(Debug)]
pub struct Run {
    /// Standard output, line by line.
    pub lines: Vec<Value>,
    /// Standard error.
    pub stderr: String,
    /// Exit code; `None` when a signal ended it.
    pub code: Option<i32>,
}

impl Run {
    /// The line of type `result`.
    ///
    /// # Panics
    /// When there is none, with all that was printed.
    pub fn result(&self) -> &Value {
        let found = self.lines.iter().find(|l| l["type"] == "result");
        found.unwrap_or_else(|| panic!("no result line: {self:#?}"))
    }
}

impl Claude {
    /// An agent that asks the model at `base_url`.
    ///
    /// # Panics
    /// When no temporary folder can be made.
    pub fn new(base_url: impl Into<String>) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        for dir in [
            home.path().to_path_buf(),
            home.path().join("workspace"),
            home.path().join("config"),
            home.path().join("tmp"),
        ] {
            std::fs::create_dir_all(&dir).expect("make a folder");
            std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).expect("open a folder");
            if rustix::process::geteuid().is_root() {
                std::os::unix::fs::chown(&dir, Some(UID), Some(UID)).expect("give a folder away");
            }
        }
        Self { home, base_url: base_url.into() }
    }

    /// The folder that it works in.
    pub fn workspace(&self) -> PathBuf {
        self.home.path().join("workspace")
    }

    /// One turn, as the worker runs it.
    ///
    /// # Panics
    /// When it takes longer than a minute or prints what is not JSON.
    pub async fn turn(&self, prompt: &str, more: &[&str]) -> Run {
        let child = self.begin(prompt, more).await;
        let limit = Duration::from_secs(60);
        let output = tokio::time::timeout(limit, child.wait_with_output()).await.expect("a turn within a minute");
        let output = output.expect("its output");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        let lines = text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
        Run { lines, stderr: String::from_utf8_lossy(&output.stderr).into_owned(), code: output.status.code() }
    }

    /// Starts a turn and says the prompt; what it prints is to be read. It is killed when this is dropped.
    ///
    /// # Panics
    /// When it cannot be started.
    pub async fn begin(&self, prompt: &str, more: &[&str]) -> Child {
        let mut command = tokio::process::Command::from(paths::command(program()));
        let home = self.home.path();
        command
            .args(["-p", "--input-format", "stream-json", "--output-format", "stream-json", "--verbose"])
            .args(["--include-partial-messages", "--permission-mode", "bypassPermissions"])
            .args(more)
            .current_dir(self.workspace())
            .env("HOME", home)
            .env("TMPDIR", home.join("tmp"))
            .env("CLAUDE_CONFIG_DIR", home.join("config"))
            .env("ANTHROPIC_BASE_URL", &self.base_url)
            .env("ANTHROPIC_API_KEY", "rekindle")
            .env("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1")
            .env("DISABLE_AUTOUPDATER", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        if rustix::process::geteuid().is_root() {
            command.uid(UID).gid(UID);
        }
        let mut child = command.spawn().expect("start the CLI");
        let mut stdin = child.stdin.take().expect("its input");
        let message = json!({ "type": "user", "message": { "role": "user", "content": prompt } });
        stdin.write_all(format!("{message}\n").as_bytes()).await.expect("say something");
        child
    }
}
