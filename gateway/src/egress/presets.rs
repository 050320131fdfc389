//! Presets: the hosts that a package manager of the gateway's own machine is configured with.
//!
//! No host is written here. Each tool is asked in its own words, or its own files are read, when a preset is first needed; what
//! `[egress_presets]` says stands in its place.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use settings::EgressRule;
use tokio::io::AsyncReadExt;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::cargo;

/// Time for a tool to answer.
const ANSWER_TIME: Duration = Duration::from_secs(20);
/// Bytes of an answer.
const ANSWER_BYTES: u64 = 1 << 20;
/// After a failure the tool is not asked again for so long.
const FAILURE_TIME: Duration = Duration::from_secs(30);

/// A package manager that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tool {
    Npm,
    Pip,
    Cargo,
    Go,
    Apt,
}

impl Tool {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "npm" => Self::Npm,
            "pip" => Self::Pip,
            "cargo" => Self::Cargo,
            "go" => Self::Go,
            "apt" => Self::Apt,
            _ => return None,
        })
    }

    /// What of the gateway's environment it is given besides `HOME` and `PATH`: its own variables.
    fn has_variable(self, name: &str) -> bool {
        let lower = name.to_ascii_lowercase();
        match self {
            Self::Npm => lower.starts_with("npm_config_"),
            Self::Pip => name.starts_with("PIP_") || name.starts_with("XDG_CONFIG_"),
            Self::Cargo => name.starts_with("CARGO_"),
            Self::Go => name.starts_with("GO") || name.starts_with("XDG_CONFIG_"),
            Self::Apt => name == "APT_CONFIG",
        }
    }
}

/// What a preset stands for, or why it stands for nothing.
type Answer = Result<Arc<[EgressRule]>, String>;

/// All presets that profiles name.
#[derive(Debug)]
pub(super) struct Presets {
    named: BTreeMap<String, Preset>,
    environment: Vec<(OsString, OsString)>,
}

#[derive(Debug)]
enum Preset {
    Written(Arc<[EgressRule]>),
    Asked(Tool, Mutex<Option<(Instant, Answer)>>),
}

impl Presets {
    /// With the names that profiles use; the name of one that is neither written down nor a known tool's is the error.
    pub(super) fn new(
        names: impl IntoIterator<Item = String>,
        written: &BTreeMap<String, Vec<EgressRule>>,
    ) -> Result<Self, String> {
        let mut named = BTreeMap::new();
        for name in names {
            let preset = match (written.get(&name), Tool::named(&name)) {
                (Some(rules), _) => Preset::Written(rules.as_slice().into()),
                (None, Some(tool)) => Preset::Asked(tool, Mutex::default()),
                (None, None) => return Err(name),
            };
            named.insert(name, preset);
        }
        Ok(Self { named, environment: std::env::vars_os().collect() })
    }

    /// As on a machine where nothing is configured.
    #[cfg(test)]
    pub(super) fn forget_environment(&mut self) {
        self.environment.clear();
    }

    /// What a preset stands for. A tool is asked once; after a failure again, but not at once.
    pub(super) async fn rules(&self, name: &str) -> Answer {
        match self.named.get(name) {
            None => Err("no such preset".into()),
            Some(Preset::Written(rules)) => Ok(rules.clone()),
            Some(Preset::Asked(tool, known)) => {
                // Who comes meanwhile waits for the same answer.
                let mut known = known.lock().await;
                match &*known {
                    Some((_, Ok(rules))) => return Ok(rules.clone()),
                    Some((asked, Err(why))) if asked.elapsed() < FAILURE_TIME => return Err(why.clone()),
                    _ => {}
                }
                let answer = self.ask(*tool).await;
                match &answer {
                    Ok(rules) => {
                        let rules: Vec<_> = rules.iter().map(ToString::to_string).collect();
                        tracing::info!(preset = name, ?rules, "a preset's hosts are known");
                    }
                    Err(why) => {
                        tracing::warn!(preset = name, why, "a preset gives no host; set egress_presets.{name} instead");
                    }
                }
                *known = Some((Instant::now(), answer.clone()));
                answer
            }
        }
    }

    async fn ask(&self, tool: Tool) -> Answer {
        let urls = match tool {
            Tool::Npm => npm(&self.run(tool, "npm", &["config", "list", "--json"]).await?)?,
            Tool::Pip => {
                let configured = pip(&self.run(tool, "python3", &["-m", "pip", "config", "list"]).await?);
                match configured.replaced {
                    true => configured.urls,
                    // Where no index is configured pip has one of its own, and a second host that has the files.
                    false => [configured.urls, words(&self.run(tool, "python3", &["-c", PIP_DEFAULT]).await?)].concat(),
                }
            }
            Tool::Go => words(&self.run(tool, "go", &["env", "GOPROXY", "GOSUMDB"]).await?),
            Tool::Apt => words(&self.run(tool, "apt-get", &["indextargets", "--format", "$(SITE)"]).await?),
            Tool::Cargo => {
                let home = self.cargo_home().ok_or("neither CARGO_HOME nor HOME is set")?;
                let read = tokio::task::spawn_blocking(move || cargo::registries(&home));
                read.await.map_err(|e| format!("cargo's files cannot be read: {e}"))?
            }
        };
        let mut rules: Vec<_> = urls.iter().filter_map(|url| rule(url)).collect();
        rules.sort_by_key(ToString::to_string);
        rules.dedup();
        if rules.is_empty() { Err("the tool names no host".into()) } else { Ok(rules.into()) }
    }

    fn cargo_home(&self) -> Option<PathBuf> {
        let get = |name: &str| self.environment.iter().find(|(n, _)| n == name).map(|(_, value)| PathBuf::from(value));
        get("CARGO_HOME").or_else(|| Some(get("HOME")?.join(".cargo")))
    }

    /// What a tool prints, run outside of any project.
    async fn run(&self, tool: Tool, program: &str, arguments: &[&str]) -> Result<String, String> {
        let passed = |name: &OsString| {
            name.to_str().is_some_and(|name| matches!(name, "HOME" | "PATH") || tool.has_variable(name))
        };
        let mut command = tokio::process::Command::new(program);
        command.args(arguments).current_dir("/").env_clear();
        command.envs(self.environment.iter().filter(|(name, _)| passed(name)).map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
        let asked = async {
            let mut child = command.spawn()?;
            let mut text = String::new();
            if let Some(stdout) = child.stdout.take() {
                stdout.take(ANSWER_BYTES).read_to_string(&mut text).await?;
            }
            Ok::<_, std::io::Error>((child.wait().await?, text))
        };
        let shown = format!("`{program} {}`", arguments.first().copied().unwrap_or_default());
        match timeout(ANSWER_TIME, asked).await {
            Ok(Ok((status, text))) if status.success() => Ok(text),
            Ok(Ok((status, _))) => Err(format!("{shown} ended with {status}")),
            Ok(Err(error)) => Err(format!("{shown} cannot be run: {error}")),
            Err(_) => Err(format!("{shown} does not answer")),
        }
    }
}

/// pip's own default index and the host of its files, as pip has them.
const PIP_DEFAULT: &str =
    "from pip._internal.models.index import PyPI as p; print(p.simple_url, 'https://' + p.file_storage_domain)";

/// `npm config list --json`: the registry, and those of scopes.
fn npm(json: &str) -> Result<Vec<String>, String> {
    let config: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(json).map_err(|e| format!("npm's configuration cannot be read: {e}"))?;
    let registry = |name: &str| name == "registry" || name.starts_with('@') && name.ends_with(":registry");
    Ok(config.iter().filter(|(name, _)| registry(name)).filter_map(|(_, url)| Some(url.as_str()?.into())).collect())
}

#[derive(Debug, PartialEq, Eq)]
struct PipConfig {
    urls: Vec<String>,
    /// An index is configured, so that pip does not use its default.
    replaced: bool,
}

/// `pip config list`: one `section.key='value'` a line, several URLs with `\n` between.
fn pip(list: &str) -> PipConfig {
    let mut config = PipConfig { urls: Vec::new(), replaced: false };
    for line in list.lines() {
        let Some((key, value)) = line.split_once('=') else { continue };
        let key = key.rsplit('.').next().unwrap_or_default();
        if !["index-url", "extra-index-url", "find-links"].contains(&key) {
            continue;
        }
        config.replaced |= key == "index-url";
        let value = value.trim_matches(['\'', '"']).replace("\\n", " ");
        config.urls.extend(words(&value));
    }
    config
}

/// What stands between spaces, commas and bars; what is no URL and no host is left out later.
fn words(text: &str) -> Vec<String> {
    text.split([',', '|']).flat_map(str::split_whitespace).map(Into::into).collect()
}

/// The rule that allows a URL's host; also of a bare name with a dot, as checksum databases have. Words such as `off` are none.
pub(super) fn rule(url: &str) -> Option<EgressRule> {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (scheme.strip_prefix("sparse+").unwrap_or(scheme), rest),
        None => ("https", url),
    };
    if !matches!(scheme, "http" | "https") {
        return None;
    }
    let authority = rest.split(['/', '?', '#', '+']).next()?;
    let host = authority.rsplit('@').next()?;
    let bare = url == rest;
    if bare && !host.contains('.') {
        return None;
    }
    // A preset stands for single hosts: a `*` in a configuration is not ours to follow.
    match format!("{scheme}://{host}").parse().ok()? {
        rule @ EgressRule::Host(_) => Some(rule),
        EgressRule::Below(..) | EgressRule::Preset(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(urls: &[String]) -> Vec<String> {
        urls.iter().filter_map(|url| rule(url)).map(|rule| rule.to_string()).collect()
    }

    #[test]
    fn answers_of_the_tools_become_rules() {
        let json = r#"{"registry":"http://127.0.0.2:4873/","@a:registry":"https://u:p@npm.a.example/x/","cache":"/x",
            "replace-registry-host":"npmjs","omit-lockfile-registry-resolved":false}"#;
        assert_eq!(rules(&npm(json).unwrap()), ["npm.a.example", "127.0.0.2:4873"]);
        assert!(npm("npm error").is_err());

        let config = pip(":env:.find-links='https://f.example/x /opt/wheels'\nglobal.cert='/etc/ssl'\n\
             global.extra-index-url='https://a.example/s\\nhttps://b.example:8443/s'\ninstall.no-index='x'");
        assert!(!config.replaced);
        assert_eq!(rules(&config.urls), ["f.example", "a.example", "b.example:8443"]);
        assert!(pip("global.index-url='http://pip.example/simple'").replaced);

        let go = words("https://proxy.example,https://other.example|direct\nsum.example+hash https://sums.example/x\n");
        assert_eq!(rules(&go), ["proxy.example", "other.example", "sum.example", "sums.example"]);
        assert_eq!(rules(&words("off\ndirect,off\n")), [""; 0]);
        let apt = words("http://deb.example/debian\nhttps://sec.example\nfile:/srv/mirror\ncdrom:[x]\n");
        assert_eq!(rules(&apt), ["deb.example:80", "sec.example"]);
        let odd = ["git+ssh://g.example/x", "file:///srv/mirror", "https://*.example", "/srv/wheels", "./a.b/c"];
        assert_eq!(rules(&odd.map(String::from)), [""; 0]);
    }

    #[tokio::test]
    async fn what_is_written_stands_in_the_place_of_the_tool_and_unknown_names_are_errors() {
        let written = BTreeMap::from([("npm".to_owned(), vec!["npm.example".parse().unwrap()])]);
        let presets = Presets::new(["npm".to_owned()], &written).unwrap();
        assert_eq!(presets.rules("npm").await.unwrap()[0].to_string(), "npm.example");
        assert_eq!(Presets::new(["nmp".to_owned()], &written).unwrap_err(), "nmp");
    }

    #[tokio::test]
    async fn a_tool_is_asked_with_its_own_variables_only_and_once() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let npm = folder.path().join("npm");
        let script = "#!/bin/sh\necho asked >> \"$HOME/asked\"\nenv > \"$HOME/env\"\necho '{\"registry\":\"https://npm.example\"}'\n";
        std::fs::write(&npm, script).unwrap();
        std::fs::set_permissions(&npm, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut presets = Presets::new(["npm".to_owned(), "go".to_owned()], &BTreeMap::new()).unwrap();
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        let variables = [
            ("HOME", folder.path().to_str().unwrap()),
            ("PATH", path.as_str()),
            ("npm_config_registry", "x"),
            ("ANTHROPIC_API_KEY", "secret"),
        ];
        presets.environment = variables.map(|(name, value)| (name.into(), value.into())).to_vec();
        for _ in 0..2 {
            assert_eq!(presets.rules("npm").await.unwrap()[0].to_string(), "npm.example");
        }
        assert_eq!(std::fs::read_to_string(folder.path().join("asked")).unwrap(), "asked\n");
        let env = std::fs::read_to_string(folder.path().join("env")).unwrap();
        assert!(env.contains("npm_config_registry=x") && !env.contains("secret"), "{env}");
        presets.environment[1].1 = "/nonexistent".into();
        assert!(presets.rules("go").await.unwrap_err().contains("cannot be run"));
    }
}
