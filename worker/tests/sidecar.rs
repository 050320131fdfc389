//! The relay as a process of its own.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::AsyncReadExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn relays_with_the_token_of_a_file_until_term() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("sock")).unwrap();
    std::fs::write(dir.path().join("token"), "to.ken\n").unwrap();
    let gateway = UnixListener::bind(dir.path().join("worker.sock")).unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_rekindle-worker"))
        .args(["relay", "--sock"])
        .arg(dir.path().join("sock"))
        .arg("--token-file")
        .arg(dir.path().join("token"))
        .arg("--gateway")
        .arg(format!("unix://{}", dir.path().join("worker.sock").display()))
        .env_clear()
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let connecting = async {
        loop {
            if let Ok(client) = UnixStream::connect(dir.path().join("sock/redis.sock")).await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let _client = timeout(SOON, connecting).await.unwrap();
    let (mut server, _) = timeout(SOON, gateway.accept()).await.unwrap().unwrap();
    let mut preamble = vec![0; "REKINDLE/1 redis to.ken\n".len()];
    timeout(SOON, server.read_exact(&mut preamble)).await.unwrap().unwrap();
    assert_eq!(preamble, b"REKINDLE/1 redis to.ken\n");
    kill_process(Pid::from_child(&process), Signal::TERM).unwrap();
    assert!(process.wait().unwrap().success());
}

#[test]
fn a_wrong_call_says_how_to_call_it() {
    for args in [&["relay"][..], &["shim"], &["no-such"]] {
        let output = Command::new(env!("CARGO_BIN_EXE_rekindle-worker")).args(args).env_clear().output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&output.stderr).contains(if args[0] == "relay" {
            "--sock <dir>"
        } else {
            "usage:"
        }));
    }
    // Without a subcommand it is the worker, and misses its settings.
    let output = Command::new(env!("CARGO_BIN_EXE_rekindle-worker")).env_clear().output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("REKINDLE_UNIT is not set"));
}
