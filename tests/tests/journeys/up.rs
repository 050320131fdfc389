//! What the README's reader types: `rekindle up` on a fresh home, the line it prints, and the commands of the tour.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use tests::model::Model;
use tests::service::Service;
use tests::{eventually, paths};

use crate::support::MINUTE;
use crate::tour::notes;

/// A home that nobody else may enter: one that others may, and that holds other things, is refused.
fn private_folder() -> tempfile::TempDir {
    let private = std::fs::Permissions::from_mode(0o700);
    tempfile::Builder::new().prefix("rk-up-").permissions(private).tempdir_in("/tmp").unwrap()
}

struct Up {
    service: Service,
    home: tempfile::TempDir,
}

impl Up {
    /// Starts it, with more of an environment than nothing, and waits for the line that it ends its greeting with.
    async fn start(environment: &[(&str, &str)]) -> Self {
        let home = private_folder();
        Self { service: Self::service(home.path(), environment), home }.greets().await
    }

    /// As [`Self::start`], with a disk of its own for the private Redis that only it and its children see.
    async fn on_a_small_disk(size: &str, environment: &[(&str, &str)]) -> Self {
        const MOUNTED: &str = r#"mount -t tmpfs -o "size=$1" tmpfs "$2" && shift 2 && exec "$@""#;
        let home = private_folder();
        let disk = home.path().join("redis");
        std::fs::create_dir(&disk).unwrap();
        let text = |path: &Path| path.display().to_string();
        let mut arguments = vec!["--mount".to_owned(), "/bin/sh".into(), "-c".into(), MOUNTED.into(), "sh".into()];
        arguments.extend([size.into(), text(&disk)]);
        let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
        if !uid.is_root() {
            // Root only for as long as the mount takes.
            let (user, group) = (uid.as_raw().to_string(), gid.as_raw().to_string());
            arguments.insert(0, "--map-root-user".into());
            arguments.extend(["unshare", "--user", "--map-user", &user, "--map-group", &group].map(Into::into));
        }
        arguments.push(text(&paths::program("rekindle")));
        arguments.extend(Self::arguments(home.path()));
        let mut service = Service::new("up", "/usr/bin/unshare".into(), arguments, home.path().join("up.log"));
        for (name, value) in environment {
            service.set_env(name, value);
        }
        Self { service, home }.greets().await
    }

    async fn greets(self) -> Self {
        let mut up = self;
        up.service.start();
        eventually(&format!("`up` greets; so far: {}", up.service.tail()), MINUTE, || async {
            up.service.log().contains("Content-Type").then_some(())
        })
        .await;
        up
    }

    fn arguments(home: &Path) -> Vec<String> {
        let home = home.display().to_string();
        ["up", "--home", &home, "--listen", "127.0.0.1:0", "--backend", "process"].map(str::to_owned).to_vec()
    }

    fn service(home: &Path, environment: &[(&str, &str)]) -> Service {
        let log = home.join("up.log");
        let mut service = Service::new("up", paths::program("rekindle"), Self::arguments(home), log);
        for (name, value) in environment {
            service.set_env(name, value);
        }
        service
    }

    /// Runs a command of the tour, as a person whose shell has no terminal for output.
    async fn rekindle(&self, arguments: &[&str]) -> Output {
        let mut command = tokio::process::Command::from(paths::command(paths::program("rekindle")));
        command.args(arguments).env("REKINDLE_HOME", self.home.path()).stdin(std::process::Stdio::null());
        tokio::time::timeout(MINUTE, command.output()).await.expect("within a minute").expect("run rekindle")
    }

    async fn says(&self, arguments: &[&str]) -> String {
        let output = self.rekindle(arguments).await;
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "rekindle {arguments:?}: {}\n{out}{err}", output.status);
        out.into_owned()
    }

    /// Children of the supervisor, by name.
    fn children(&self) -> Vec<(String, i32)> {
        let tasks = format!("/proc/{0}/task", self.service.pid());
        let pids = std::fs::read_dir(tasks)
            .unwrap()
            .flat_map(|task| {
                let list = std::fs::read_to_string(task.unwrap().path().join("children")).unwrap_or_default();
                list.split_whitespace().map(|p| p.parse().unwrap()).collect::<Vec<i32>>()
            })
            .collect::<Vec<_>>();
        let name =
            |pid: i32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
        pids.into_iter().map(|pid| (name(pid), pid)).collect()
    }
}

#[tokio::test]
async fn one_command_starts_it_and_the_line_it_prints_works() {
    let mut up = Up::start(&[]).await;
    let greeting = up.service.log();
    assert!(greeting.contains("bubblewrap"), "it says what isolates: {greeting}");
    assert!(greeting.contains("ANTHROPIC_API_KEY"), "it says how to give a key: {greeting}");
    // The curl line as it stands, by the shell.
    let line = &greeting[greeting.find("\ncurl ").expect("a curl line")..];
    let curl = paths::command("/bin/sh").args(["-c", line]).output().unwrap();
    let answer = String::from_utf8_lossy(&curl.stdout).into_owned();
    assert!(answer.contains("turn-complete"), "{line}\n{answer}{}", String::from_utf8_lossy(&curl.stderr));

    // A second one on the same home is refused, clearly.
    let mut second = Up::service(up.home.path(), &[]);
    second.start();
    let status = eventually("the second one ends", MINUTE, || {
        let ended = second.ended();
        async move { ended }
    })
    .await;
    assert!(!status.success());

    // What dies is started again; what was there goes on.
    let gateway = up.children().into_iter().find(|(name, _)| name.starts_with("rekindle-gate")).expect("a gateway");
    rustix::process::kill_process(rustix::process::Pid::from_raw(gateway.1).unwrap(), Signal::KILL).unwrap();
    eventually("the gateway is another one and answers", MINUTE, || async {
        let again = up.children().into_iter().any(|(name, pid)| name == gateway.0 && pid != gateway.1);
        (again && up.rekindle(&["ps"]).await.status.success()).then_some(())
    })
    .await;
    assert_eq!(up.says(&["invoke", "demo", "--runner", "echo", "again"]).await, "again\n");

    // Ctrl-C stops every child, the private Redis included.
    let children = up.children();
    assert!(children.len() >= 4, "{children:?}");
    up.service.signal(Signal::INT);
    let status = eventually("`up` ends", MINUTE, || {
        let ended = up.service.ended();
        async move { ended }
    })
    .await;
    assert!(status.success(), "{status}: {}", up.service.tail());
    for (name, pid) in children {
        assert!(!Path::new(&format!("/proc/{pid}")).exists(), "{name} ({pid}) is left");
    }
    assert!(std::fs::read_dir(up.home.path().join("store/generations")).unwrap().count() <= 1);
}

#[tokio::test]
async fn a_full_disk_costs_the_reserve_and_nothing_of_the_ledger() {
    const RESERVE: u64 = 16 << 20;
    let up = Up::on_a_small_disk("40m", &[("REKINDLE_REDIS__RESERVE_MB", "16")]).await;
    let disk = format!("/proc/{}/root{}", up.service.pid(), up.home.path().join("redis").display());
    let disk = Path::new(&disk);
    let reserve = || disk.join("reserve").metadata().unwrap().len();
    let free = || {
        let stat = rustix::fs::statvfs(disk).unwrap();
        stat.f_bavail * stat.f_frsize
    };
    let echo = async |text: &str| up.rekindle(&["invoke", "demo", "--runner", "echo", text]).await;
    assert_eq!(reserve(), RESERVE);
    assert!(echo("before").await.status.success());

    // Somebody takes everything, to the last page.
    let full = std::io::copy(&mut std::io::repeat(1), &mut std::fs::File::create(disk.join("filler")).unwrap());
    assert_eq!(full.unwrap_err().kind(), std::io::ErrorKind::StorageFull);
    eventually("turns run on what the reserve gave", MINUTE, || async {
        (reserve() < RESERVE && echo("meanwhile").await.status.success()).then_some(())
    })
    .await;
    assert!(free() < RESERVE, "the disk is full no more");
    assert!(up.service.log().contains("the disk of the ledger is full"), "{}", up.service.tail());

    std::fs::remove_file(disk.join("filler")).unwrap();
    eventually("the reserve is whole again", MINUTE, || async { (reserve() == RESERVE).then_some(()) }).await;
    eventually("that is said", MINUTE, || async { up.service.log().contains("has room again").then_some(()) }).await;
    assert!(echo("after").await.status.success());
    let turns = up.says(&["turns", "demo"]).await;
    assert!(["before", "meanwhile", "after"].iter().all(|text| turns.contains(text)), "{turns}");
}

#[tokio::test]
async fn the_tour_of_the_readme_with_the_real_cli() {
    let model = Model::start(notes).await;
    let claude = tests::claude::program().parent().unwrap().display().to_string();
    let path = format!("{claude}:{}", paths::SYSTEM_PATH);
    let environment = [("ANTHROPIC_API_KEY", "the-key"), ("ANTHROPIC_BASE_URL", &model.base_url()), ("PATH", &path)];
    let up = Up::start(&environment).await;
    assert!(up.service.log().contains(&model.base_url()), "it says whom it will call: {}", up.service.log());
    assert!(!up.service.log().contains("the-key"), "it does not print the key");

    // Nothing but data on a stdout that is no terminal.
    assert_eq!(up.says(&["invoke", "demo", "write notes.md about reaping"]).await, "I wrote notes.md.\n");
    assert_eq!(model.requests()[0].header("x-api-key"), "the-key");
    assert!(up.says(&["ps"]).await.contains("demo"));
    up.says(&["stop", "demo"]).await;
    assert!(up.says(&["ps"]).await.contains("cold"));
    assert_eq!(
        up.says(&["invoke", "demo", "what did you just write?"]).await,
        "You asked me: write notes.md about reaping\n"
    );
    let turns = up.says(&["turns", "demo"]).await;
    assert!(turns.contains("write notes.md") && turns.contains("I wrote notes.md."), "{turns}");

    // One event a line, each of them JSON, and the same again from the beginning.
    let lines = up.says(&["invoke", "demo", "--json", "more?"]).await;
    let events: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    assert_eq!(events.last().unwrap()["type"], "turn-complete");
    let all = up.says(&["events", "demo", "--json"]).await;
    let terminals = all.lines().filter(|l| l.contains("\"turn-complete\"")).count();
    assert_eq!(terminals, 3, "{all}");

    // The exit status follows the turn; what is refused is told on stderr.
    model.follow(|_| tests::model::Reply::error(400, "the script says no"));
    let failed = up.rekindle(&["invoke", "demo", "fail"]).await;
    assert_eq!(failed.status.code(), Some(1), "{}", String::from_utf8_lossy(&failed.stderr));
    let refused = up.rekindle(&["invoke", "../x", "hello"]).await;
    assert_eq!(refused.status.code(), Some(2));
    assert!(refused.stdout.is_empty() && !refused.stderr.is_empty());
    up.says(&["rm", "-y", "demo"]).await;
    assert!(!up.says(&["ps"]).await.contains("demo"));
    up.says(&["doctor"]).await;
}

#[tokio::test]
async fn doctor_makes_one_real_request_when_asked_to() {
    let model = Model::start(|_| tests::model::Reply::text("1")).await;
    let url = model.base_url();
    let up = Up::start(&[("ANTHROPIC_API_KEY", "the-key"), ("ANTHROPIC_BASE_URL", &url)]).await;
    let mut command = tokio::process::Command::from(paths::command(paths::program("rekindle")));
    let environment = [("ANTHROPIC_API_KEY", "the-key"), ("ANTHROPIC_BASE_URL", url.as_str())];
    command.args(["doctor", "--model"]).env("REKINDLE_HOME", up.home.path()).envs(environment);
    let output = tokio::time::timeout(Duration::from_secs(30), command.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let requests = model.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!((requests[0].header("x-api-key"), &requests[0].body["max_tokens"]), ("the-key", &json!(1)));
}
