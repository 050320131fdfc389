//! What a crash or a kill must not lose.

use std::time::Duration;

use contract::{StopReason, WorkloadState};

use super::bench::{Bench, LIMIT, Substrate, eventually};

pub async fn a_restart_finds_it_again(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let id = bench.running("sleep").await;
    let before = bench.runtime.get(&id).await.unwrap();
    bench.restart().await;
    assert_eq!(bench.runtime.get(&id).await.unwrap(), before);
    // Its sockets are served again.
    let sock = bench.config.store.join("generations").join(id.to_string()).join("sock/redis.sock");
    let stream = std::os::unix::net::UnixStream::connect(sock);
    assert!(stream.is_ok(), "{stream:?}");
    // And it can be stopped, and its end is seen.
    let status = bench.runtime.stop(&id, None).await.unwrap();
    assert_eq!((status.exit_code, status.stop_reason), (Some(42), Some(StopReason::Stopped)), "{status:?}");
    bench.clean().await;
}

pub async fn a_restart_in_the_middle_of_a_stop_sees_it_through(substrate: Substrate) {
    let mut bench = Bench::with(substrate, |config| config.stop_grace = Duration::from_secs(3600)).await;
    let id = bench.running("ignore-term").await;
    let runtime = bench.runtime.clone();
    let stopped = id.clone();
    let stopping =
        tokio::spawn(async move { runtime.stop(&stopped, Some(StopReason::MaxLifetime)).await.map(|s| s.state) });
    let workload = bench.runtime.inner.table.get(&id).await.unwrap();
    workload.wait(LIMIT, |s| s == WorkloadState::Stopping).await;
    stopping.abort();
    bench.config.stop_grace = Duration::from_millis(100);
    bench.restart().await;
    let status = bench.stopped(&id).await;
    assert_eq!((status.exit_code, status.stop_reason), (Some(137), Some(StopReason::MaxLifetime)), "{status:?}");
    bench.clean().await;
}

pub async fn an_end_between_two_runtimes_is_told(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let id = bench.running("sleep").await;
    let dir = bench.runtime.inner.store.generation(&id);
    // TERM reaches it while nobody watches.
    bench.runtime.close().await;
    bench.runtime.inner.backend.terminate(&dir).await.unwrap();
    if substrate == Substrate::Docker {
        let docker = bollard::Docker::connect_with_unix_defaults().unwrap();
        let name = format!("rekindle-{}-{id}", bench.config.deployment);
        let mut end = docker.wait_container(&name, None::<bollard::query_parameters::WaitContainerOptions>);
        let _ = futures_util::StreamExt::next(&mut end).await;
    } else {
        eventually("exit.json", || dir.path().join("exit.json").exists().then_some(())).await;
    }
    bench.restart().await;
    let status = bench.stopped(&id).await;
    assert_eq!((status.exit_code, status.stop_reason), (Some(42), Some(StopReason::Failed)), "{status:?}");
    bench.clean().await;
}

pub async fn a_start_that_was_cut_short_is_cleaned_up(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    bench.runtime.close().await;
    // As a runtime leaves it that is killed between the folder and the substrate.
    let spec = bench.spec("sleep");
    let id = spec.workload_id.clone();
    let status = serde_json::json!({
        "workloadId": id, "profile": "default", "state": "starting", "backend": bench.config.backend
    });
    let dir = bench.runtime.inner.store.generation(&id);
    dir.create(&spec, &contract::parse_value(status).unwrap()).unwrap();
    bench.restart().await;
    let status = bench.stopped(&id).await;
    assert_eq!(status.stop_reason, Some(StopReason::StartFailed), "{status:?}");
    assert!(status.detail.unwrap().contains("in the middle of this start"));
    assert_eq!(bench.left(&id).await, Vec::<String>::new());
    bench.clean().await;
}

/// The shim of a process, the first process of a container: whatever is killed, nothing goes on without it.
pub async fn everything_dies_with_what_holds_it(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let id = bench.running("fork").await;
    match substrate {
        Substrate::Docker => {
            let docker = bollard::Docker::connect_with_unix_defaults().unwrap();
            let name = format!("rekindle-{}-{id}", bench.config.deployment);
            docker.kill_container(&name, None::<bollard::query_parameters::KillContainerOptions>).await.unwrap();
        }
        Substrate::Bubblewrap | Substrate::Bare => {
            let path = bench.config.store.join("generations").join(id.to_string()).join("shim.pid");
            let shim: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
            let pid = i32::try_from(shim["pid"].as_i64().unwrap()).unwrap();
            rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), rustix::process::Signal::KILL)
                .unwrap();
        }
    }
    let status = bench.stopped(&id).await;
    assert_eq!(status.stop_reason, Some(StopReason::Failed), "{status:?}");
    if substrate != Substrate::Docker {
        assert_eq!(bench.left(&id).await, Vec::<String>::new());
    }
    assert_eq!(super::bench::marked_processes(&id), Vec::<String>::new());
    bench.clean().await;
}
