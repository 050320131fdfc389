//! The environment of a runner: cleared, then rebuilt from a short list, so that nothing gets in by being forgotten.

use super::Context;

/// What is passed on from the worker's own environment, which the image and the profile made.
const PASSED: &[&str] = &[
    "PATH",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TERM",
    "TZ",
    "TMPDIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "NODE_EXTRA_CA_CERTS",
    // Where package managers look for packages, for profiles whose `egress` names other places than theirs.
    "npm_config_registry",
    "PIP_INDEX_URL",
    "PIP_EXTRA_INDEX_URL",
    "PIP_TRUSTED_HOST",
    "GOPROXY",
    "GOSUMDB",
];

/// The ways in which programs ask for their proxy: curl and Python want the small letters, Go and Node the capitals.
const PROXY: &[&str] = &["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"];
const NO_PROXY: &[&str] = &["NO_PROXY", "no_proxy"];
/// What is reached without it: what runs in the sandbox itself, the port to the model among it. No `::1`: there are clients that
/// take that for a host and a port, and fail.
const LOOPBACK: &str = "127.0.0.1,localhost";

const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What every runner gets; later entries win over earlier ones. The key is a dummy: the broker puts the real one in.
pub(super) fn build(ctx: &Context<'_>, own: &dyn Fn(&str) -> Option<String>) -> Vec<(String, String)> {
    let gateway = format!("http://127.0.0.1:{}", ctx.gateway_port);
    let mut env = vec![("PATH".to_owned(), DEFAULT_PATH.to_owned()), ("LANG".to_owned(), "C.UTF-8".to_owned())];
    env.extend(PASSED.iter().filter_map(|name| Some(((*name).to_owned(), own(name)?))));
    let mut set = |name: &str, value: String| env.push((name.to_owned(), value));
    set("HOME", ctx.home.display().to_string());
    set("ANTHROPIC_BASE_URL", format!("{gateway}/broker/anthropic"));
    set("ANTHROPIC_API_KEY", "rekindle".into());
    set("OPENAI_BASE_URL", format!("{gateway}/broker/openai/v1"));
    set("OPENAI_API_KEY", "rekindle".into());
    // Also where the profile lets nothing out: the gateway's refusal says what would, a name that cannot be found does not.
    for name in PROXY {
        set(name, gateway.clone());
    }
    for name in NO_PROXY {
        set(name, LOOPBACK.into());
    }
    // Node's own fetch asks for none of these unless it is told to (from version 24 on).
    set("NODE_USE_ENV_PROXY", "1".into());
    env.extend(ctx.config.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    env
}

/// The last value of a name.
pub(super) fn get<'a>(env: &'a [(String, String)], name: &str) -> Option<&'a str> {
    env.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
}

/// The worker's own environment.
pub(super) fn own(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
