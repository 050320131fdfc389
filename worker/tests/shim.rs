//! The shim, as a process: what it writes, whom it signals, who dies with whom.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

const SOON: Duration = Duration::from_secs(20);

struct Shim {
    dir: TempDir,
    process: Child,
}

impl Shim {
    fn start(argv: &[&str], more: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut launch = json!({
            "argv": argv, "env": {"PATH": "/usr/bin:/bin", "ONLY": "this"}, "cwd": "/",
            "uid": rustix::process::getuid().as_raw(), "gid": rustix::process::getgid().as_raw(),
        });
        launch.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        std::fs::write(dir.path().join("launch.json"), launch.to_string()).unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_rekindle-worker"))
            .args(["shim", "--dir"])
            .arg(dir.path())
            .env_clear()
            .env("SECRET", "of the runtime")
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self { dir, process }
    }

    async fn json(&self, name: &str) -> Value {
        let path = self.dir.path().join(name);
        until(|| std::fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok())).await
    }

    async fn log(&self, line: &str) -> String {
        let path = self.dir.path().join("log");
        until(|| std::fs::read_to_string(&path).ok().filter(|text| text.contains(line))).await
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.process), signal).unwrap();
    }

    /// Its exit, and what it wrote about the program's.
    async fn ended(mut self) -> Value {
        let exit = self.json("exit.json").await;
        until(|| self.process.try_wait().unwrap()).await;
        exit
    }
}

impl Drop for Shim {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Waits until something is there.
async fn until<T>(mut there: impl FnMut() -> Option<T>) -> T {
    let polling = async {
        loop {
            if let Some(found) = there() {
                return found;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(SOON, polling).await.expect("it did not come about in time")
}

fn is_alive(pid: i64) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with(['Z', 'X']))
}

#[tokio::test]
async fn writes_who_runs_and_how_it_ended() {
    let shim = Shim::start(&["sh", "-c", "env; echo to stderr >&2; read x; exit 7"], json!({}));
    let log = shim.log("to stderr").await;
    assert!(log.contains("ONLY=this") && !log.contains("SECRET"), "{log}");
    let own = shim.json("shim.pid").await;
    assert_eq!(own["pid"], shim.process.id());
    assert!(own["starttime"].as_u64().unwrap() > 0);
    assert!(shim.json("inner.json").await["pid"].as_i64().unwrap() > 1);
    assert_eq!(shim.ended().await, json!({"code": 7, "signal": null, "oom": false, "error": null}));
}

#[tokio::test]
async fn passes_term_on_and_ignores_a_hangup() {
    let script = "trap 'echo got it; exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let shim = Shim::start(&["sh", "-c", script], json!({}));
    shim.log("ready").await;
    shim.signal(Signal::HUP);
    shim.signal(Signal::TERM);
    shim.log("got it").await;
    assert_eq!(shim.ended().await["code"], 3);
}

#[tokio::test]
async fn signals_the_process_inside_bwrap() {
    let script = "trap 'echo got it; exit 3' TERM; echo I am $$; while :; do sleep 0.1; done";
    let argv = [
        "bwrap",
        "--die-with-parent",
        "--info-fd",
        "{info}",
        "--unshare-pid",
        "--as-pid-1",
        "--ro-bind",
        "/",
        "/",
        "--proc",
        "/proc",
        "sh",
        "-c",
        script,
    ];
    let shim = Shim::start(&argv, json!({}));
    shim.log("I am 1").await;
    shim.signal(Signal::TERM);
    shim.log("got it").await;
    assert_eq!(shim.ended().await["code"], 3);
}

#[tokio::test]
async fn what_it_starts_dies_with_it_and_what_that_leaves_dies_too() {
    let shim = Shim::start(&["sleep", "1000"], json!({}));
    let inner = shim.json("inner.json").await["pid"].as_i64().unwrap();
    assert!(is_alive(inner));
    shim.signal(Signal::KILL);
    until(|| (!is_alive(inner)).then_some(())).await;

    let shim = Shim::start(&["sh", "-c", "setsid sleep 1000 & echo left $!; kill -9 $$"], json!({}));
    let log = shim.log("left").await;
    let left: i64 = log.trim().rsplit(' ').next().unwrap().parse().unwrap();
    assert_eq!(shim.ended().await, json!({"code": null, "signal": 9, "oom": false, "error": null}));
    assert!(!is_alive(left));
}

#[tokio::test]
async fn survives_the_session_that_started_it() {
    // The runtime's own session ends with it; the shim is in another.
    let shim = Shim::start(&["sleep", "1000"], json!({}));
    shim.json("inner.json").await;
    let pid = Pid::from_child(&shim.process);
    assert_eq!(rustix::process::getsid(Some(pid)).unwrap(), pid);
}

#[tokio::test]
async fn its_log_is_bounded_and_ends_with_the_last_words() {
    let shim =
        Shim::start(&["sh", "-c", "yes 'a line without a meaning' | head -c 30000000; echo the last words"], json!({}));
    let log = shim.dir.path().join("log");
    let exit = shim.json("exit.json").await;
    assert_eq!(exit["code"], 0);
    let text = std::fs::read_to_string(&log).unwrap();
    assert!(text.ends_with("the last words\n"), "{}", &text[text.len() - 100..]);
    assert!((60_000..200_000).contains(&text.len()), "{}", text.len());
    shim.ended().await;
}

#[tokio::test]
async fn who_keeps_its_output_open_does_not_keep_it() {
    let script = "setsid sh -c 'trap : TERM HUP; while :; do echo more; done' & echo first; exit 4";
    assert_eq!(Shim::start(&["sh", "-c", script], json!({})).ended().await["code"], 4);
}

#[tokio::test]
async fn gives_up_root_for_the_program() {
    if !rustix::process::geteuid().is_root() {
        // Without root there is nothing to give up: the program has the shim's own uid.
        let shim = Shim::start(&["id", "-u"], json!({}));
        assert_eq!(shim.ended().await["code"], 0);
        return;
    }
    let shim = Shim::start(&["sh", "-c", "id -u; id -g; id -G; echo end"], json!({"uid": 10001, "gid": 10002}));
    assert_eq!(shim.log("end").await, "10001\n10002\n10002\nend\n");
}

#[tokio::test]
async fn what_cannot_be_started_is_told() {
    for (argv, more, says) in [
        (&["no-such-program"][..], json!({}), "no-such-program"),
        (&[], json!({}), "argv is empty"),
        (&["true"], json!({"cgroups": ["/no/such/cgroup"]}), "/no/such/cgroup/cgroup.procs"),
        (&["true"], json!({"cwd": "/no/such/folder"}), "cannot start"),
    ] {
        let exit = Shim::start(argv, more).ended().await;
        assert!(exit["error"].as_str().unwrap().contains(says), "{exit}");
        assert_eq!(exit["code"], Value::Null);
    }
    let mut alone = Command::new(env!("CARGO_BIN_EXE_rekindle-worker"));
    alone.args(["shim", "--dir", "/no/such/folder"]).env_clear().stderr(Stdio::null()).process_group(0);
    assert!(!alone.status().unwrap().success());
    assert!(!Path::new("/no/such/folder").exists());
}
