//! The sections of `rekindle.toml` and their defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::auth::Auth;
use crate::broker::Broker;
use crate::budgets::{Budgets, Price, Usage};
use crate::edge::Edge;
use crate::egress::{Egress, EgressRule};
use crate::limits::Limits;
use crate::profile::Profile;
use crate::runtime::Runtime;

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
    /// Bounds of connections.
    pub edge: Edge,
    /// Model providers behind the broker.
    pub broker: Broker,
    /// What may be used of models.
    pub budgets: Budgets,
    /// What models cost.
    pub prices: BTreeMap<String, Price>,
    /// What is remembered of their use.
    pub usage: Usage,
    /// Bounds of what sandboxes have open to the outside.
    pub egress: Egress,
    /// Hosts of `preset:<name>`, in the place of what the package manager of that name is configured with on the gateway's
    /// machine.
    pub egress_presets: BTreeMap<String, Vec<EgressRule>>,
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
    /// More keys whose dispatch tokens are good, private or public, while keys are changed: first the new one is named here by
    /// every gateway, then it signs and the old one is named here, until the last worker that it signed for has ended.
    pub dispatch_other_key_files: Vec<PathBuf>,
    /// Seconds that a shutdown waits for open streams.
    pub drain_sec: u64,
    /// Addresses that are not public and may be reached all the same by sandboxes whose profile names them: `ip:port`.
    pub egress_allow_private: Vec<SocketAddr>,
}

/// `[redis]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://host:port/db` or `redis+unix:///path`.
    pub url: String,
    /// File that holds its password, if it has one.
    pub password_file: Option<PathBuf>,
    /// Replicas that must have an accepted turn before the caller is answered (Redis' `WAIT`). While so many do not follow,
    /// callers get 503; the turn may have been accepted all the same, and the same idempotency key finds it.
    pub wait_replicas: u32,
    /// MiB of disk that `rekindle up` keeps for its private Redis and hands out to it when the disk is full; 0: none.
    pub reserve_mb: u64,
    /// MiB of memory from which on the private Redis of `rekindle up` takes nothing new: calls are refused (503), what was
    /// accepted goes on. Absent: a quarter of what this machine, or this process' control group, has.
    pub max_memory_mb: Option<u64>,
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

impl Default for Gateway {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:7600".into(),
            url: None,
            worker_port: "tcp://127.0.0.1:7601".into(),
            dispatch_key_file: "secrets/dispatch_ed25519.pem".into(),
            dispatch_other_key_files: Vec::new(),
            drain_sec: 10,
            egress_allow_private: Vec::new(),
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Self {
            url: "redis://127.0.0.1:6379/0".into(),
            password_file: None,
            wait_replicas: 0,
            reserve_mb: 64,
            max_memory_mb: None,
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
        let files = [&mut self.gateway.dispatch_key_file, &mut self.runtime.token_file, &mut self.runtime.store];
        // An empty one is none, not the folder itself.
        let secret = Some(&mut self.auth.jwt_secret_file).filter(|path| !path.as_os_str().is_empty());
        let keys = self.auth.keys.iter_mut().map(|key| &mut key.file);
        let dispatch =
            self.runtime.dispatch_public_key_files.iter_mut().chain(&mut self.gateway.dispatch_other_key_files);
        for path in files.into_iter().chain(secret).chain(keys).chain(dispatch) {
            *path = base.join(&*path);
        }
        if self.runtime.worker_binary.components().count() > 1 {
            self.runtime.worker_binary = base.join(&self.runtime.worker_binary);
        }
        let model_keys = self.broker.0.values_mut().filter_map(|provider| provider.api_key_file.as_mut());
        for path in self.redis.password_file.as_mut().into_iter().chain(model_keys) {
            *path = base.join(&*path);
        }
    }
}
