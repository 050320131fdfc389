//! A whole Rekindle for one test: a Redis, the runtime service, the gateway and the reaper as processes of their own.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::Full;
use hyper::Request;
use serde_json::Value;
use tempfile::TempDir;
use ulid::Ulid;

use crate::api::Api;
use crate::http::{self, Answer, Target};
use crate::options::settings;
pub use crate::options::{Backend, Options};
use crate::redis::Redis;
use crate::service::Service;
use crate::{keys, paths};

/// How long a deployment may take to destroy its workloads, hundreds of them on a busy machine.
const CLEANED_WITHIN: Duration = Duration::from_secs(180);

/// The deployment. Dropping it destroys its workloads and ends its processes; when the test failed, it prints their logs.
#[derive(Debug)]
pub struct Stack {
    /// The ledger's server.
    pub redis: Redis,
    /// `rekindle-runtime`
    pub runtime: Service,
    /// `rekindle-gateway`
    pub gateway: Service,
    /// `rekindle-reaper`
    pub reaper: Service,
    /// `host:port` of the gateway.
    pub address: String,
    /// Label of this deployment's workloads.
    pub deployment: String,
    /// What runs its workloads.
    pub backend: Backend,
    secrets: Secrets,
    home: TempDir,
}

/// The deployment's secrets, for tests that look for them where they must not be.
#[derive(Debug, Clone)]
pub struct Secrets {
    /// HS256 secret of callers' tokens.
    pub jwt: String,
    /// Bearer token of the runtime service.
    pub runtime: String,
    /// The model provider's key.
    pub model: String,
    /// The key that signs dispatch tokens.
    pub dispatch_pem: String,
}

impl Stack {
    /// Starts everything and waits until the gateway is ready.
    ///
    /// # Panics
    /// When something is not built or not installed, with the command that does; when it does not get ready, with the logs.
    pub async fn start(options: Options) -> Self {
        let mut stack = Self::prepare(&options).await;
        stack.launch().await;
        stack
    }

    /// Starts what [`Self::prepare`] made ready and waits until the gateway is ready.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn launch(&mut self) {
        self.runtime.start();
        self.gateway.start();
        self.reaper.start();
        self.ready().await;
    }

    /// As [`Self::start`], but only Redis runs yet.
    ///
    /// # Panics
    /// As [`Self::start`].
    pub async fn prepare(options: &Options) -> Self {
        // Below /tmp whatever TMPDIR says: names of Unix sockets are short.
        let home = tempfile::Builder::new().prefix("rk-").tempdir_in("/tmp").expect("a temporary folder");
        let at = |path: &str| home.path().join(path);
        // The workers' uid has to get through to what is mounted for it; secrets and sockets have modes of their own.
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o711)).expect("open the folder");
        for dir in ["run", "logs", "store", "secrets"] {
            std::fs::create_dir(at(dir)).expect("make a folder");
        }
        std::fs::set_permissions(at("secrets"), std::fs::Permissions::from_mode(0o700)).expect("close the secrets");

        let secrets = Secrets {
            jwt: keys::secret(),
            runtime: keys::secret(),
            model: keys::secret(),
            dispatch_pem: keys::ed25519_pem(),
        };
        keys::write_private(&at("secrets/jwt_hs256"), &secrets.jwt);
        keys::write_private(&at("secrets/runtime_token"), &secrets.runtime);
        keys::write_private(&at("secrets/anthropic_api_key"), &secrets.model);
        keys::write_private(&at("secrets/dispatch_ed25519.pem"), &secrets.dispatch_pem);

        let redis = Redis::start(&at("redis")).await;
        let address = format!("127.0.0.1:{}", free_port());
        let deployment = format!("test-{}", Ulid::new().to_string().to_lowercase());
        let settings = settings(options, home.path(), &redis, &address, &deployment);
        std::fs::write(at("rekindle.toml"), settings).expect("write the settings");

        let [runtime, gateway, reaper] =
            ["runtime", "gateway", "reaper"].map(|program| service(home.path(), program, program));
        let backend = options.backend;
        Self { redis, runtime, gateway, reaper, address, deployment, backend, secrets, home }
    }

    /// Waits until the gateway says that it, Redis and the runtime are ready.
    ///
    /// # Panics
    /// When it does not within half a minute.
    pub async fn ready(&self) {
        ready(&self.address).await;
    }

    /// One more gateway of the same deployment, not started yet, and its `host:port`. Its worker port is `run/<name>.sock`.
    pub fn another_gateway(&self, name: &str) -> (Service, String) {
        let address = format!("127.0.0.1:{}", free_port());
        let port = format!("unix://{}", self.worker_port(name).display());
        let service = service(self.home(), "gateway", name)
            .env("REKINDLE_GATEWAY__LISTEN", &address)
            .env("REKINDLE_GATEWAY__WORKER_PORT", &port);
        (service, address)
    }

    /// The worker port of a gateway: of `worker`, the first one, or of one that [`Self::another_gateway`] made.
    pub fn worker_port(&self, name: &str) -> PathBuf {
        self.home().join("run").join(format!("{name}.sock"))
    }

    /// A caller with this `sub`.
    pub fn api(&self, sub: &str) -> Api {
        Api::new(&self.address, keys::caller_token(&self.secrets.jwt, sub))
    }

    /// The deployment's folder.
    pub fn home(&self) -> &Path {
        self.home.path()
    }

    /// The runtime's store.
    pub fn store(&self) -> PathBuf {
        self.home.path().join("store")
    }

    /// A unit's own workspace on the host.
    pub fn workspace(&self, uid: &str) -> PathBuf {
        self.store().join("units").join(uid).join("workspace")
    }

    /// A unit's state on the host.
    pub fn state(&self, uid: &str) -> PathBuf {
        self.store().join("units").join(uid).join("state")
    }

    /// The folder of a workload.
    pub fn generation(&self, workload: &str) -> PathBuf {
        self.store().join("generations").join(workload)
    }

    /// The workloads that have a folder.
    ///
    /// # Panics
    /// When there is no store yet.
    pub fn generations(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.store().join("generations")).expect("the store's generations");
        entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect()
    }

    /// The secrets.
    pub fn secrets(&self) -> &Secrets {
        &self.secrets
    }

    /// The settings file.
    pub fn config(&self) -> PathBuf {
        self.home.path().join("rekindle.toml")
    }

    /// Calls the runtime service as the gateway does.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn runtime_call(&self, method: &str, path: &str) -> anyhow::Result<Answer> {
        runtime_call(&self.home.path().join("run/runtime.sock"), &self.secrets.runtime, method, path).await
    }

    /// The workloads that the runtime has, whatever their state.
    ///
    /// # Panics
    /// When it cannot be reached.
    pub async fn workloads(&self) -> Vec<Value> {
        let answer = self.runtime_call("GET", "/workloads").await.expect("reach the runtime").expect(200);
        list(&answer)
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for service in [&self.gateway, &self.runtime, &self.reaper] {
                eprintln!("──── {} ────\n{}", service.name, service.tail());
            }
        }
        // Workloads outlive all of these on purpose, so they are destroyed by the one who knows how. It may have been
        // killed or stopped by the test.
        if !self.runtime.runs() && self.runtime.log().is_empty() {
            return;
        }
        if self.reaper.runs() {
            self.reaper.kill();
        }
        if self.gateway.runs() {
            self.gateway.kill();
        }
        let restarted = !self.runtime.runs();
        if restarted {
            self.runtime = Service::new(
                "runtime",
                paths::program("rekindle-runtime"),
                vec!["--config".into(), self.config().display().to_string()],
                self.home.path().join("logs/runtime-cleanup.log"),
            );
            self.runtime.start();
        }
        let (socket, token) = (self.home.path().join("run/runtime.sock"), self.secrets.runtime.clone());
        // A thread of its own: the test's executor may be the one that is being torn down.
        let cleaned = std::thread::spawn(move || {
            let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            executor.block_on(async { tokio::time::timeout(CLEANED_WITHIN, destroy_all(&socket, &token)).await? })
        });
        match cleaned.join() {
            // It removes what a deployment has of the host, its control groups, when it is told to end.
            Ok(Ok(())) => self.runtime.end(),
            Ok(Err(e)) => eprintln!("workloads of {} may be left: {e:#}", self.deployment),
            Err(_) => eprintln!("workloads of {} may be left", self.deployment),
        }
    }
}

/// Waits until the gateway at `host:port` says that it, Redis and the runtime are ready.
///
/// # Panics
/// When it does not within half a minute.
pub async fn ready(address: &str) {
    let api = Api::new(address, "");
    crate::eventually("the gateway is ready", Duration::from_secs(30), || async {
        let answer = api.send(hyper::Method::GET, "/readyz", &[], Bytes::new()).await.ok()?;
        answer.status.is_success().then_some(())
    })
    .await;
}

fn service(home: &Path, program: &str, name: &str) -> Service {
    let arguments = vec!["--config".to_owned(), home.join("rekindle.toml").display().to_string()];
    let log = home.join("logs").join(format!("{name}.log"));
    Service::new(name, paths::program(&format!("rekindle-{program}")), arguments, log)
        .env("HOME", "/nonexistent")
        .env("REKINDLE_HOME", &home.display().to_string())
}

async fn destroy_all(socket: &Path, token: &str) -> anyhow::Result<()> {
    crate::eventually("the runtime answers", Duration::from_secs(10), || async {
        runtime_call(socket, token, "GET", "/workloads").await.ok().filter(|a| a.status.is_success()).map(drop)
    })
    .await;
    loop {
        let workloads = list(&runtime_call(socket, token, "GET", "/workloads").await?);
        let left: Vec<_> = workloads.iter().filter(|w| w["state"] != "destroyed").collect();
        if left.is_empty() {
            return Ok(());
        }
        futures_util::stream::iter(left)
            .map(|workload| {
                let id = workload["workloadId"].as_str().unwrap_or_default();
                let path = format!("/workloads/{id}");
                async move { runtime_call(socket, token, "DELETE", &path).await.map(drop) }
            })
            .buffer_unordered(16)
            .try_collect::<()>()
            .await?;
    }
}

async fn runtime_call(socket: &Path, token: &str, method: &str, path: &str) -> anyhow::Result<Answer> {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "runtime")
        .header("authorization", format!("Bearer {token}"))
        .body(Full::new(Bytes::new()))?;
    http::send(&Target::Unix(socket.into()), request).await
}

/// The service may answer with the array itself or with an object around it.
fn list(answer: &Answer) -> Vec<Value> {
    match answer.json() {
        Value::Array(all) => all,
        Value::Object(mut object) => match object.remove("workloads") {
            Some(Value::Array(all)) => all,
            other => panic!("no list of workloads: {other:?}"),
        },
        other => panic!("no list of workloads: {other}"),
    }
}

/// A port that is free and stays so: below those that the kernel gives out by itself, and no other test of this process gets
/// the same one. A gateway that is killed comes back on it.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + u16::try_from(std::process::id() % 100).unwrap_or_default() * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(port < 32_000, "no free loopback port");
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}
