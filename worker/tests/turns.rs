//! Turns of the real worker program: what it tells, what it commits, what it leaves when it is ended.

mod bench;

use bench::{Answer, Unit, Worker, file, turn, turn_id, types, until};
use rustix::process::Signal;
use serde_json::{Value, json};

const SH: &[&str] = &["/bin/sh"];

/// The prompt is the script.
fn exec(unit: &Unit, generation: u64) -> Worker {
    unit.worker(generation, "exec", SH)
}

fn with(mut turn: Value, more: Value) -> Value {
    turn.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    turn
}

fn detail(done: &Value) -> &str {
    done["detail"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn echo_tells_in_order_with_numbers_and_keeps_a_record() {
    let unit = Unit::new();
    let mut worker = unit.worker(1, "echo", &[]);
    let events = worker.turn(turn(1, "hello")).await;
    assert_eq!(types(&events), ["turn-accepted", "message-delta", "done"]);
    let seqs: Vec<_> = events.iter().map(|event| event["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [1, 2, 3]);
    assert!(events.iter().all(|event| event["turn_id"] == turn_id(1)));
    assert_eq!((&events[2]["ok"], &events[2]["reply"]), (&true.into(), &"hello".into()));
    assert!(events[2]["cache"].is_string());
    let record: Value = serde_json::from_str(&file(&unit.path("state/record.json")).await).unwrap();
    assert_eq!((&record["turn"], &record["outcome"]), (&turn_id(1).into(), &"completed".into()));
    let events = worker.turn(turn(2, "again")).await;
    assert_eq!(events[0]["seq"], 1, "numbers are within the turn");
    worker.entry(json!({"type": "stop"})).await;
    assert_eq!(worker.ended().await.0, Some(0));
}

#[tokio::test]
async fn a_change_is_one_commit_and_only_what_was_there_when_the_runner_ended() {
    let unit = Unit::new();
    let mut worker = exec(&unit, 1);
    let script = "setsid sh -c 'while :; do echo x >>late; done' & \n until [ -s late ]; do :; done; echo hi >a";
    let events = worker.turn(turn(1, script)).await;
    assert_eq!(types(&events), ["turn-accepted", "commit", "done"]);
    let (commit, done) = (&events[1], &events[2]);
    assert_eq!((&commit["workspace"], &commit["files"]), (&"notes".into(), &2.into()));
    assert_eq!(done["ok"], true, "{done}");
    assert_eq!(unit.git(&["status", "--porcelain"]), "", "nothing writes any more");
    assert_eq!(unit.git(&["rev-parse", "HEAD"]).trim(), commit["sha"]);
    let told = unit.git(&["log", "-1", "--format=%an|%ae|%cn|%(trailers:key=Turn,valueonly)"]);
    assert_eq!(told.trim(), format!("Ann|ann@example.com|Rekindle|{}", turn_id(1)));

    let events = worker.turn(turn(2, "true")).await;
    assert_eq!(types(&events), ["turn-accepted", "done"], "nothing changed, nothing is committed");
}

#[tokio::test]
async fn a_failed_turn_leaves_the_tree_as_it_was() {
    let unit = Unit::new();
    let mut worker = exec(&unit, 1);
    worker.turn(turn(1, "echo one >a")).await;
    let events = worker.turn(turn(2, "echo two >a; echo b >b; exit 137")).await;
    let done = events.last().unwrap();
    assert_eq!((&done["ok"], &done["reason"]), (&false.into(), &"error".into()));
    assert!(detail(done).contains("exit status 137") && detail(done).contains("refs/rekindle/interrupted/"), "{done}");
    assert_eq!(file(&unit.path("workspace/a")).await, "one\n");
    assert!(!unit.path("workspace/b").exists());
    let kept = format!("refs/rekindle/interrupted/{}:b", turn_id(2));
    assert_eq!(unit.git(&["show", &kept]), "b\n");
}

#[tokio::test]
async fn cancel_and_timeout_end_the_turn_and_not_the_worker() {
    let unit = Unit::new();
    let mut worker = exec(&unit, 1);
    worker.entry(turn(1, "echo started; exec sleep 1000")).await;
    assert_eq!(worker.event().await["type"], "turn-accepted");
    assert_eq!(worker.event().await["text"], "started\n");
    worker.entry(json!({"type": "cancel", "turn_id": turn_id(9)})).await;
    worker.entry(turn(1, "delivered twice")).await;
    worker.entry(json!({"type": "cancel", "turn_id": turn_id(1)})).await;
    let events = worker.until_done().await;
    assert_eq!((types(&events), &events[0]["reason"]), (vec!["done"], &"cancelled".into()));

    let events = worker.turn(with(turn(2, "exec sleep 1000"), json!({"timeout_sec": 1}))).await;
    let done = events.last().unwrap();
    assert_eq!(done["reason"], "timeout");
    assert!(detail(done).contains("longer than 1 s"), "{done}");
    assert_eq!(worker.turn(turn(3, "echo ok")).await.last().unwrap()["reply"], "ok\n");
}

/// Who waits in vfork(2) for its child is not stopped by any signal meanwhile; the child goes on in its parent's memory.
#[tokio::test]
async fn a_process_inside_vfork_costs_no_turn_and_can_be_cancelled() {
    let unit = Unit::new();
    let mut worker = exec(&unit, 1);
    let program = "import ctypes, signal
for number in (signal.SIGINT, signal.SIGTERM): signal.signal(number, signal.SIG_IGN)
if ctypes.CDLL(None).syscall(58) == 0:
    while True: open('late', 'a').write('x')";
    std::fs::write(unit.path("home/vfork.py"), program).unwrap();
    let script =
        "setsid python3 $HOME/vfork.py >/dev/null 2>&1 </dev/null & \n until [ -s late ]; do :; done; echo hi >a";
    let events = worker.turn(turn(1, script)).await;
    assert_eq!(types(&events), ["turn-accepted", "commit", "done"]);
    assert_eq!(events[2]["ok"], true, "{events:?}");
    assert_eq!(unit.git(&["status", "--porcelain"]), "", "nothing writes any more");

    worker.entry(turn(2, "rm late; echo here; exec python3 $HOME/vfork.py")).await;
    while worker.event().await["type"] != "message-delta" {}
    until(|| unit.path("workspace/late").exists().then_some(())).await;
    worker.entry(json!({"type": "cancel", "turn_id": turn_id(2)})).await;
    assert_eq!(worker.until_done().await.last().unwrap()["reason"], "cancelled");
    assert_eq!(worker.turn(turn(3, "echo ok")).await.last().unwrap()["reply"], "ok\n");
}

/// A runner that wants to stay: it hears INT and TERM and goes on, with a child of its own and a model that thinks.
#[tokio::test]
async fn a_cancel_asks_then_kills_and_hangs_up_on_the_model() {
    use tokio::io::AsyncReadExt as _;
    let unit = Unit::new();
    let mut worker = unit.worker(1, "exec", &["/bin/bash", "-s"]);
    worker.turn(turn(1, "echo one >a")).await;
    let listener = tokio::net::UnixListener::bind(unit.path("sock-1/gateway.sock")).unwrap();
    let script = "trap 'echo INT >>$HOME/heard' INT; trap 'echo TERM >>$HOME/heard' TERM
        host=${ANTHROPIC_BASE_URL#http://}; host=${host%%/*}
        exec 3<>/dev/tcp/127.0.0.1/${host#*:} || exit 1; echo ask >&3
        echo two >a; (trap '' INT TERM; exec sleep 1000) & echo here; while :; do sleep 0.1; done";
    worker.entry(turn(2, script)).await;
    let (mut model, _) = listener.accept().await.unwrap();
    while worker.event().await["type"] != "message-delta" {}
    let begun = tokio::time::Instant::now();
    worker.entry(json!({"type": "cancel", "turn_id": turn_id(2)})).await;
    let events = worker.until_done().await;
    assert_eq!(events.last().unwrap()["reason"], "cancelled");
    assert!(begun.elapsed() < bench::SOON / 2, "INT, TERM and KILL within bounds: {:?}", begun.elapsed());
    assert_eq!(file(&unit.path("home/heard")).await, "INT\nTERM\n");
    let mut asked = Vec::new();
    model.read_to_end(&mut asked).await.unwrap();
    assert_eq!(asked, b"ask\n");
    assert!(model.try_write(b"thought").is_err(), "nobody is there any more");
    assert_eq!(file(&unit.path("workspace/a")).await, "one\n", "the tree is put back");
    assert_eq!(unit.git(&["status", "--porcelain"]), "");
    assert_eq!(worker.turn(turn(3, "echo warm")).await.last().unwrap()["reply"], "warm\n");
}

#[tokio::test]
async fn a_term_ends_the_runner_and_the_next_generation_takes_the_turn_up() {
    let unit = Unit::new();
    let mut worker = exec(&unit, 1);
    let script = "echo half >a; echo $$ >$HOME/pid; exec sleep 1000";
    worker.entry(turn(1, script)).await;
    let pid = file(&unit.path("home/pid")).await;
    worker.signal(Signal::TERM);
    let (code, said) = worker.ended().await;
    assert_eq!((code, types(&said)), (Some(0), vec!["turn-accepted"]), "nothing is said of its end");
    assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists());

    let mut worker = exec(&unit, 2);
    let again = with(turn(1, "echo whole >b"), json!({"attempt": 2, "unclean": {"notes": turn_id(1)}}));
    let events = worker.turn(again).await;
    assert_eq!(types(&events), ["turn-accepted", "commit", "done"]);
    assert!(detail(&events[2]).contains("refs/rekindle/interrupted/"), "{}", events[2]);
    assert!(!unit.path("workspace/a").exists());
    assert_eq!(unit.git(&["show", &format!("refs/rekindle/interrupted/{}:a", turn_id(1))]), "half\n");
}

#[tokio::test]
async fn a_turn_with_a_record_is_told_again_and_not_run() {
    let unit = Unit::new();
    let script = "echo run >>$HOME/runs; echo x >a; echo answer";
    let first = exec(&unit, 1).turn(turn(1, script)).await;
    let mut worker = exec(&unit, 2);
    for again in [turn(1, script), with(turn(1, script), json!({"tell": "dead", "unclean": {"notes": turn_id(1)}}))] {
        let events = worker.turn(again).await;
        assert_eq!(types(&events), ["commit", "done"]);
        assert_eq!(events[0]["sha"], first[2]["sha"]);
        assert_eq!(events[1]["reply"], "answer\n");
    }
    assert_eq!(file(&unit.path("home/runs")).await, "run\n");
}

#[tokio::test]
async fn a_record_stands_though_its_workspace_does_not() {
    let unit = Unit::new();
    let first = exec(&unit, 1).turn(turn(1, "echo x >a; echo answer")).await;
    std::fs::rename(unit.path("workspace"), unit.path("aside")).unwrap();
    std::fs::write(unit.path("workspace"), "a file").unwrap();
    let mut worker = exec(&unit, 2);
    let again = with(turn(1, "exit 1"), json!({"attempt": 2, "unclean": {"notes": turn_id(1)}}));
    for _ in 0..2 {
        let events = worker.turn(again.clone()).await;
        let done = events.last().unwrap();
        assert_eq!((types(&events), &done["ok"], &done["reply"]), (vec!["done"], &true.into(), &"answer\n".into()));
        assert!(detail(done).contains("is a file"), "{done}");
    }
    std::fs::remove_file(unit.path("workspace")).unwrap();
    std::fs::rename(unit.path("aside"), unit.path("workspace")).unwrap();
    let events = worker.turn(again).await;
    assert_eq!((types(&events), &events[0]["sha"]), (vec!["commit", "done"], &first[2]["sha"]));
}

#[tokio::test]
async fn a_turn_that_shall_only_be_told_is_not_run() {
    let unit = Unit::new();
    let mut worker = exec(&unit, 1);
    for (n, tell) in ["dead", "timeout", "cancelled"].into_iter().enumerate() {
        let events = worker.turn(with(turn(n as u64, "echo run >$HOME/runs"), json!({ "tell": tell }))).await;
        assert_eq!((types(&events), &events[0]["reason"]), (vec!["done"], &tell.into()));
    }
    assert!(!unit.path("home/runs").exists());
}

#[tokio::test]
async fn an_idle_worker_that_is_ended_packs_its_many_objects() {
    let unit = Unit::new();
    let loose = || unit.git(&["count-objects"]).split(' ').next().unwrap().parse::<u32>().unwrap();
    let mut worker = exec(&unit, 1);
    let script = "i=0; while [ $i -lt 2050 ]; do i=$((i+1)); echo $i >f$i; done";
    assert_eq!(worker.turn(turn(1, script)).await.last().unwrap()["ok"], true);
    assert!(loose() > 2_050);
    worker.signal(Signal::TERM);
    assert_eq!(worker.ended().await.0, Some(0));
    assert!(loose() < 2_000, "{} are left", loose());
    unit.git(&["fsck", "--strict", "--no-dangling"]);
    assert_eq!(unit.git(&["status", "--porcelain"]), "");
}

#[tokio::test]
async fn what_cannot_be_worked_on_is_told_and_the_worker_lives() {
    let unit = Unit::new();
    std::fs::remove_dir(unit.path("workspace")).unwrap();
    std::fs::write(unit.path("workspace"), "a file").unwrap();
    let mut worker = exec(&unit, 1);
    let events = worker.turn(turn(1, "true")).await;
    assert_eq!(types(&events), ["turn-accepted", "done"]);
    assert_eq!(events[1]["reason"], "workspace_unusable");
    std::fs::remove_file(unit.path("workspace")).unwrap();
    std::fs::create_dir(unit.path("workspace")).unwrap();
    assert_eq!(worker.turn(turn(2, "echo ok")).await.last().unwrap()["ok"], true);
    let unreadable = worker.turn(json!({"type": "message", "turn_id": turn_id(3)})).await;
    assert!(detail(&unreadable[0]).contains("cannot read the turn"), "{unreadable:?}");
}

#[tokio::test]
async fn a_fenced_worker_ends_its_runner_and_itself() {
    let unit = Unit::new();
    let mut worker = exec(&unit, 1);
    worker.entry(turn(1, "echo half >a; echo $$ >$HOME/pid; exec sleep 1000")).await;
    let pid = file(&unit.path("home/pid")).await;
    worker.answer(Answer::Fenced).await;
    let (code, said) = worker.ended().await;
    assert_eq!((code, types(&said)), (Some(3), vec!["turn-accepted"]));
    assert!(!std::path::Path::new(&format!("/proc/{}", pid.trim())).exists());
    assert!(unit.path("workspace/a").exists(), "it touches nothing any more");
}

#[tokio::test]
async fn as_the_first_process_of_a_sandbox_it_ends_everything_and_hears_term() {
    let unit = Unit::new();
    let around = [
        "bwrap",
        "--die-with-parent",
        "--unshare-user",
        "--uid",
        "10001",
        "--gid",
        "10001",
        "--unshare-pid",
        "--unshare-net",
        "--as-pid-1",
        "--bind",
        "/",
        "/",
        "--dev",
        "/dev",
        "--proc",
        "/proc",
    ];
    let mut worker = Worker::start(&unit, 1, "exec", SH, &around);
    let script = "setsid sh -c '(while :; do echo x >>late; done) &' & until [ -s late ]; do :; done; echo hi >a; ps ax >ps || true";
    let events = worker.turn(turn(1, script)).await;
    assert_eq!(types(&events), ["turn-accepted", "commit", "done"]);
    assert_eq!(unit.git(&["status", "--porcelain"]), "", "nothing writes any more");
    worker.entry(turn(2, "echo here >$HOME/here; exec sleep 1000")).await;
    file(&unit.path("home/here")).await;
    // As the shim does: to the process inside, not to bwrap.
    let tasks = format!("/proc/{0}/task/{0}/children", worker.pid.as_raw_nonzero());
    let inner = until(|| std::fs::read_to_string(&tasks).ok()?.trim().parse().ok()).await;
    rustix::process::kill_process(rustix::process::Pid::from_raw(inner).unwrap(), Signal::TERM).unwrap();
    assert_eq!(worker.ended().await.0, Some(0));
}

#[tokio::test]
async fn somebody_elses_worker_finds_plain_ports() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let unit = Unit::new();
    let listener = tokio::net::UnixListener::bind(unit.path("redis.sock")).unwrap();
    let script =
        "trap 'exit 5' TERM; echo \"$BUS $REDIS_URL $REKINDLE_COMMAND\" >$HOME/env; while :; do sleep 0.05; done";
    let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_rekindle-worker"))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", unit.path("home"))
        .env("BUS", "${redis_url}")
        .env("REDIS_URL", format!("redis+unix://{}", unit.path("redis.sock").display()))
        .env("REKINDLE_COMMAND", json!(["sh", "-c", script]).to_string())
        .spawn()
        .unwrap();
    let env = file(&unit.path("home/env")).await;
    let mut urls = env.split_whitespace();
    let url = urls.next().unwrap();
    assert_eq!((urls.next(), urls.next()), (Some(url), None), "{env}");
    let address = url.strip_prefix("redis://").unwrap().strip_suffix("/0").unwrap();
    let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
    client.write_all(b"PING\r\n").await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let mut got = [0; 6];
    server.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"PING\r\n");
    rustix::process::kill_process(rustix::process::Pid::from_child(&process), Signal::TERM).unwrap();
    assert_eq!(until(|| process.try_wait().unwrap()).await.code(), Some(5), "it ends as the program ends");
}

/// As installed: an idle worker costs at most 4 MiB, also when its last prompt was as large as one may be.
#[tokio::test]
async fn an_idle_worker_is_small_again_after_a_large_prompt() {
    let mut unit = Unit::new();
    unit.program = unit.program.with_file_name("rekindle-worker-static");
    assert!(unit.program.exists(), "{} is not built: run `make binaries`", unit.program.display());
    let mut worker = unit.worker(1, "echo", &[]);
    worker.turn(turn(1, &"x".repeat(1 << 20))).await;
    let status = format!("/proc/{}/status", worker.pid.as_raw_nonzero());
    let resident_kb = || {
        let status = std::fs::read_to_string(&status).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u32>().unwrap()
    };
    // The memory goes back right after the turn's end was told.
    let mut least = u32::MAX;
    let small = async {
        while least > 4 * 1024 {
            least = least.min(resident_kb());
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    let ended = tokio::time::timeout(std::time::Duration::from_secs(10), small).await;
    assert!(ended.is_ok(), "it keeps {least} KiB");
}
