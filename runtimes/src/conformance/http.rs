//! The same life through `runtime.v1`.

use contract::{ErrorCode, StopReason, WorkloadState};
use tokio_util::sync::CancellationToken;

use super::bench::{Bench, LIMIT, Substrate};
use crate::client::RuntimeClient;
use crate::error::RuntimeError;
use crate::service::{Listener, serve};

pub async fn the_client_sees_what_happens(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let url = format!("unix://{}", bench.dir.path().join("run/runtime.sock").display());
    let listener = Listener::bind(&url).await.unwrap();
    let stop = CancellationToken::new();
    let serving = tokio::spawn(serve(bench.runtime.clone(), listener, None, stop.clone()));
    let client = RuntimeClient::new(&url, None).unwrap();
    let taken = Listener::bind(&url).await.map(drop).unwrap_err().to_string();
    assert!(taken.contains("another runtime listens there"), "{taken}");

    let mut watch = client.watch().await.unwrap();
    let spec = bench.spec("sleep");
    let id = spec.workload_id.clone();
    assert!(matches!(client.get(&id).await, Err(RuntimeError::NotFound)));
    let status = client.start(&spec).await.unwrap();
    assert_eq!(status.state, WorkloadState::Running, "{status:?}");
    assert_eq!(client.get(&id).await.unwrap(), status);
    assert_eq!(client.list().await.unwrap(), vec![status]);
    bench.report().await;
    let mut wrong = spec.clone();
    wrong.profile = "nope".into();
    match client.start(&wrong).await {
        Err(RuntimeError::Refused { problem }) => {
            assert_eq!(problem.kind, format!("urn:rekindle:error:{}", ErrorCode::UnknownProfile.as_str()));
        }
        other => panic!("not refused: {other:?}"),
    }
    match client.trash_workspace(&spec.mounts[0].workspace).await {
        Err(RuntimeError::Refused { problem }) => assert_eq!(problem.status, 409),
        other => panic!("not refused: {other:?}"),
    }
    let stopped = client.stop(&id, Some(StopReason::IdleTimeout)).await.unwrap();
    assert_eq!((stopped.exit_code, stopped.stop_reason), (Some(42), Some(StopReason::IdleTimeout)));
    assert!(matches!(client.start(&spec).await, Err(RuntimeError::Stale { highest }) if highest == id.generation));
    client.destroy(&id).await.unwrap();
    client.trash_workspace(&spec.mounts[0].workspace).await.unwrap();
    client.trash_state(&id.uid).await.unwrap();
    let mut states = Vec::new();
    while states.last() != Some(&WorkloadState::Destroyed) {
        states.push(tokio::time::timeout(LIMIT, watch.next()).await.unwrap().unwrap().state);
    }
    use WorkloadState::{Destroyed, Running, Starting, Stopped, Stopping};
    assert_eq!(states, [Starting, Running, Stopping, Stopped, Destroyed]);
    assert_eq!(client.health().await.unwrap().deployment, bench.config.deployment);

    stop.cancel();
    serving.await.unwrap().unwrap();
    assert!(matches!(client.list().await, Err(RuntimeError::Unavailable { .. })));
    bench.clean().await;
}

#[tokio::test]
async fn tcp_wants_the_token() {
    let bench = Bench::new(Substrate::Bare).await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stop = CancellationToken::new();
    let token = Some("a-token".to_owned());
    let serving = tokio::spawn(serve(bench.runtime.clone(), Listener::Tcp(listener), token.clone(), stop.clone()));
    for wrong in [None, Some("another".to_owned())] {
        match RuntimeClient::new(&url, wrong).unwrap().list().await {
            Err(RuntimeError::Refused { problem }) => assert_eq!(problem.status, 401),
            other => panic!("not refused: {other:?}"),
        }
    }
    assert_eq!(RuntimeClient::new(&url, token).unwrap().list().await.unwrap(), vec![]);
    stop.cancel();
    serving.await.unwrap().unwrap();
    let naked = Listener::bind("http://127.0.0.1:0").await.unwrap();
    assert!(serve(bench.runtime.clone(), naked, None, CancellationToken::new()).await.is_err());
    bench.clean().await;
}
