//! The ordinary life.

use std::time::Duration;

use contract::{StopReason, WorkloadState};

use super::bench::{Bench, Substrate, granted};
use crate::error::RuntimeError;

pub async fn starts_and_runs(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let id = bench.running("sleep").await;
    let status = bench.runtime.get(&id).await.unwrap();
    assert_eq!(status.state, WorkloadState::Running);
    assert_eq!(status.backend, bench.config.backend);
    assert!(status.started_at.is_some() && status.stopped_at.is_none());
    assert_eq!(bench.runtime.list().await, vec![status]);
    assert!(!bench.left(&id).await.is_empty());
    bench.clean().await;
}

pub async fn tells_the_exit_code(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let spec = bench.spec("exit0");
    let id = spec.workload_id.clone();
    bench.runtime.start(spec).await.unwrap();
    let status = bench.stopped(&id).await;
    assert_eq!((status.exit_code, status.stop_reason), (Some(0), Some(StopReason::Completed)), "{status:?}");
    assert!(status.stopped_at.is_some());
    bench.clean().await;
}

pub async fn tells_a_failure_with_its_last_words(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let spec = bench.spec("exit7");
    let id = spec.workload_id.clone();
    bench.runtime.start(spec).await.unwrap();
    let status = bench.stopped(&id).await;
    assert_eq!((status.exit_code, status.stop_reason), (Some(7), Some(StopReason::Failed)), "{status:?}");
    assert_eq!(status.detail.as_deref(), Some("it went wrong here"));
    bench.clean().await;
}

pub async fn tells_a_signal(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let spec = bench.spec("abort");
    let id = spec.workload_id.clone();
    bench.runtime.start(spec).await.unwrap();
    let status = bench.stopped(&id).await;
    assert_eq!((status.exit_code, status.stop_reason), (Some(128 + 11), Some(StopReason::Failed)), "{status:?}");
    bench.clean().await;
}

pub async fn stops_with_term(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let id = bench.running("sleep").await;
    let status = bench.runtime.stop(&id, Some(StopReason::IdleTimeout)).await.unwrap();
    // 42 is what the script's own handler says.
    assert_eq!((status.state, status.exit_code), (WorkloadState::Stopped, Some(42)), "{status:?}");
    assert_eq!(status.stop_reason, Some(StopReason::IdleTimeout));
    // Stopping what is stopped changes nothing.
    assert_eq!(bench.runtime.stop(&id, None).await.unwrap(), status);
    bench.clean().await;
}

pub async fn kills_after_the_grace(substrate: Substrate) {
    let grace = Duration::from_millis(300);
    let mut bench = Bench::with(substrate, |config| config.stop_grace = grace).await;
    let id = bench.running("ignore-term").await;
    let before = tokio::time::Instant::now();
    let status = bench.runtime.stop(&id, None).await.unwrap();
    assert!(before.elapsed() >= grace);
    assert_eq!((status.exit_code, status.stop_reason), (Some(137), Some(StopReason::Stopped)), "{status:?}");
    bench.clean().await;
}

pub async fn a_start_is_idempotent(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let spec = bench.spec("sleep");
    let many = (0..4).map(|_| bench.runtime.start(spec.clone()));
    let statuses = futures_util::future::join_all(many).await;
    let first = statuses[0].as_ref().unwrap().clone();
    assert_eq!(first.state, WorkloadState::Running, "{first:?}");
    for status in statuses {
        assert_eq!(status.unwrap(), first);
    }
    assert_eq!(bench.runtime.list().await.len(), 1);
    bench.clean().await;
}

pub async fn ended_and_lower_generations_are_refused(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let lower = bench.spec("sleep");
    let spec = bench.spec("sleep");
    let id = bench.start_ready(spec.clone()).await;
    let stale = |result: Result<_, RuntimeError>| match result {
        Err(RuntimeError::Stale { highest }) => highest,
        other => panic!("not refused: {other:?}"),
    };
    assert_eq!(stale(bench.runtime.start(lower.clone()).await), id.generation);
    bench.runtime.stop(&id, None).await.unwrap();
    assert_eq!(stale(bench.runtime.start(spec.clone()).await), id.generation);
    bench.runtime.destroy(&id).await.unwrap();
    assert_eq!(stale(bench.runtime.start(spec.clone()).await), id.generation);
    assert_eq!(stale(bench.runtime.start(lower.clone()).await), id.generation);
    // Also by one that was not there when it ended.
    bench.restart().await;
    assert_eq!(stale(bench.runtime.start(spec).await), id.generation);
    let mut old = lower;
    old.unit.generation.0 -= 2 * 3_600_000;
    old.workload_id.generation = old.unit.generation;
    assert!(stale(bench.runtime.start(granted(old)).await) >= id.generation);
    assert_eq!(bench.runtime.list().await, vec![]);
    bench.clean().await;
}

pub async fn a_higher_generation_replaces_a_lower(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let first = bench.running("ignore-term").await;
    let second = bench.running("sleep").await;
    assert_eq!(bench.left(&first).await, Vec::<String>::new());
    assert!(matches!(bench.runtime.get(&first).await, Err(RuntimeError::NotFound)));
    assert_eq!(bench.runtime.get(&second).await.unwrap().state, WorkloadState::Running);
    bench.clean().await;
}

pub async fn destroy_leaves_nothing(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let id = bench.running("fork").await;
    assert!(!bench.left(&id).await.is_empty());
    bench.runtime.destroy(&id).await.unwrap();
    assert_eq!(bench.left(&id).await, Vec::<String>::new());
    assert!(!bench.config.store.join("generations").join(id.to_string()).exists());
    assert!(matches!(bench.runtime.get(&id).await, Err(RuntimeError::NotFound)));
    // Once more, and one that never was.
    bench.runtime.destroy(&id).await.unwrap();
    let alive = bench.running("sleep").await;
    let never = bench.spec("sleep");
    bench.runtime.destroy(&never.workload_id).await.unwrap();
    assert!(bench.state().is_dir());
    // Whoever hears that it is gone gives its workspaces on: no lower one is left, and its own start, which was on its way,
    // comes to nothing.
    assert_eq!(bench.left(&alive).await, Vec::<String>::new());
    let highest = never.workload_id.generation;
    let late = bench.runtime.start(never).await;
    assert!(matches!(late, Err(RuntimeError::Stale { highest: h }) if h == highest), "{late:?}");
    bench.clean().await;
}

pub async fn a_failed_start_says_why(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let own = bench.spec("sleep").mounts[0].workspace.clone();
    let workspace = bench.config.store.join("units").join(own.as_str()).join("workspace");
    std::fs::create_dir_all(workspace.parent().unwrap()).unwrap();
    std::fs::write(&workspace, "a file in the place of a folder").unwrap();
    let spec = bench.spec("sleep");
    let status = bench.runtime.start(spec.clone()).await.unwrap();
    assert_eq!((status.state, status.stop_reason), (WorkloadState::Stopped, Some(StopReason::StartFailed)));
    assert!(status.detail.as_deref().unwrap_or_default().contains("is not a folder"), "{status:?}");
    assert_eq!(bench.left(&spec.workload_id).await, Vec::<String>::new());
    // With the reason gone the next generation starts.
    std::fs::remove_file(&workspace).unwrap();
    bench.running("sleep").await;
    bench.clean().await;
}

pub async fn lives_no_longer_than_it_may(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let mut spec = bench.spec("sleep");
    spec.max_lifetime_sec = Some(1);
    let id = bench.start_ready(spec).await;
    let status = bench.stopped(&id).await;
    assert_eq!((status.exit_code, status.stop_reason), (Some(42), Some(StopReason::MaxLifetime)), "{status:?}");
    bench.clean().await;
}
