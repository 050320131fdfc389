//! A single machine's deployment: its folder, its settings file, and what the supervisor chooses where the user did not.

use std::path::{Path, PathBuf};

use settings::{Home, Settings};
use toml::{Table, Value};

use crate::failure::Failure;

/// What is written as `rekindle.toml` where there is none.
const EXAMPLE: &str = include_str!("rekindle.example.toml");

/// Folder and settings.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// The folder.
    pub home: Home,
    /// The settings file; it may not exist yet.
    pub config: PathBuf,
    /// The settings, choices included.
    pub settings: Settings,
    text: String,
    file: Table,
    variables: Vec<(String, String)>,
    choices: Vec<(String, String)>,
}

impl Deployment {
    /// With the first of: the file that is named, `./rekindle.toml`, `$REKINDLE_HOME/rekindle.toml`.
    ///
    /// # Errors
    /// When the settings are wrong, with the line or the variable.
    pub fn find(home: Home, named: Option<&Path>) -> Result<Self, Failure> {
        let own = home.path().join("rekindle.toml");
        let config = match named {
            Some(path) => std::path::absolute(path)?,
            None => Some(std::path::absolute("rekindle.toml")?).filter(|p| p.is_file()).unwrap_or(own),
        };
        let text = match std::fs::read_to_string(&config) {
            Ok(text) => text,
            Err(e) if named.is_none() && e.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(e) => return Err(Failure::Refused(format!("{} cannot be read: {e}", config.display()))),
        };
        Self::from_parts(home, config, text, std::env::vars().collect())
    }

    fn from_parts(
        home: Home,
        config: PathBuf,
        text: String,
        variables: Vec<(String, String)>,
    ) -> Result<Self, Failure> {
        let refuse = |e: &dyn std::fmt::Display| Failure::Refused(e.to_string());
        let settings = Settings::from_text(&config, &text, variables.iter().cloned()).map_err(|e| refuse(&e))?;
        let file = toml::from_str(&text).map_err(|e| refuse(&e))?;
        Ok(Self { home, config, settings, text, file, variables, choices: Vec::new() })
    }

    /// Writes a commented example where there is no file yet.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_example(&self) -> Result<(), Failure> {
        if !self.config.exists() {
            std::fs::write(&self.config, EXAMPLE)?;
        }
        Ok(())
    }

    /// Whether the user gave this value (`section.key`), in the file or by its variable.
    pub fn is_given(&self, key: &str) -> bool {
        let mut at = Some(&Value::Table(self.file.clone())).cloned();
        for part in key.split('.') {
            at = at.and_then(|v| v.get(part).cloned());
        }
        let name = variable(key);
        at.is_some() || self.variables.iter().any(|(k, _)| *k == name || k.starts_with(&format!("{name}__")))
    }

    /// Takes `value` for `key` unless the user gave one.
    pub fn choose(&mut self, key: &str, value: impl Into<Value>) {
        if !self.is_given(key) {
            self.insist(key, value);
        }
    }

    /// Takes `value` for `key` whatever the file says: an option of the command line.
    pub fn insist(&mut self, key: &str, value: impl Into<Value>) {
        self.choices.retain(|(k, _)| k != &variable(key));
        self.choices.push((variable(key), value.into().to_string()));
    }

    /// Applies the choices to [`Self::settings`].
    ///
    /// # Errors
    /// When one of them does not fit.
    pub fn settle(&mut self) -> Result<(), Failure> {
        self.settings = Settings::from_text(&self.config, &self.text, self.passed_on().into_iter())
            .map_err(|e| Failure::Refused(e.to_string()))?;
        Ok(())
    }

    /// The variables that give a child the same settings from the same file.
    pub fn passed_on(&self) -> Vec<(String, String)> {
        let chosen = |name: &str| self.choices.iter().any(|(k, _)| k == name);
        let own = self.variables.iter().filter(|(k, _)| is_setting(k) && !chosen(k));
        own.chain(&self.choices).cloned().collect()
    }
}

fn variable(key: &str) -> String {
    format!("REKINDLE_{}", key.to_uppercase().replace('.', "__"))
}

fn is_setting(name: &str) -> bool {
    name.strip_prefix("REKINDLE_").is_some_and(|rest| rest.contains("__"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deployment(text: &str, variables: &[(&str, &str)]) -> Deployment {
        let variables = variables.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        Deployment::from_parts(Home::at("/h"), "/h/rekindle.toml".into(), text.into(), variables).unwrap()
    }

    #[test]
    fn choices_do_not_override_the_user() {
        let mut d = deployment(
            "[redis]\nurl = \"redis://mine\"\n[gateway]\ndrain_sec = 3\n",
            &[("REKINDLE_RUNTIME__DEPLOYMENT", "d"), ("REKINDLE_TOKEN", "secret"), ("PATH", "/bin")],
        );
        d.choose("redis.url", "redis+unix:///h/run/redis.sock");
        d.choose("runtime.deployment", "other");
        d.choose("gateway.worker_port", "unix:///h \"x\"/worker.sock");
        d.choose("profiles.default.process_paths", vec!["/opt/a".to_owned()]);
        d.insist("gateway.drain_sec", 4);
        d.settle().unwrap();
        assert_eq!(d.settings.redis.url, "redis://mine");
        assert_eq!(d.settings.runtime.deployment, "d");
        assert_eq!(d.settings.gateway.worker_port, "unix:///h \"x\"/worker.sock");
        assert_eq!(d.settings.gateway.drain_sec, 4);
        assert_eq!(d.settings.profiles["default"].process_paths, [PathBuf::from("/opt/a")]);
        let names: Vec<_> = d.passed_on().into_iter().map(|(k, _)| k).collect();
        assert_eq!(
            names,
            [
                "REKINDLE_RUNTIME__DEPLOYMENT",
                "REKINDLE_GATEWAY__WORKER_PORT",
                "REKINDLE_PROFILES__DEFAULT__PROCESS_PATHS",
                "REKINDLE_GATEWAY__DRAIN_SEC"
            ]
        );
    }

    #[test]
    fn a_child_reads_the_same_settings() {
        let text = "[profiles.p]\nmemory_mb = 5\n";
        let mut d = deployment(text, &[("REKINDLE_LIMITS__OUT_ENTRIES", "7")]);
        d.choose("redis.url", "redis+unix:///h/run/redis.sock");
        d.insist("gateway.listen", "127.0.0.1:1");
        d.settle().unwrap();
        let child = Settings::from_text(&d.config, text, d.passed_on().into_iter()).unwrap();
        assert_eq!(child, d.settings);
    }

    #[test]
    fn the_example_is_valid_and_changes_nothing() {
        let mut d = deployment(EXAMPLE, &[]);
        d.settle().unwrap();
        assert_eq!(d.settings, deployment("", &[]).settings);
        // What it shows would be accepted too.
        let shown: String = EXAMPLE
            .lines()
            .map(|l| l.strip_prefix("# ").filter(|l| l.starts_with('[') || l.contains(" = ")).unwrap_or(""))
            .flat_map(|l| [l, "\n"])
            .collect();
        assert!(shown.contains("api_key_file"));
        deployment(&shown, &[]);
    }
}
