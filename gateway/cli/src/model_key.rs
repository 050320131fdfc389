//! The model key: where it is, and which provider it is for.

use std::path::PathBuf;

use settings::{Provider, read_secret};
use toml::{Table, Value};

use crate::deployment::Deployment;

const DEFAULT_BASE_URL: &str = "https://api.anthropic.com";
const KEY_VARIABLE: &str = "ANTHROPIC_API_KEY";
const URL_VARIABLE: &str = "ANTHROPIC_BASE_URL";

/// Where the key was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyFrom {
    /// This variable.
    Variable(String),
    /// This file.
    File(PathBuf),
}

impl std::fmt::Display for KeyFrom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Variable(name) => write!(f, "the variable {name}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// The provider and, if there is one, the key for it.
#[derive(Clone, PartialEq)]
pub struct ModelKey {
    /// Where its API is, without `/v1`.
    pub base_url: String,
    /// Where the key is, and the key.
    pub key: Option<(KeyFrom, String)>,
    /// Why a place that should have one has none.
    pub problems: Vec<String>,
    /// What else the settings say of the provider.
    pub provider: Option<Provider>,
}

impl std::fmt::Debug for ModelKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let from = self.key.as_ref().map(|(from, _)| from);
        write!(f, "ModelKey({}, {from:?}, {:?})", self.base_url, self.problems)
    }
}

impl ModelKey {
    /// Looks in the environment, then where the settings say, then into `secrets/`.
    pub fn find(deployment: &Deployment, variable: impl Fn(&str) -> Option<String>) -> Self {
        let variable = |name: &str| variable(name).map(|v| v.trim().to_owned()).filter(|v| !v.is_empty());
        let provider = deployment.settings.broker.get("anthropic");
        let base_url = variable(URL_VARIABLE)
            .or_else(|| Some(provider?.base_url.clone()))
            .unwrap_or_else(|| DEFAULT_BASE_URL.into());
        let mut found = Self {
            base_url: base_url.trim_end_matches('/').into(),
            key: None,
            problems: Vec::new(),
            provider: provider.cloned(),
        };
        let named = provider.and_then(|p| p.api_key_env.as_deref());
        found.key = variable(KEY_VARIABLE).map(|key| (KeyFrom::Variable(KEY_VARIABLE.into()), key));
        if found.key.is_none()
            && let Some(name) = named
        {
            match variable(name) {
                Some(key) => found.key = Some((KeyFrom::Variable(name.into()), key)),
                None => found.problems.push(format!("the settings name the variable {name}, which is not set")),
            }
        }
        let usual = deployment.home.secrets().join("anthropic_api_key");
        let files = provider.and_then(|p| p.api_key_file.clone()).into_iter().chain(usual.exists().then_some(usual));
        for path in files {
            if found.key.is_some() {
                break;
            }
            match read_secret(&path) {
                Ok(key) => found.key = Some((KeyFrom::File(path), key)),
                Err(e) => found.problems.push(crate::api::whole(&e)),
            }
        }
        found
    }

    /// The `broker.anthropic` section that the gateway shall have: never the key itself.
    pub fn section(&self) -> Option<Value> {
        let (from, _) = self.key.as_ref()?;
        let provider = Provider {
            base_url: self.base_url.clone(),
            api_key_file: match from {
                KeyFrom::File(path) => Some(path.clone()),
                KeyFrom::Variable(_) => None,
            },
            api_key_env: match from {
                KeyFrom::Variable(name) => Some(name.clone()),
                KeyFrom::File(_) => None,
            },
            ..self.provider.clone().unwrap_or_else(|| Provider::at(DEFAULT_BASE_URL))
        };
        Table::try_from(provider).ok().map(Value::Table)
    }

    /// The variables that the gateway alone gets: this key's, and those that the settings name for other providers.
    pub fn variables(
        &self,
        deployment: &Deployment,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Vec<(String, String)> {
        let this = match &self.key {
            Some((KeyFrom::Variable(name), key)) => Some((name.clone(), key.clone())),
            _ => None,
        };
        let others = deployment.settings.broker.0.iter().filter(|(name, _)| *name != "anthropic");
        let named = others.filter_map(|(_, provider)| provider.api_key_env.clone());
        this.into_iter().chain(named.filter_map(|name| Some((name.clone(), variable(&name)?)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use settings::Home;

    use super::*;

    fn at(home: &std::path::Path, config: &str) -> Deployment {
        std::fs::create_dir_all(home.join("secrets")).unwrap();
        let file = home.join("rekindle.toml");
        std::fs::write(&file, config).unwrap();
        Deployment::find(Home::at(home), Some(&file)).unwrap()
    }

    #[test]
    fn the_environment_then_the_settings_then_the_usual_file() {
        let home = tempfile::tempdir().unwrap();
        let usual = home.path().join("secrets/anthropic_api_key");
        let nothing = ModelKey::find(&at(home.path(), ""), |_| None);
        assert_eq!((nothing.key.clone(), nothing.section()), (None, None));
        assert_eq!(nothing.base_url, DEFAULT_BASE_URL);

        let mut d = at(home.path(), "");
        std::fs::write(&usual, " from-usual\n").unwrap();
        let found = ModelKey::find(&d, |_| None);
        assert_eq!(found.key, Some((KeyFrom::File(usual), "from-usual".into())));

        let config = "[broker.anthropic]\nbase_url = \"https://proxy.test/\"\napi_key_file = \"k\"\n";
        d = at(home.path(), config);
        assert!(ModelKey::find(&d, |_| None).problems[0].contains("/k"));
        std::fs::write(home.path().join("k"), "from-settings").unwrap();
        let found = ModelKey::find(&d, |_| None);
        assert_eq!(found.key.as_ref().unwrap().1, "from-settings");
        assert_eq!(found.base_url, "https://proxy.test");
        assert_eq!(found.variables(&d, |_| None), []);

        let found = ModelKey::find(&d, |name| (name == KEY_VARIABLE).then(|| "from-env".into()));
        assert_eq!(found.variables(&d, |_| None), [(KEY_VARIABLE.to_owned(), "from-env".to_owned())]);
        // The section that children get replaces the user's and does not hold the key.
        d.insist("broker.anthropic", found.section().unwrap());
        d.settle().unwrap();
        let provider = d.settings.broker.get("anthropic").unwrap().clone();
        assert_eq!((provider.api_key_file, provider.api_key_env.as_deref()), (None, Some(KEY_VARIABLE)));
        assert!(!format!("{found:?}{:?}", d.passed_on()).contains("from-env"));
    }

    #[test]
    fn what_the_settings_say_of_providers_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let config = "[broker.anthropic]\nbase_url = \"https://proxy.test\"\nsilence_sec = 7\nquery = [\"x\"]\n\
                      [broker.openai]\nbase_url = \"https://other.test\"\napi_key_env = \"OTHER_KEY\"\n";
        let mut d = at(home.path(), config);
        let variable = |name: &str| matches!(name, KEY_VARIABLE | "OTHER_KEY").then(|| format!("{name}!"));
        let found = ModelKey::find(&d, variable);
        let given = found.variables(&d, variable).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(given, [KEY_VARIABLE, "OTHER_KEY"]);
        d.insist("broker.anthropic", found.section().unwrap());
        d.settle().unwrap();
        let provider = d.settings.broker.get("anthropic").unwrap();
        assert_eq!((provider.silence_sec, provider.query.as_slice()), (7, &["x".to_owned()][..]));
        assert!(d.settings.broker.get("openai").is_some());
    }
}
