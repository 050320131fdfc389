//! Where the gateway is and who we are to it: options, environment, then what `up` wrote down.

use clap::Args;
use serde::{Deserialize, Serialize};
use settings::Home;

use crate::failure::Failure;

/// Options that every command has.
#[derive(Debug, Clone, Default, Args)]
pub struct Target {
    /// The gateway's URL [default: as the last `rekindle up` wrote it down]
    #[arg(long, global = true, env = "REKINDLE_URL", value_name = "URL")]
    pub url: Option<String>,
    /// Bearer token [default: as the last `rekindle up` wrote it down]
    #[arg(long, global = true, env = "REKINDLE_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    pub token: Option<String>,
    /// Folder of a single machine's deployment [default: ~/.rekindle]
    #[arg(long, global = true, env = "REKINDLE_HOME", value_name = "FOLDER")]
    pub home: Option<std::path::PathBuf>,
}

/// `run/client.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientFile {
    /// Where the gateway answers.
    pub url: String,
    /// A bearer token for it.
    pub token: String,
}

/// A gateway and the credential for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reach {
    /// Without a slash at its end.
    pub url: String,
    /// Bearer token, if any.
    pub token: Option<String>,
}

impl Target {
    /// The deployment's folder.
    pub fn home(&self) -> Home {
        match &self.home {
            Some(path) => Home::at(std::path::absolute(path).unwrap_or_else(|_| path.clone())),
            None => Home::find(),
        }
    }

    /// The gateway to call.
    ///
    /// # Errors
    /// [`Failure::Unreachable`] when nothing says where it is.
    pub fn reach(&self) -> Result<Reach, Failure> {
        let file = self.home().client_file();
        let written = || -> Result<ClientFile, Failure> {
            let text = std::fs::read_to_string(&file).map_err(|e| {
                Failure::Unreachable(format!(
                    "no gateway is known: {} cannot be read ({e}); run `rekindle up`, or give --url and --token",
                    file.display()
                ))
            })?;
            serde_json::from_str(&text).map_err(|e| {
                Failure::Unreachable(format!("{} is damaged: {e}; run `rekindle up` again", file.display()))
            })
        };
        let (url, token) = match (&self.url, &self.token) {
            (Some(url), Some(token)) => (url.clone(), Some(token.clone())),
            // The token that lies there is for the gateway that lies there: it goes to no other.
            (Some(url), None) => {
                let known = written().ok().filter(|w| same(&w.url, url));
                (url.clone(), known.map(|w| w.token))
            }
            (None, given) => {
                let written = written()?;
                (written.url, Some(given.clone().unwrap_or(written.token)))
            }
        };
        if !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Failure::Refused(format!(
                "`{url}` is no URL of a gateway; it begins with http:// or https://"
            )));
        }
        Ok(Reach { url: url.trim_end_matches('/').into(), token })
    }
}

fn same(a: &str, b: &str) -> bool {
    a.trim_end_matches('/') == b.trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(home: &std::path::Path, url: Option<&str>, token: Option<&str>) -> Target {
        Target { url: url.map(Into::into), token: token.map(Into::into), home: Some(home.into()) }
    }

    #[test]
    fn options_win_over_what_up_wrote() {
        let home = tempfile::tempdir().unwrap();
        let nothing = target(home.path(), None, None).reach().unwrap_err();
        assert_eq!(nothing.status(), 3);
        std::fs::create_dir(home.path().join("run")).unwrap();
        let file = ClientFile { url: "http://127.0.0.1:1".into(), token: "t".into() };
        std::fs::write(home.path().join("run/client.json"), serde_json::to_vec(&file).unwrap()).unwrap();
        let reach = |url, token| target(home.path(), url, token).reach().unwrap();
        assert_eq!(reach(None, None).token.as_deref(), Some("t"));
        assert_eq!(reach(None, Some("x")).token.as_deref(), Some("x"));
        assert_eq!(reach(Some("http://127.0.0.1:1/"), None).token.as_deref(), Some("t"));
        // Somebody else's gateway does not get the local token.
        assert_eq!(reach(Some("http://example.test"), None).token, None);
        assert_eq!(target(home.path(), Some("ftp://x"), None).reach().unwrap_err().status(), 2);
    }
}
