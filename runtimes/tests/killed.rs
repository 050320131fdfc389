//! The real program, killed without a word in the middle of what it does: no workload ends with it, and the next one goes on.
//! And what other processes may do to it: nothing.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use contract::{
    Generation, Mode, Mount, Owner, StopReason, UnitId, UnitName, UnitRef, WorkloadId, WorkloadSpec, WorkloadState,
};
use runtimes::{RuntimeClient, RuntimeError};
use rustix::fs::OFlags;
use rustix::process::{Resource, Rlimit};

const LIMIT: Duration = Duration::from_secs(60);
/// What the runtime may have open: as many as a login shell has.
const FEW_FILES: u64 = 1024;

/// A deployment with a runtime that can be killed.
struct Deployment {
    dir: tempfile::TempDir,
    runtime: Child,
    client: RuntimeClient,
}

/// The worker itself: without a gateway it waits for one, and TERM ends it.
fn worker() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_rekindle-runtime")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--package", "worker", "--bin", "rekindle-worker"]);
    if folder.ends_with("release") {
        cargo.arg("--release");
    }
    assert!(cargo.current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap().success());
    folder.join("rekindle-worker")
}

fn spawn(dir: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rekindle-runtime"));
    command.arg("--config").arg(dir.join("rekindle.toml")).env_clear().env("PATH", "/usr/bin:/bin");
    let few = || {
        let limit = Some(FEW_FILES);
        Ok(rustix::process::setrlimit(Resource::Nofile, Rlimit { current: limit, maximum: limit })?)
    };
    // SAFETY: between fork and exec one system call is made.
    unsafe { command.pre_exec(few) };
    command.stdin(Stdio::null()).spawn().unwrap()
}

impl Deployment {
    async fn new() -> Self {
        Self::with(&worker()).await
    }

    async fn with(worker: &Path) -> Self {
        // In memory, where that is there: on some disks it takes minutes to remove many folders.
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        std::fs::write(dir.path().join("token"), "a-runtime-token\n").unwrap();
        let url = format!("unix://{}/runtime.sock", dir.path().display());
        let text = format!(
            "[runtime]\nurl = \"{url}\"\ntoken_file = \"token\"\nbackend = \"process\"\nstore = \"store\"\n\
             deployment = \"killed-{}\"\nworker_binary = \"{}\"\nworker_port = \"unix://{}/worker.sock\"\n",
            std::process::id(),
            worker.display(),
            dir.path().display()
        );
        std::fs::write(dir.path().join("rekindle.toml"), text).unwrap();
        let runtime = spawn(dir.path());
        let deployment = Self { client: RuntimeClient::new(&url, None).unwrap(), dir, runtime };
        deployment.answers().await;
        deployment
    }

    async fn answers(&self) {
        let asking = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            while self.client.health().await.is_err() {
                ticks.tick().await;
            }
        };
        tokio::time::timeout(LIMIT, asking).await.expect("the runtime answers");
    }

    async fn killed_and_started_again(&mut self) {
        self.runtime.kill().unwrap();
        self.runtime.wait().unwrap();
        assert!(matches!(self.client.list().await, Err(RuntimeError::Unavailable { .. })));
        self.runtime = spawn(self.dir.path());
        self.answers().await;
    }
}

impl Drop for Deployment {
    fn drop(&mut self) {
        // The last one goes in peace. Both fail only when it has ended already.
        let pid = rustix::process::Pid::from_child(&self.runtime);
        let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        let _ = self.runtime.wait();
    }
}

/// As a gateway would make it. Nobody here has its key, so the signature is none.
fn token(uid: &UnitId, generation: Generation) -> String {
    let encode = |value: serde_json::Value| data_encoding::BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let claims = serde_json::json!({
        "sub": "killed", "launcher": "user:killed", "unit": uid, "generation": generation, "scope": "worker",
        "workspaces": [{"id": uid.own_workspace(), "mode": "rw"}], "aud": contract::DISPATCH_AUDIENCE, "exp": u32::MAX,
    });
    format!("{}.{}.none", encode(serde_json::json!({"alg": "EdDSA"})), encode(claims))
}

fn spec() -> WorkloadSpec {
    let uid = UnitId::of(&Owner::parse("killed").unwrap(), &UnitName::parse("demo").unwrap());
    let generation = Generation(jiff::Timestamp::now().as_millisecond().unsigned_abs());
    WorkloadSpec {
        workload_id: WorkloadId { uid: uid.clone(), generation },
        profile: "default".into(),
        env: [("REKINDLE_RUNNER", "echo"), ("REKINDLE_IDLE_SEC", "600")].map(|(k, v)| (k.into(), v.into())).into(),
        callback_url: None,
        resources: Default::default(),
        idle_timeout_sec: None,
        max_lifetime_sec: None,
        backend: None,
        mounts: vec![Mount { workspace: uid.own_workspace(), mode: Mode::Rw }],
        token: token(&uid, generation),
        unit: UnitRef { uid, generation },
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_runtime_ends_no_workload_and_the_next_one_finds_it() {
    let mut deployment = Deployment::new().await;
    let spec = spec();
    let id = &spec.workload_id;
    let started = deployment.client.start(&spec).await.unwrap();
    assert_eq!(started.state, WorkloadState::Running, "{started:?}");
    deployment.killed_and_started_again().await;
    // The very same one, and still idempotent.
    assert_eq!(deployment.client.start(&spec).await.unwrap(), started);
    let stopped = deployment.client.stop(id, None).await.unwrap();
    assert_eq!(
        (stopped.state, stopped.stop_reason),
        (WorkloadState::Stopped, Some(StopReason::Stopped)),
        "{stopped:?}"
    );
    deployment.killed_and_started_again().await;
    assert_eq!(deployment.client.get(id).await.unwrap(), stopped);
    deployment.client.destroy(id).await.unwrap();
    assert!(matches!(deployment.client.start(&spec).await, Err(RuntimeError::Stale { .. })));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_runtime_on_the_same_store_is_refused() {
    let deployment = Deployment::new().await;
    let mut second = spawn(deployment.dir.path());
    assert!(!second.wait().unwrap().success());
    deployment.client.health().await.unwrap();
}

/// Killed at many moments of a start: whatever it was, afterwards the workload runs or is told to have failed, nothing of it
/// is lost sight of, and it can be destroyed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_runtime_killed_in_the_middle_of_a_start_leaves_nothing_unknown() {
    let mut deployment = Deployment::new().await;
    for delay_ms in [0, 1, 2, 4, 8, 16, 32] {
        let spec = spec();
        let client = deployment.client.clone();
        let starting = tokio::spawn({
            let spec = spec.clone();
            async move { client.start(&spec).await }
        });
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        deployment.killed_and_started_again().await;
        // It was answered, or cut off; either is right.
        let _ = starting.await.unwrap();
        let state = async || deployment.client.get(&spec.workload_id).await.map(|s| s.state);
        let decided = async {
            let mut ticks = tokio::time::interval(Duration::from_millis(20));
            while matches!(state().await, Ok(WorkloadState::Starting) | Err(RuntimeError::Unavailable { .. })) {
                ticks.tick().await;
            }
        };
        tokio::time::timeout(LIMIT, decided).await.expect("the start is decided");
        deployment.client.destroy(&spec.workload_id).await.unwrap();
        let mark = format!("REKINDLE_GENERATION={}", spec.unit.generation);
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let environ = environ(&entry.path());
            assert!(!environ.split('\0').any(|v| v == mark), "{:?} is left", entry.path());
        }
        let store = deployment.dir.path().join("store");
        assert_eq!(std::fs::read_dir(store.join("generations")).unwrap().count(), 0);
    }
}

/// A static program that never ends, in the worker's place.
fn endless(dir: &Path) -> PathBuf {
    let (source, program) = (dir.join("endless.c"), dir.join("endless"));
    std::fs::write(&source, "#include <unistd.h>\nint main(void) { for (;;) pause(); }\n").unwrap();
    let built = Command::new("cc").args(["-static", "-o"]).arg(&program).arg(&source).status();
    assert!(built.expect("apt-get install gcc libc6-dev").success());
    program
}

/// The beginning of a process' environment.
fn environ(process: &Path) -> String {
    untrusted::read_kernel(process.join("environ"), 64 << 10).unwrap_or_default()
}

/// Processes that were told to look at this.
fn looking_at(what: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let environ = environ(&entry.path());
        if environ.starts_with("REKINDLE_INSPECT=") && environ.contains(what) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

async fn until_looks(what: &str, enough: impl Fn(usize) -> bool) {
    let asking = async {
        let mut ticks = tokio::time::interval(Duration::from_millis(20));
        while !enough(looking_at(what).len()) {
            ticks.tick().await;
        }
    };
    tokio::time::timeout(LIMIT, asking).await.unwrap_or_else(|_| panic!("{:?}", looking_at(what)));
}

#[tokio::test]
async fn a_look_into_a_workspace_dies_with_it() {
    let programs = tempfile::tempdir().unwrap();
    let mut deployment = Deployment::with(&endless(programs.path())).await;
    std::fs::create_dir(deployment.dir.path().join("store/workspaces/notes")).unwrap();
    let what = format!("killed-{}", std::process::id());
    let look = contract::Look::Files { path: contract::WorkspacePath::parse(&*what).unwrap() };
    let workspace = contract::WorkspaceId::parse("notes").unwrap();
    let request = contract::InspectRequest { workspace, look, deadline_sec: Some(60) };
    let client = deployment.client.clone();
    let looking = tokio::spawn(async move { client.inspect(&request).await });
    until_looks(&what, |n| n > 0).await;
    deployment.killed_and_started_again().await;
    assert!(matches!(looking.await.unwrap(), Err(RuntimeError::Unavailable { .. })));
    until_looks(&what, |n| n == 0).await;
}

/// The most memory that a process has had, in KiB (proc_pid_status(5)).
fn most_memory_kb(process: &Child) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", process.id())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse().unwrap()
}

/// It bears the names of a workload, in an environment of 600 MiB.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_says_of_itself_is_neither_believed_nor_read() {
    let deployment = Deployment::new().await;
    let spec = spec();
    deployment.client.start(&spec).await.unwrap();
    let WorkloadId { uid, generation } = &spec.workload_id;
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/liar.py");
    let mut liar = Command::new("python3")
        .arg(program)
        .arg(format!("REKINDLE_UNIT={uid} REKINDLE_GENERATION={generation}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("apt-get install python3");
    let mut ready = [0; 6];
    liar.stdout.as_mut().unwrap().read_exact(&mut ready).expect("it says that it is ready");
    let said = environ(Path::new(&format!("/proc/{}", liar.id())));
    assert!(said.starts_with("REKINDLE_UNIT=") && said.len() == 64 << 10, "{} bytes", said.len());

    let before = most_memory_kb(&deployment.runtime);
    let destroying = deployment.client.destroy(&spec.workload_id);
    tokio::time::timeout(Duration::from_secs(15), destroying).await.expect("a prompt end").unwrap();
    let grown = most_memory_kb(&deployment.runtime) - before;
    assert!(grown < 64 << 10, "the runtime took {grown} KiB");
    assert_eq!(liar.try_wait().unwrap(), None, "it was taken for a process of the workload and ended");
    drop(liar.stdin.take());
    liar.wait().unwrap();
}

/// More folders in each other than the runtime has descriptors, or room on its stack.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_folders_do_not_end_the_runtime() {
    let mut deployment = Deployment::new().await;
    let spec = spec();
    let id = &spec.workload_id;
    deployment.client.start(&spec).await.unwrap();
    let generation = deployment.dir.path().join("store/generations").join(id.to_string());
    let mut at = rustix::fs::open(generation.join("home"), OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    for _ in 0..20_000 {
        rustix::fs::mkdirat(&at, "folder", rustix::fs::Mode::RWXU).unwrap();
        at = rustix::fs::openat(&at, "folder", OFlags::PATH, rustix::fs::Mode::empty()).unwrap();
    }
    drop(at);
    deployment.client.destroy(id).await.unwrap();
    assert!(!generation.exists());
    assert_eq!(deployment.runtime.try_wait().unwrap(), None);
}
