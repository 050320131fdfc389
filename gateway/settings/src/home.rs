//! Where a single machine's deployment keeps its things.

use std::path::{Path, PathBuf};

/// `$REKINDLE_HOME`, by default `~/.rekindle`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Home(PathBuf);

impl Home {
    /// At this folder; nothing is created.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// As the environment says: `$REKINDLE_HOME`, else `$HOME/.rekindle`, else `.rekindle` here.
    pub fn find() -> Self {
        let given = std::env::var_os("REKINDLE_HOME").filter(|v| !v.is_empty()).map(PathBuf::from);
        let default = || PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".rekindle");
        Self(given.unwrap_or_else(default))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Sockets and `client.json`.
    pub fn run(&self) -> PathBuf {
        self.0.join("run")
    }

    /// Keys and tokens, mode 0700.
    pub fn secrets(&self) -> PathBuf {
        self.0.join("secrets")
    }

    /// The private Redis' files.
    pub fn redis(&self) -> PathBuf {
        self.0.join("redis")
    }

    /// One file for each child of the supervisor.
    pub fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    /// The runtime's store.
    pub fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    /// What the command line needs to reach the gateway: `{"url", "token"}`.
    pub fn client_file(&self) -> PathBuf {
        self.run().join("client.json")
    }
}
