//! The sections of `rekindle.toml` and their defaults.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The whole file.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// HTTP and the worker port.
    pub gateway: Gateway,
    /// Where the ledger is.
    pub redis: Redis,
    /// The runtime service, and how to reach it.
    pub runtime: Runtime,
    /// The reaper.
    pub reaper: Reaper,
    /// How callers prove who they are.
    pub auth: Auth,
    /// Bounds.
    pub limits: Limits,
    /// Model providers behind the broker.
    pub broker: Broker,
    /// Named deployment defaults. `default` always exists.
    pub profiles: BTreeMap<String, Profile>,
}

/// `[gateway]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Gateway {
    /// Where callers reach it: `host:port`. Port 0 takes a free one.
    pub listen: String,
    /// Its URL as the runtime reaches it, for callbacks; default from `listen`.
    pub url: Option<String>,
    /// Where relays reach it: `unix:///path` or `tcp://host:port`.
    pub worker_port: String,
    /// PEM file with the Ed25519 key (PKCS#8) that signs dispatch tokens.
    pub dispatch_key_file: PathBuf,
    /// Seconds that a shutdown waits for open streams.
    pub drain_sec: u64,
}

/// `[redis]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://host:port/db` or `redis+unix:///path`.
    pub url: String,
    /// File that holds its password, if it has one.
    pub password_file: Option<PathBuf>,
    /// Replicas that must have an accepted turn before the caller is answered (Redis' `WAIT`).
    pub wait_replicas: u32,
}

/// What runs workloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeBackend {
    /// A Docker engine.
    Docker,
    /// Child processes, under bubblewrap where it is installed.
    Process,
}

/// `[runtime]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Runtime {
    /// Where it serves `runtime.v1`, and where gateway and reaper find it: `unix:///path` or `http://host:port`.
    pub url: String,
    /// File with the bearer token that its callers show and that it shows with its callbacks.
    pub token_file: PathBuf,
    /// What runs workloads.
    pub backend: RuntimeBackend,
    /// Name that its workloads are labelled with; two runtimes on one engine need two.
    pub deployment: String,
    /// Folder of workspaces, states and generations.
    pub store: PathBuf,
    /// The static worker binary.
    pub worker_binary: PathBuf,
    /// The gateway's worker port as the relay reaches it; default `gateway.worker_port`. Those of several gateways with
    /// spaces between: a relay that cannot reach one takes the next.
    pub worker_port: Option<String>,
    /// The one uid (and gid) of all workers of the deployment. Used when the runtime is root; else its own.
    pub worker_uid: u32,
    /// Seconds between TERM and KILL.
    pub stop_grace_sec: u64,
    /// MiB that must be free where the store lies: below that nothing starts, and the heaviest writers are stopped.
    pub min_free_mb: u64,
    /// Address of the Docker engine (`unix:///…` or `tcp://…`); default as the `docker` command finds it.
    pub docker_host: Option<String>,
    /// The `bwrap` program for process sandboxes; an empty text means none.
    pub bwrap: String,
}

/// `[reaper]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reaper {
    /// Milliseconds between two looks at what is due.
    pub period_ms: u64,
    /// Most workloads that it ends at once.
    pub most_at_once: usize,
    /// Milliseconds between two comparisons of the runtime's workloads with the ledger, whichever reaper makes them.
    pub list_period_ms: u64,
    /// Milliseconds that a workload is left alone that no unit has.
    pub orphan_grace_ms: u64,
    /// Seconds between two looks at what is left in the store, and after which an erasure counts as abandoned.
    pub leftovers_period_sec: u64,
    /// Seconds that what was erased is kept in the trash.
    pub trash_retention_sec: u64,
    /// Where it serves `/healthz`, `/status` and `/metrics`: `host:port`; absent: nowhere.
    pub listen: Option<String>,
}

/// `[auth]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// File with the HS256 secret of callers' JWTs.
    pub jwt_secret_file: PathBuf,
    /// `iss` that tokens must have, if set.
    pub issuer: Option<String>,
    /// `aud` that tokens must have, if set.
    pub audience: Option<String>,
}

/// `[limits]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most bytes of a prompt.
    pub prompt_bytes: usize,
    /// Most bytes of a request body.
    pub body_bytes: usize,
    /// Most turns that wait in one unit.
    pub queued_turns_per_unit: u64,
    /// Most turns that wait in all units of one owner.
    pub queued_turns_per_owner: u64,
    /// Most units of one owner that have a workload at once; others wait in order.
    pub live_per_owner: u64,
    /// Most units that have a workload at once, of all owners.
    pub live_total: u64,
    /// Most starts that are worked on at once, of all gateways.
    pub pending_starts: u64,
    /// Seconds that a delivered turn may take longer than its timeout before its worker is ended.
    pub turn_margin_sec: u64,
    /// Seconds that a settled turn and an idempotency key are kept.
    pub turn_ttl_sec: u64,
    /// Seconds that a JSON invoke waits when the caller does not say (`Prefer: wait=N`).
    pub default_wait_sec: u64,
    /// Bytes that one event of a worker may have.
    pub event_bytes: usize,
    /// Entries of an out-stream that are kept.
    pub out_entries: u64,
    /// Bytes of an out-stream that are kept.
    pub out_bytes: u64,
}

/// `[broker]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Broker {
    /// The Messages API.
    pub anthropic: Option<Provider>,
}

/// `[broker.<provider>]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Provider {
    /// Where its API is, without `/v1`.
    pub base_url: String,
    /// File with the API key.
    pub api_key_file: Option<PathBuf>,
    /// Environment variable (of the gateway) with the API key, when there is no file.
    pub api_key_env: Option<String>,
}

/// What a profile demands of its sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Whatever the backend has.
    #[default]
    Any,
    /// A container or bubblewrap; without one, starts are refused.
    Required,
}

/// `[profiles.<name>]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Profile {
    /// Container image.
    pub image: String,
    /// Runner where the caller names none.
    pub runner: String,
    /// The program of the `exec` runner.
    pub runner_command: Vec<String>,
    /// Model where the caller names none.
    pub model: Option<String>,
    /// Tools where the caller names none; empty: all that the runner has.
    pub tools: Vec<String>,
    /// A worker of somebody else's: what the static binary runs in its own place.
    pub command: Vec<String>,
    /// More environment for the workload; `${…}` names are replaced.
    pub env: BTreeMap<String, String>,
    /// Puts the dispatch token into `${token}`. Weaker: the agent can read it.
    pub token_in_env: bool,
    /// What it demands of its sandbox.
    pub isolation: Isolation,
    /// Folders of the host that process sandboxes may read besides the system's, such as where an agent CLI is installed.
    pub process_paths: Vec<PathBuf>,
    /// Processors.
    pub cpu: Option<f64>,
    /// Memory in MiB.
    pub memory_mb: Option<u64>,
    /// Most processes.
    pub pids: u64,
    /// MiB that one writable workspace may hold; a workload that fills it further is stopped. Absent: no limit.
    pub workspace_max_mb: Option<u64>,
    /// Seconds that a unit may idle before its worker is reaped.
    pub idle_timeout_sec: u64,
    /// Seconds that a start may take.
    pub start_timeout_sec: u64,
    /// Seconds that a turn may take from its delivery.
    pub turn_timeout_sec: u64,
    /// Seconds that a workload may live.
    pub max_lifetime_sec: u64,
    /// Deliveries to generations that were lost with it, before a turn is dead.
    pub max_attempts: u32,
    /// Starts that may fail before the head turn is settled `start_failed`.
    pub max_starts: u32,
}

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7600".into(),
            url: None,
            worker_port: "tcp://127.0.0.1:7601".into(),
            dispatch_key_file: "secrets/dispatch_ed25519.pem".into(),
            drain_sec: 10,
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self { url: "redis://127.0.0.1:6379/0".into(), password_file: None, wait_replicas: 0 }
    }
}

impl Default for Runtime {
    fn default() -> Self {
        Self {
            url: "unix:///run/rekindle/runtime.sock".into(),
            token_file: "secrets/runtime_token".into(),
            backend: RuntimeBackend::Docker,
            deployment: "default".into(),
            store: "store".into(),
            worker_binary: "rekindle-worker-static".into(),
            worker_port: None,
            worker_uid: 10_001,
            stop_grace_sec: 10,
            min_free_mb: 512,
            docker_host: None,
            bwrap: "bwrap".into(),
        }
    }
}

impl Default for Reaper {
    fn default() -> Self {
        Self {
            period_ms: 250,
            most_at_once: 10,
            list_period_ms: 5_000,
            orphan_grace_ms: 2_000,
            leftovers_period_sec: 60,
            trash_retention_sec: 86_400,
            listen: None,
        }
    }
}

impl Default for Auth {
    fn default() -> Self {
        Self { jwt_secret_file: "secrets/jwt_hs256".into(), issuer: None, audience: None }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            prompt_bytes: 1 << 20,
            body_bytes: 4 << 20,
            queued_turns_per_unit: 100,
            queued_turns_per_owner: 1_000,
            live_per_owner: 100,
            live_total: 500,
            pending_starts: 32,
            turn_margin_sec: 60,
            turn_ttl_sec: 7 * 86_400,
            default_wait_sec: 300,
            event_bytes: 512 << 10,
            out_entries: 10_000,
            out_bytes: 16 << 20,
        }
    }
}

impl Default for Profile {
    fn default() -> Self {
        Self {
            image: "rekindle/agent:latest".into(),
            runner: "claude-code".into(),
            runner_command: Vec::new(),
            model: None,
            tools: Vec::new(),
            command: Vec::new(),
            env: BTreeMap::new(),
            token_in_env: false,
            isolation: Isolation::Any,
            process_paths: Vec::new(),
            cpu: None,
            memory_mb: None,
            pids: 512,
            workspace_max_mb: None,
            idle_timeout_sec: 600,
            start_timeout_sec: 60,
            turn_timeout_sec: 1800,
            max_lifetime_sec: 86_400,
            max_attempts: 3,
            max_starts: 3,
        }
    }
}

impl Settings {
    /// The profile of this name; `default` is there even where the file has none.
    pub fn profile(&self, name: &str) -> Option<Profile> {
        match self.profiles.get(name) {
            Some(profile) => Some(profile.clone()),
            None => (name == "default").then(Profile::default),
        }
    }

    /// Relative paths of files become those below `base`, the folder of the settings file.
    pub(crate) fn anchor(&mut self, base: &std::path::Path) {
        let files = [
            &mut self.gateway.dispatch_key_file,
            &mut self.runtime.token_file,
            &mut self.runtime.store,
            &mut self.auth.jwt_secret_file,
        ];
        for path in files {
            *path = base.join(&*path);
        }
        if self.runtime.worker_binary.components().count() > 1 {
            self.runtime.worker_binary = base.join(&self.runtime.worker_binary);
        }
        let optional =
            [self.redis.password_file.as_mut(), self.broker.anthropic.as_mut().and_then(|p| p.api_key_file.as_mut())];
        for path in optional.into_iter().flatten() {
            *path = base.join(&*path);
        }
    }
}
