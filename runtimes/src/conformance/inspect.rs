//! Looks into a workspace: what they may, how long, and that nothing is left of them.

use std::time::Duration;

use contract::{InspectAnswer, InspectRequest, Look, WorkspaceId, WorkspacePath};
use tokio_util::sync::CancellationToken;

use super::bench::{Bench, LIMIT, Substrate};
use crate::client::RuntimeClient;
use crate::error::RuntimeError;
use crate::service::{Listener, serve};

fn request(what: &str, deadline_sec: Option<u64>) -> InspectRequest {
    let look = Look::Files { path: WorkspacePath::parse(what).unwrap() };
    InspectRequest { workspace: WorkspaceId::parse("notes").unwrap(), look, deadline_sec }
}

/// A workspace with a file in it, as a turn leaves one.
async fn bench(substrate: Substrate) -> Bench {
    let bench = Bench::new(substrate).await;
    bench.runtime.inner.store.ensure(&bench.uid(), &[&WorkspaceId::parse("notes").unwrap()]).unwrap();
    std::fs::write(bench.config.store.join("workspaces/notes/note"), "x").unwrap();
    bench
}

/// What the guest says it has seen.
async fn seen(bench: &Bench, what: &str) -> String {
    match bench.runtime.inspect(request(what, None)).await {
        Ok(InspectAnswer::Folder { path, .. }) => path,
        other => panic!("{other:?}"),
    }
}

#[track_caller]
fn unavailable(result: Result<InspectAnswer, RuntimeError>) -> String {
    match result {
        Err(RuntimeError::Unavailable { detail, .. }) => detail,
        other => panic!("{other:?}"),
    }
}

/// Processes that look into this bench's workspace, and containers.
async fn left(bench: &Bench) -> Vec<String> {
    let mut found = bench.runtime.inner.backend.inspects().await.unwrap();
    let store = bench.config.store.to_string_lossy().into_owned();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        let mounts = std::fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
        if line.starts_with(b"REKINDLE_INSPECT=") && mounts.contains(&store) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

async fn clean(bench: Bench) {
    let until = tokio::time::Instant::now() + LIMIT;
    while !left(&bench).await.is_empty() {
        assert!(tokio::time::Instant::now() < until, "left: {:?}", left(&bench).await);
        tokio::task::yield_now().await;
    }
    bench.clean().await;
}

pub async fn it_sees_one_workspace_read_only_and_nothing_else(substrate: Substrate) {
    let bench = bench(substrate).await;
    assert_eq!(seen(&bench, "").await, "seen, Read-only file system");
    assert!(!bench.config.store.join("workspaces/notes/new").exists());
    let names = seen(&bench, "environment").await;
    for name in names.split(' ').filter(|name| !name.is_empty()) {
        assert!(["REKINDLE_INSPECT", "PATH", "HOME", "HOSTNAME", "PWD"].contains(&name), "{name}");
    }
    let interfaces = seen(&bench, "network").await;
    if substrate != Substrate::Bare {
        assert_eq!(interfaces, "lo ");
    }
    clean(bench).await;
}

pub async fn it_ends_at_its_deadline_or_when_it_says_too_much(substrate: Substrate) {
    let bench = bench(substrate).await;
    let detail = unavailable(bench.runtime.inspect(request("sleep", Some(1))).await);
    assert!(detail.contains("not done within 1 s"), "{detail}");
    let detail = unavailable(bench.runtime.inspect(request("flood", None)).await);
    assert!(detail.contains("printed more than"), "{detail}");
    let detail = unavailable(bench.runtime.inspect(request("fail", None)).await);
    assert!(detail.contains("it went wrong here"), "{detail}");
    for wrong in [0, 61] {
        let refused = bench.runtime.inspect(request("", Some(wrong))).await;
        assert!(matches!(refused, Err(RuntimeError::Refused { .. })), "{refused:?}");
    }
    clean(bench).await;
}

pub async fn what_it_cannot_see_is_told(substrate: Substrate) {
    let bench = bench(substrate).await;
    let url = format!("unix://{}", bench.dir.path().join("run/runtime.sock").display());
    let listener = Listener::bind(&url).await.unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(bench.runtime.clone(), listener, None, stop.clone()));
    let client = RuntimeClient::new(&url, None).unwrap();
    assert!(matches!(client.inspect(&request("absent", None)).await, Err(RuntimeError::NotFound)));
    assert!(matches!(client.inspect(&request("", None)).await, Ok(InspectAnswer::Folder { .. })));
    let mut nowhere = request("", None);
    nowhere.workspace = WorkspaceId::parse("nowhere").unwrap();
    assert!(matches!(client.inspect(&nowhere).await, Err(RuntimeError::NotFound)));
    assert!(!bench.config.store.join("workspaces/nowhere").exists());
    // A link in the place of a workspace is none.
    std::os::unix::fs::symlink("/etc", bench.config.store.join("workspaces/nowhere")).unwrap();
    assert!(matches!(client.inspect(&nowhere).await, Err(RuntimeError::NotFound)));
    stop.cancel();
    serving.await.unwrap().unwrap();
    clean(bench).await;
}

pub async fn more_than_some_wait(substrate: Substrate) {
    let bench = bench(substrate).await;
    let look = |what: &'static str, sec| {
        let runtime = bench.runtime.clone();
        tokio::spawn(async move { runtime.inspect(request(what, Some(sec))).await })
    };
    let long: Vec<_> = (0..4).map(|_| look("sleep", 8)).collect();
    while bench.runtime.inner.inspects.free() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // The fifth waits, but not for ever.
    let detail = unavailable(look("", 10).await.unwrap());
    assert!(detail.contains("too many"), "{detail}");
    // Another one is there when a place gets free.
    let answer = look("", 10).await.unwrap();
    assert!(answer.is_ok(), "{answer:?}");
    for one in long {
        assert!(unavailable(one.await.unwrap()).contains("not done within 8 s"));
    }
    clean(bench).await;
}

pub async fn nothing_is_left_when_the_runtime_ends(substrate: Substrate) {
    let mut bench = bench(substrate).await;
    let runtime = bench.runtime.clone();
    let looking = tokio::spawn(async move { runtime.inspect(request("sleep", Some(60))).await });
    while left(&bench).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    // A caller that hangs up ends nothing, the runtime's end does.
    looking.abort();
    assert!(looking.await.unwrap_err().is_cancelled());
    bench.restart().await;
    assert_eq!(left(&bench).await, Vec::<String>::new());
    clean(bench).await;
}

/// A runtime that is killed leaves a container; the next one removes it. (A process dies with it: `tests/killed.rs`.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_runtime_left_is_removed() {
    let mut bench = bench(Substrate::Docker).await;
    let docker = bollard::Docker::connect_with_unix_defaults().unwrap();
    let name = format!("rekindle-{}-inspect-left", bench.config.deployment);
    let options = bollard::query_parameters::CreateContainerOptionsBuilder::new().name(&name).build();
    let labels = [
        ("rekindle.deployment", bench.config.deployment.clone()),
        ("rekindle.kind", "inspect".into()),
        ("rekindle.inspect", "left".into()),
    ];
    let body = bollard::models::ContainerCreateBody {
        image: Some(super::bench::EMPTY_IMAGE.into()),
        entrypoint: Some(vec!["/rekindle/worker".into()]),
        labels: Some(labels.map(|(k, v)| (k.into(), v)).into()),
        ..Default::default()
    };
    docker.create_container(Some(options), body).await.unwrap();
    assert_eq!(bench.runtime.inner.backend.inspects().await.unwrap(), ["left"]);
    bench.restart().await;
    let until = tokio::time::Instant::now() + LIMIT;
    while !bench.runtime.inner.backend.inspects().await.unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < until, "it is still there");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    bench.clean().await;
}
