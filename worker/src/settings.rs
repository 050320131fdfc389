//! What a worker finds in its environment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use contract::{Generation, Mode, UnitId, WorkspaceId};
use serde::Deserialize;

/// Settings of a worker, from the `REKINDLE_*` variables.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The unit.
    pub unit: UnitId,
    /// Its generation: the fence.
    pub generation: Generation,
    /// Name of the in-stream.
    pub in_stream: String,
    /// Name of the out-stream.
    pub out_stream: String,
    /// The relay's socket that speaks RESP.
    pub redis_sock: PathBuf,
    /// The relay's socket that speaks HTTP.
    pub gateway_sock: PathBuf,
    /// The workspaces, the first is primary.
    pub workspaces: Vec<MountedAt>,
    /// The unit's state folder.
    pub state: PathBuf,
    /// Which runner.
    pub runner: RunnerKind,
    /// What the profile says of it.
    pub runner_config: RunnerConfig,
    /// How long no gateway may be reached before this worker ends itself.
    pub orphan_after: Duration,
    /// The disposable home of the runner.
    pub home: PathBuf,
}

/// A workspace and where it is mounted.
#[derive(Debug, Clone, Deserialize)]
pub struct MountedAt {
    /// Which workspace.
    pub id: WorkspaceId,
    /// At which mode.
    pub mode: Mode,
    /// Where.
    pub path: PathBuf,
}

/// The runners that this build has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunnerKind {
    /// Answers with the prompt.
    Echo,
    /// Any program.
    Exec,
    /// The Claude Code CLI.
    ClaudeCode,
}

impl RunnerKind {
    /// Parses the wire word.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "echo" => Some(Self::Echo),
            "exec" => Some(Self::Exec),
            "claude-code" => Some(Self::ClaudeCode),
            _ => None,
        }
    }

    /// The wire word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Exec => "exec",
            Self::ClaudeCode => "claude-code",
        }
    }
}

/// `REKINDLE_RUNNER_CONFIG`: what the profile says of its runner.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct RunnerConfig {
    /// The program and its arguments; for `claude-code` what stands in the place of `claude`.
    #[serde(default)]
    pub command: Vec<String>,
    /// The model, where a turn names none.
    #[serde(default)]
    pub model: Option<String>,
    /// Variables to give to the runner beside the usual few.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
}

/// How variables are looked up.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<String>;

impl Settings {
    /// Reads the settings.
    ///
    /// # Errors
    /// The first variable that is absent or malformed, by its name.
    pub fn read(var: Lookup<'_>) -> anyhow::Result<Self> {
        let need = |name: &str| var(name).filter(|text| !text.is_empty()).with_context(|| format!("{name} is not set"));
        let unit = UnitId::parse(need("REKINDLE_UNIT")?).context("REKINDLE_UNIT")?;
        let generation = need("REKINDLE_GENERATION")?.parse().map(Generation).context("REKINDLE_GENERATION")?;
        let runner = var("REKINDLE_RUNNER").unwrap_or_else(|| "claude-code".into());
        let workspaces: Vec<MountedAt> =
            serde_json::from_str(&need("REKINDLE_WORKSPACES")?).context("REKINDLE_WORKSPACES")?;
        if workspaces.is_empty() {
            bail!("REKINDLE_WORKSPACES is empty: a unit has at least one workspace");
        }
        let runner_config = match var("REKINDLE_RUNNER_CONFIG").filter(|text| !text.is_empty()) {
            Some(text) => serde_json::from_str(&text).context("REKINDLE_RUNNER_CONFIG")?,
            None => RunnerConfig::default(),
        };
        let orphan_sec = match var("REKINDLE_ORPHAN_SEC") {
            Some(text) => text.parse().context("REKINDLE_ORPHAN_SEC must be a number of seconds")?,
            None => 900,
        };
        Ok(Self {
            in_stream: var("REKINDLE_IN").unwrap_or_else(|| unit.in_stream()),
            out_stream: var("REKINDLE_OUT").unwrap_or_else(|| unit.out_stream()),
            unit,
            generation,
            redis_sock: socket(&need("REDIS_URL")?, "redis+unix://").context("REDIS_URL must be redis+unix:///path")?,
            gateway_sock: socket(&need("REKINDLE_GATEWAY_URL")?, "unix://")
                .context("REKINDLE_GATEWAY_URL must be unix:///path")?,
            workspaces,
            state: need("REKINDLE_STATE")?.into(),
            runner: RunnerKind::parse(&runner)
                .with_context(|| format!("unknown runner `{runner}`: this worker has claude-code, exec and echo"))?,
            runner_config,
            orphan_after: Duration::from_secs(orphan_sec),
            home: var("HOME").filter(|home| home.starts_with('/')).unwrap_or_else(|| "/tmp".into()).into(),
        })
    }

    /// Where the agent works.
    pub fn primary(&self) -> &MountedAt {
        &self.workspaces[0]
    }
}

/// The path of a socket's URL.
pub fn socket(url: &str, scheme: &str) -> Option<PathBuf> {
    url.strip_prefix(scheme).filter(|path| path.starts_with('/')).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(over: &[(&str, &str)]) -> anyhow::Result<Settings> {
        let mut vars = BTreeMap::from([
            ("REKINDLE_UNIT", "uaaaaaaaaaaaaaaaaaaaaaaaaa"),
            ("REKINDLE_GENERATION", "7"),
            ("REDIS_URL", "redis+unix:///rekindle/sock/redis.sock"),
            ("REKINDLE_GATEWAY_URL", "unix:///rekindle/sock/gateway.sock"),
            ("REKINDLE_WORKSPACES", r#"[{"id":"notes","mode":"rw","path":"/workspace"}]"#),
            ("REKINDLE_STATE", "/rekindle/state"),
        ]);
        vars.extend(over.iter().copied());
        Settings::read(&|name| vars.get(name).map(|text| (*text).to_owned()))
    }

    #[test]
    fn defaults_are_filled_in() {
        let settings = read(&[]).unwrap();
        assert_eq!(settings.in_stream, "unit:uaaaaaaaaaaaaaaaaaaaaaaaaa:in");
        assert_eq!(settings.redis_sock, PathBuf::from("/rekindle/sock/redis.sock"));
        assert_eq!(settings.runner, RunnerKind::ClaudeCode);
        assert_eq!(settings.orphan_after, Duration::from_secs(900));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value) in [
            ("REKINDLE_UNIT", "../x"),
            ("REKINDLE_GENERATION", "-1"),
            ("REDIS_URL", "redis://h"),
            ("REKINDLE_WORKSPACES", "[]"),
            ("REKINDLE_RUNNER_CONFIG", "{"),
            ("REKINDLE_STATE", ""),
        ] {
            let error = format!("{:#}", read(&[(name, value)]).unwrap_err());
            assert!(error.contains(name), "{name}: {error}");
        }
        let error = read(&[("REKINDLE_RUNNER", "x")]).unwrap_err().to_string();
        assert!(error.contains("claude-code, exec and echo"), "{error}");
    }
}
