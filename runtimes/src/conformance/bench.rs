//! What every case of the suite stands on: a store of its own, a program in the worker's place, a substrate that is real.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use contract::{Backend, Generation, Mode, UnitId, WorkloadId, WorkloadSpec, WorkloadState, WorkloadStatus};
use relay::WorkerPort;
use settings::Profile;

use crate::config::RuntimeConfig;
use crate::runtime::Runtime;

/// Longer than anything here takes on a slow machine; a case that needs it has failed.
pub const LIMIT: Duration = Duration::from_secs(60);
/// An image with nothing in it, made here: no registry, no shell.
pub const EMPTY_IMAGE: &str = "rekindle/test-empty:latest";

/// The substrates that the suite runs against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Substrate {
    Docker,
    Bubblewrap,
    Bare,
}

/// One case's runtime, with everything it stands on.
pub struct Bench {
    pub substrate: Substrate,
    pub config: RuntimeConfig,
    pub runtime: Runtime,
    uid: UnitId,
    next: u64,
    pub dir: tempfile::TempDir,
}

impl Bench {
    pub async fn new(substrate: Substrate) -> Self {
        Self::with(substrate, |_| {}).await
    }

    pub async fn with(substrate: Substrate, change: impl FnOnce(&mut RuntimeConfig)) -> Self {
        Self::inside(tempfile::tempdir().expect("a temporary folder"), substrate, change).await
    }

    /// With a store in memory, where that is there: a disk that is told of every block that is free again takes minutes to
    /// remove many folders.
    pub async fn in_memory(substrate: Substrate) -> Self {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Self::inside(dir.expect("a temporary folder"), substrate, |_| {}).await
    }

    async fn inside(dir: tempfile::TempDir, substrate: Substrate, change: impl FnOnce(&mut RuntimeConfig)) -> Self {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        let number = COUNTER.fetch_add(1, Ordering::SeqCst);
        let profile = Profile { image: EMPTY_IMAGE.into(), ..Profile::default() };
        let mut config = RuntimeConfig {
            deployment: format!("test-{}-{number}", std::process::id()),
            backend: if substrate == Substrate::Docker { Backend::Docker } else { Backend::Process },
            store: dir.path().join("store"),
            worker_binary: guest().to_owned(),
            shim_binary: if substrate == Substrate::Docker { guest() } else { shim() }.to_owned(),
            worker_port: WorkerPort::Unix(dir.path().join("worker.sock")),
            worker_uid: 10_001,
            stop_grace: Duration::from_secs(20),
            min_free_mb: 1,
            dispatch_public_keys: Vec::new(),
            cgroups: true,
            docker_host: None,
            oci_runtime: None,
            bwrap: (substrate == Substrate::Bubblewrap).then(|| "bwrap".into()),
            profiles: BTreeMap::from([("default".into(), profile)]),
            callback_token: Some("callback-token".into()),
        };
        change(&mut config);
        if substrate == Substrate::Docker {
            make_empty_image().await;
        }
        let runtime = Runtime::open(config.clone()).await.expect("a runtime");
        let health = runtime.health().await.unwrap_or_else(|e| panic!("{e}\n{}", hint(substrate)));
        let expected = match substrate {
            Substrate::Docker => crate::Isolation::Container,
            Substrate::Bubblewrap => crate::Isolation::Bubblewrap,
            Substrate::Bare => crate::Isolation::None,
        };
        assert_eq!(health.isolation, expected, "{}", hint(substrate));
        let uid = UnitId::of(
            &contract::Owner::parse(format!("test-{}", std::process::id())).unwrap(),
            &contract::UnitName::parse(format!("case-{number}")).unwrap(),
        );
        let next = jiff::Timestamp::now().as_millisecond().unsigned_abs();
        Self { substrate, config, runtime, uid, next, dir }
    }

    pub fn uid(&self) -> UnitId {
        self.uid.clone()
    }

    /// The next generation's spec: runs this script over the unit's own workspace.
    pub fn spec(&mut self, script: &str) -> WorkloadSpec {
        self.next += 1;
        let generation = Generation(self.next);
        granted(WorkloadSpec {
            workload_id: WorkloadId { uid: self.uid(), generation },
            profile: "default".into(),
            env: BTreeMap::from([("SCRIPT".into(), script.into())]),
            callback_url: None,
            resources: Default::default(),
            idle_timeout_sec: None,
            max_lifetime_sec: None,
            backend: None,
            unit: contract::UnitRef { uid: self.uid(), generation },
            mounts: vec![contract::Mount { workspace: self.uid().own_workspace(), mode: Mode::Rw }],
            token: String::new(),
        })
    }

    /// Starts this script and waits until it says that it is ready.
    pub async fn running(&mut self, script: &str) -> WorkloadId {
        let spec = self.spec(script);
        self.start_ready(spec).await
    }

    pub async fn start_ready(&mut self, spec: WorkloadSpec) -> WorkloadId {
        let report = self.state().join("report");
        let _ = std::fs::remove_file(&report);
        let id = spec.workload_id.clone();
        let status = self.runtime.start(granted(spec)).await.expect("a start");
        assert_eq!(status.state, WorkloadState::Running, "{status:?}");
        self.report().await;
        id
    }

    pub fn state(&self) -> PathBuf {
        self.config.store.join("units").join(self.uid.as_str()).join("state")
    }

    /// What the script has written.
    pub async fn report(&self) -> String {
        let path = self.state().join("report");
        eventually("the script's report", || std::fs::read_to_string(&path).ok()).await
    }

    /// Waits for the end of a workload.
    pub async fn stopped(&self, id: &WorkloadId) -> WorkloadStatus {
        let workload = self.runtime.inner.table.get(id).await.expect("a workload");
        let status = workload.wait(LIMIT, |s| !s.is_alive()).await;
        assert_eq!(status.state, WorkloadState::Stopped, "{status:?}");
        status
    }

    /// What is left of a workload on the substrate.
    pub async fn left(&self, id: &WorkloadId) -> Vec<String> {
        match self.substrate {
            Substrate::Docker => {
                let known = self.runtime.inner.backend.list().await.expect("a list");
                known.into_iter().filter(|(k, _)| k == id).map(|(k, _)| k.to_string()).collect()
            }
            Substrate::Bubblewrap | Substrate::Bare => marked_processes(id),
        }
    }

    /// Another runtime on the same store, after the first has gone.
    pub async fn restart(&mut self) {
        self.runtime.close().await;
        self.runtime = Runtime::open(self.config.clone()).await.expect("a second runtime");
        self.runtime.inner.when_ready().await.expect("a look at the substrate");
    }

    /// Removes all that the case has left.
    pub async fn clean(self) {
        for status in self.runtime.list().await {
            self.runtime.destroy(&status.workload_id).await.expect("a destroy");
            assert_eq!(self.left(&status.workload_id).await, Vec::<String>::new());
        }
        assert_eq!(std::fs::read_dir(self.config.store.join("generations")).unwrap().count(), 0);
        self.runtime.close().await;
    }
}

/// The spec with a token that grants just what it asks for. Its signature is none, and is how a leak of it is seen.
pub fn granted(mut spec: WorkloadSpec) -> WorkloadSpec {
    let encode = |value: serde_json::Value| data_encoding::BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let mounts = spec.mounts.iter().map(|m| serde_json::json!({"id": m.workspace, "mode": m.mode}));
    let claims = serde_json::json!({
        "sub": "test", "launcher": "user:test", "unit": spec.unit.uid, "generation": spec.unit.generation,
        "workspaces": mounts.collect::<Vec<_>>(), "scope": "worker", "aud": contract::DISPATCH_AUDIENCE,
        "exp": u32::MAX,
    });
    spec.token = format!("{}.{}.marked-dispatch-token", encode(serde_json::json!({"alg": "EdDSA"})), encode(claims));
    spec
}

/// Processes with the workload's names in their environment.
pub fn marked_processes(id: &WorkloadId) -> Vec<String> {
    let marks = [format!("REKINDLE_UNIT={}", id.uid), format!("REKINDLE_GENERATION={}", id.generation)];
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let environ = untrusted::read_kernel(entry.path().join("environ"), 64 << 10).unwrap_or_default();
        if marks.iter().all(|mark| environ.split('\0').any(|variable| variable == mark)) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// Asks until there is an answer.
pub async fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let until = tokio::time::Instant::now() + LIMIT;
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(tokio::time::Instant::now() < until, "{what} does not come");
        ticks.tick().await;
    }
}

fn hint(substrate: Substrate) -> &'static str {
    match substrate {
        Substrate::Docker => "these tests need a Docker engine: apt-get install docker.io && service docker start",
        Substrate::Bubblewrap => "these tests need bubblewrap and user namespaces: apt-get install bubblewrap",
        Substrate::Bare => "",
    }
}

fn run(command: &mut std::process::Command, hint: &str) {
    let output = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}; {hint}"));
    assert!(output.status.success(), "{command:?}: {}; {hint}", String::from_utf8_lossy(&output.stderr));
}

/// The static program of `guest.c`, compiled once for each run.
fn guest() -> &'static Path {
    static GUEST: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = GUEST.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("guest");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/conformance/guest.c");
        let mut cc = std::process::Command::new("cc");
        run(cc.args(["-static", "-O1", "-o"]).arg(&path).arg(source), "apt-get install gcc libc6-dev");
        (dir, path)
    });
    path
}

/// Names the shim for a run of these tests that cannot build it.
pub const SHIM_VARIABLE: &str = "REKINDLE_TEST_SHIM";

/// The real shim, built once for each run.
pub fn shim() -> &'static Path {
    static SHIM: OnceLock<PathBuf> = OnceLock::new();
    SHIM.get_or_init(|| {
        if let Some(path) = std::env::var_os(SHIM_VARIABLE) {
            return path.into();
        }
        // target/<profile>/deps/<this test>
        let own = std::env::current_exe().expect("this program's path");
        let folder = own.parent().and_then(Path::parent).expect("a target folder");
        let mut cargo = std::process::Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "--package", "worker", "--bin", "rekindle-worker"]);
        if folder.ends_with("release") {
            cargo.arg("--release");
        }
        run(cargo.current_dir(env!("CARGO_MANIFEST_DIR")), "the shim is the worker's");
        let path = folder.join("rekindle-worker");
        assert!(path.is_file(), "{} was not built", path.display());
        path
    })
}

async fn make_empty_image() {
    static MADE: tokio::sync::OnceCell<()> = tokio::sync::OnceCell::const_new();
    MADE.get_or_init(|| async {
        let docker = bollard::Docker::connect_with_unix_defaults()
            .unwrap_or_else(|e| panic!("{e}; {}", hint(Substrate::Docker)));
        let docker = docker.negotiate_version().await.unwrap_or_else(|e| panic!("{e}; {}", hint(Substrate::Docker)));
        // The end of an archive is two blocks of zeros (tar(5)); an archive with nothing before it is an empty image.
        let options = bollard::query_parameters::CreateImageOptionsBuilder::new()
            .from_src("-")
            .repo("rekindle/test-empty")
            .tag("latest");
        let body = bollard::body_full(bytes::Bytes::from(vec![0u8; 1024]));
        let mut steps = docker.create_image(Some(options.build()), Some(body), None);
        while let Some(step) = futures_util::StreamExt::next(&mut steps).await {
            step.expect("an empty image");
        }
    })
    .await;
}
