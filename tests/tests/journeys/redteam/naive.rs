//! The services of a deployment without defences: they believe whatever they are told.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{Method, StatusCode, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;
use tests::paths;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::task::JoinHandle;

use super::program::{marked, plainly};

/// Ends a service with the value.
#[derive(Debug)]
pub(crate) struct Service(JoinHandle<()>);

impl Drop for Service {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A worker port that decodes a token and does not verify it, before a Redis that everybody may use.
pub(crate) fn worker_port(at: &Path, redis: &Path) -> Service {
    let listener = UnixListener::bind(at).expect("bind the naive worker port");
    let redis = redis.to_path_buf();
    Service(tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(carry(client, redis.clone()));
        }
    }))
}

async fn carry(client: UnixStream, redis: PathBuf) {
    let (read, mut write) = client.into_split();
    let mut read = BufReader::new(read);
    let mut line = String::new();
    let claims = |line: &str| {
        let token = line.strip_prefix("REKINDLE/1 redis ")?.trim_end().split('.').nth(1)?.to_owned();
        serde_json::from_slice::<Value>(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()
    };
    if read.read_line(&mut line).await.is_err() || claims(&line).is_none() {
        return;
    }
    let Ok(mut server) = UnixStream::connect(redis).await else { return };
    let (mut from, mut to) = server.split();
    // Whichever side ends first ends both.
    tokio::select! {
        _ = tokio::io::copy_buf(&mut read, &mut to) => {}
        _ = tokio::io::copy(&mut from, &mut write) => {}
    }
    let _ = write.shutdown().await;
}

/// A gateway that runs what it is asked to, where it is asked to, for whomever; the workspaces lie below `root`.
pub(crate) async fn gateway(root: &Path, socket: &Path) -> (String, Vec<Service>) {
    let app = Router::new().fallback(answer).with_state(Arc::new(root.to_path_buf()));
    let tcp = TcpListener::bind(("127.0.0.1", 0)).await.expect("listen on loopback");
    let address = tcp.local_addr().expect("its address").to_string();
    let unix = UnixListener::bind(socket).expect("bind the naive gateway's socket");
    let other = app.clone();
    let services = vec![
        Service(tokio::spawn(async move { axum::serve(tcp, app).await.expect("serve") })),
        Service(tokio::spawn(async move { axum::serve(unix, other).await.expect("serve") })),
    ];
    (address, services)
}

async fn answer(State(root): State<Arc<PathBuf>>, method: Method, uri: Uri, body: Bytes) -> (StatusCode, String) {
    let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
    let prompt = asked["prompt"].as_str().or_else(|| asked["start"]["entrypoint"]["inline"].as_str());
    if let (Method::POST, Some(prompt)) = (method, prompt) {
        let folder = root.join(asked["workspaces"][0]["id"].as_str().unwrap_or_default());
        return (StatusCode::OK, plainly(prompt, &folder, &[]).await);
    }
    if let Some((workspace, path)) = uri.path().strip_prefix("/v1/workspaces/").and_then(|p| p.split_once("/files/")) {
        let path = path.replace("%2e", ".");
        return match std::fs::read_to_string(root.join(workspace).join(path)) {
            Ok(text) => (StatusCode::OK, text),
            Err(e) => (StatusCode::NOT_FOUND, e.to_string()),
        };
    }
    (StatusCode::OK, marked("whatever-was-asked-for"))
}

/// Commits a workspace as most would: with the git that is there, as the workspace configures it.
pub(crate) async fn commit(folder: &Path, state: &Path, unit: &str) {
    const COMMIT: &str = "git add -A && git update-ref refs/rekindle/pending/$UNIT HEAD && git commit -qm turn; \
        sha=$(sed -n 's/.*\"sha\": *\"\\([0-9a-f]*\\)\".*/\\1/p' \"$STATE/record.json\" 2>/dev/null); \
        [ -z \"$sha\" ] || git update-ref HEAD \"$sha\"";
    let mut command = paths::command("/bin/sh");
    command.args(["-c", COMMIT]).current_dir(folder).env("STATE", state).env("UNIT", unit).env("HOME", folder);
    for (name, value) in [("AUTHOR", "Ann"), ("COMMITTER", "Naive")] {
        command.env(format!("GIT_{name}_NAME"), value).env(format!("GIT_{name}_EMAIL"), "ann@example.com");
    }
    // That it fails is what some tricks are after.
    let _ = tokio::process::Command::from(command).output().await.expect("run a shell");
}
