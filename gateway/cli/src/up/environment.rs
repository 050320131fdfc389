//! Environments of the supervisor's children: cleared, then what is on the list and their settings.

use std::collections::BTreeMap;

/// What a child may inherit. Keys of models are not among it.
const INHERITED: [&str; 16] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "TMPDIR",
    "RUST_LOG",
    "RUST_BACKTRACE",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "DOCKER_HOST",
    "REKINDLE_HOME",
];

/// Variables of one process.
pub type Environment = BTreeMap<String, String>;

/// What every child gets: `own` by the list, and over it the settings.
pub fn common(own: impl Iterator<Item = (String, String)>, settings: &[(String, String)]) -> Environment {
    // Proxies are commonly written in small letters too.
    let inherited = |name: &str| {
        INHERITED.contains(&name)
            || name.strip_suffix("_proxy").is_some_and(|_| INHERITED.contains(&&*name.to_uppercase()))
    };
    let mut environment: Environment = own.filter(|(name, _)| inherited(name)).collect();
    environment.extend(settings.iter().cloned());
    environment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_on_the_list_is_inherited() {
        let own = [
            ("PATH", "/bin"),
            ("https_proxy", "p"),
            ("ANTHROPIC_API_KEY", "sk"),
            ("AWS_SECRET_ACCESS_KEY", "x"),
            ("REKINDLE_TOKEN", "t"),
            ("REKINDLE_REDIS__URL", "as the user said, told by the settings"),
        ];
        let own = own.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        let settings = [("REKINDLE_GATEWAY__LISTEN".to_owned(), "127.0.0.1:1".to_owned())];
        let environment = common(own, &settings);
        let names: Vec<_> = environment.keys().map(String::as_str).collect();
        assert_eq!(names, ["PATH", "REKINDLE_GATEWAY__LISTEN", "https_proxy"]);
    }
}
