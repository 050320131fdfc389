//! What a test wants of its deployment, and the settings file that says so.

use std::fmt::Write as _;
use std::path::Path;

use crate::paths;
use crate::redis::Redis;

/// What runs the workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Backend {
    /// Child processes, under bubblewrap.
    Process,
    /// The local Docker engine.
    Docker,
}

impl Backend {
    /// As the settings call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Docker => "docker",
        }
    }
}

/// What a test wants of its deployment.
#[derive(Debug, Clone)]
pub struct Options {
    /// What runs the workloads.
    pub backend: Backend,
    /// The model endpoint behind the broker.
    pub model: Option<String>,
    /// The worker program, by its name among the programs; none is the static one.
    pub worker: Option<&'static str>,
    /// Tables of the settings file that replace the harness' own of the same name, as TOML: `[profiles.default]`, `[limits]` …
    pub settings: String,
}

impl Options {
    /// A deployment whose default profile runs the `echo` runner and idles out after a minute.
    pub fn new(backend: Backend) -> Self {
        Self { backend, model: None, worker: None, settings: String::new() }
    }

    /// With a model endpoint.
    #[must_use]
    pub fn model(mut self, base_url: impl Into<String>) -> Self {
        self.model = Some(base_url.into());
        self
    }

    /// With another worker program.
    #[must_use]
    pub fn worker(mut self, program: &'static str) -> Self {
        self.worker = Some(program);
        self
    }

    /// With more settings.
    #[must_use]
    pub fn settings(mut self, toml: &str) -> Self {
        self.settings.push_str(toml);
        self.settings.push('\n');
        self
    }
}

pub(crate) fn settings(options: &Options, home: &Path, redis: &Redis, address: &str, deployment: &str) -> String {
    let home = home.display();
    let tables = [
        (
            "[gateway]",
            format!(
                "listen = \"{address}\"\nworker_port = \"unix://{home}/run/worker.sock\"\ndispatch_key_file = \"secrets/dispatch_ed25519.pem\"\ndrain_sec = 1\n"
            ),
        ),
        ("[redis]", format!("url = \"{}\"\n", redis.url())),
        (
            "[runtime]",
            format!(
                "url = \"unix://{home}/run/runtime.sock\"\ntoken_file = \"secrets/runtime_token\"\nbackend = \"{}\"\ndeployment = \"{deployment}\"\nstore = \"store\"\nworker_binary = \"{}\"\nstop_grace_sec = 3\n",
                options.backend.name(),
                options.worker.map_or_else(paths::static_worker, paths::program).display(),
            ),
        ),
        ("[reaper]", "period_ms = 100\n".into()),
        // Journeys look again and again; the bounds have journeys of their own.
        ("[limits]", "requests_per_sec = 10000\nrequest_burst = 20000\nbulk_kib_per_sec = 0\n".into()),
        ("[auth]", "jwt_secret_file = \"secrets/jwt_hs256\"\n".into()),
        (
            "[profiles.default]",
            "image = \"rekindle/test-base:latest\"\nrunner = \"echo\"\nidle_timeout_sec = 60\n".into(),
        ),
    ];
    let mut text = String::new();
    for (name, body) in tables {
        if !options.settings.lines().any(|line| line.trim() == name) {
            let _ = writeln!(text, "{name}\n{body}");
        }
    }
    if let Some(url) = &options.model {
        let _ =
            writeln!(text, "[broker.anthropic]\nbase_url = \"{url}\"\napi_key_file = \"secrets/anthropic_api_key\"\n");
    }
    text + &options.settings
}
