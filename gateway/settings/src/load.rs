//! Reading: the file, then the environment over it.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::types::Settings;

/// Why settings cannot be used. Nothing was changed by a failure.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is wrong; the text has line, column and the line itself.
    #[error("{path}: {message}")]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What and where.
        message: String,
    },
    /// An environment variable is wrong.
    #[error("{variable}: {message}")]
    Variable {
        /// Which.
        variable: String,
        /// What is wrong with it.
        message: String,
    },
    /// A file that should hold a secret is empty.
    #[error("{path} is empty; it must hold the secret")]
    EmptySecret {
        /// Which file.
        path: PathBuf,
    },
}

impl Settings {
    /// Reads a settings file, and then the process' environment over it.
    ///
    /// # Errors
    /// [`SettingsError`] that names the file's line or the variable.
    pub fn load(path: &Path) -> Result<Self, SettingsError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| SettingsError::Unreadable { path: path.into(), source })?;
        Self::from_text(path, &text, std::env::vars())
    }

    /// As [`Self::load`], of a text and the given variables. Relative paths are below the folder of `path`.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_text(
        path: &Path,
        text: &str,
        variables: impl Iterator<Item = (String, String)>,
    ) -> Result<Self, SettingsError> {
        let wrong = |e: toml::de::Error| SettingsError::Wrong { path: path.into(), message: e.to_string() };
        // The text by itself first: only then do errors have its lines.
        let mut settings: Self = toml::from_str(text).map_err(wrong)?;
        let mut table: Table = toml::from_str(text).map_err(wrong)?;
        for (variable, value) in variables {
            let Some(keys) = variable.strip_prefix("REKINDLE_").filter(|k| k.contains("__")) else {
                continue;
            };
            let keys: Vec<_> = keys.split("__").map(str::to_lowercase).collect();
            settings = over(&mut table, &keys, &value)
                .map_err(|message| SettingsError::Variable { variable: variable.clone(), message })?;
        }
        settings.anchor(path.parent().unwrap_or(Path::new("")));
        Ok(settings)
    }
}

/// Puts `value` at `keys`: as TOML where it parses as such and fits, else as a text.
fn over(table: &mut Table, keys: &[String], value: &str) -> Result<Settings, String> {
    let as_text = Value::String(value.into());
    let as_toml = toml::from_str::<Table>(&format!("v = {value}")).ok().and_then(|mut t| t.remove("v"));
    let mut first_error = None;
    for candidate in as_toml.into_iter().chain([as_text]) {
        let mut copy = table.clone();
        put(&mut copy, keys, candidate)?;
        match Settings::deserialize(copy.clone()) {
            Ok(settings) => {
                *table = copy;
                return Ok(settings);
            }
            Err(e) => first_error = first_error.or(Some(e.to_string())),
        }
    }
    Err(first_error.unwrap_or_default())
}

fn put(table: &mut Table, keys: &[String], value: Value) -> Result<(), String> {
    let Some((last, path)) = keys.split_last() else {
        return Ok(());
    };
    let mut at = table;
    for key in path {
        at = at
            .entry(key.clone())
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| format!("`{key}` is a value, not a section"))?;
    }
    at.insert(last.clone(), value);
    Ok(())
}

/// Reads a secret: the file's text without white space around it.
///
/// # Errors
/// When the file cannot be read or is empty.
pub fn read_secret(path: &Path) -> Result<String, SettingsError> {
    let text =
        std::fs::read_to_string(path).map_err(|source| SettingsError::Unreadable { path: path.into(), source })?;
    match text.trim() {
        "" => Err(SettingsError::EmptySecret { path: path.into() }),
        secret => Ok(secret.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, variables: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        let variables = variables.iter().map(|(k, v)| ((*k).into(), (*v).into()));
        Settings::from_text(Path::new("/etc/rekindle/rekindle.toml"), text, variables)
    }

    #[test]
    fn an_empty_file_is_the_defaults() {
        let settings = load("", &[]).unwrap();
        assert_eq!(settings.gateway.listen, "127.0.0.1:7600");
        assert!(settings.profile("default").is_some());
        assert!(settings.profile("other").is_none());
        assert_eq!(settings.auth.jwt_secret_file, Path::new("/etc/rekindle/secrets/jwt_hs256"));
    }

    #[test]
    fn unknown_keys_are_errors_with_their_line() {
        let error = load("[gateway]\nlisten = \"127.0.0.1:1\"\nlisen = 2\n", &[]).unwrap_err().to_string();
        assert!(error.contains("line 3") && error.contains("lisen"), "{error}");
        let error = load("[profiles.p]\nimag = \"x\"\n", &[]).unwrap_err().to_string();
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn the_environment_wins_over_the_file() {
        let text = "[redis]\nurl = \"redis://a\"\n[profiles.p]\nmemory_mb = 1\n";
        let variables = [
            ("REKINDLE_REDIS__URL", "redis://b"),
            ("REKINDLE_PROFILES__P__MEMORY_MB", "64"),
            ("REKINDLE_GATEWAY__DRAIN_SEC", "3"),
            ("REKINDLE_RUNTIME__DEPLOYMENT", "7"),
            ("REKINDLE_HOME", "not a setting"),
        ];
        let settings = load(text, &variables).unwrap();
        assert_eq!(settings.redis.url, "redis://b");
        assert_eq!(settings.profiles["p"].memory_mb, Some(64));
        assert_eq!(settings.gateway.drain_sec, 3);
        assert_eq!(settings.runtime.deployment, "7");
    }

    #[test]
    fn a_wrong_variable_is_named() {
        let error = load("", &[("REKINDLE_GATEWAY__DRAIN_SEC", "soon")]).unwrap_err().to_string();
        assert!(error.starts_with("REKINDLE_GATEWAY__DRAIN_SEC: "), "{error}");
        assert!(load("", &[("REKINDLE_GATEWAY__LISEN", "x")]).is_err());
    }
}
