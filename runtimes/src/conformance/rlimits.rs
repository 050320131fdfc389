//! What holds, and what is said, where a host has less to offer: no cgroups, no bubblewrap.

use contract::StopReason;
use settings::Isolation;

use super::bench::{Bench, Substrate, shim};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_cgroups_memory_is_limited_and_told_as_a_failure() {
    let mut bench = Bench::with(Substrate::Bubblewrap, |config| config.cgroups = false).await;
    let mut spec = bench.spec("eat-memory");
    spec.resources.memory_mb = Some(32);
    let id = spec.workload_id.clone();
    bench.runtime.start(spec).await.unwrap();
    let status = bench.stopped(&id).await;
    // What the program says when it gets no more.
    assert_eq!((status.exit_code, status.stop_reason), (Some(12), Some(StopReason::Failed)), "{status:?}");
    bench.clean().await;
}

/// The real worker, around a program that is told as a foreign one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_cgroups_a_fork_bomb_is_held_by_the_worker() {
    let mut bench = foreign(|config| config.cgroups = false, "/guest/guest").await;
    bench.running("fork-bomb").await;
    let report = bench.report().await;
    let born: u64 = report.lines().find_map(|l| l.strip_prefix("born=")?.parse().ok()).expect("a number");
    assert!((30..40).contains(&born), "{report}");
    bench.clean().await;
}

/// Beside the real worker, as its child and of its uid: nothing of what it knows can be read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_worker_cannot_be_looked_into() {
    let look = "for f in environ maps mem auxv stack; do cat /proc/1/$f >/dev/null && echo $f; done; \
                for f in fd fdinfo cwd/ root/ map_files; do ls /proc/1/$f >/dev/null && echo $f; done; \
                ls -d /proc/[0-9]* | wc -l | xargs echo processes; echo looked";
    let mut bench = foreign(|_| {}, "/bin/sh").await;
    let mut spec = bench.spec("");
    let script = format!(
        "exec 2>/dev/null; ({look}) > $REKINDLE_STATE/new; mv $REKINDLE_STATE/new $REKINDLE_STATE/report; exec sleep 1000"
    );
    bench.config.profiles.get_mut("default").unwrap().command = vec!["/bin/sh".into(), "-c".into(), script];
    bench.restart().await;
    spec.env.remove("SCRIPT");
    bench.start_ready(spec).await;
    let report = bench.report().await;
    let lines: Vec<_> = report.lines().collect();
    assert_eq!(lines.last(), Some(&"looked"), "{report}");
    // Processes of the sandbox are there, and nothing of the first of them was.
    assert_eq!(lines.len(), 2, "{report}");
    assert!(lines[0].starts_with("processes "), "{report}");
    bench.clean().await;
}

async fn foreign(change: impl FnOnce(&mut crate::RuntimeConfig), program: &str) -> Bench {
    Bench::with(Substrate::Bubblewrap, |config| {
        change(config);
        let guest = std::mem::replace(&mut config.worker_binary, shim().to_owned());
        let profile = config.profiles.get_mut("default").unwrap();
        profile.pids = 40;
        profile.command = vec![program.to_owned()];
        if program.starts_with("/guest") {
            profile.command = vec![guest.display().to_string()];
            profile.process_paths = vec![guest.parent().unwrap().to_owned()];
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_that_demands_isolation_is_refused_where_there_is_none() {
    let demand = |config: &mut crate::RuntimeConfig| {
        config.profiles.get_mut("default").unwrap().isolation = Isolation::Required;
    };
    let mut bench = Bench::with(Substrate::Bare, demand).await;
    let spec = bench.spec("sleep");
    let status = bench.runtime.start(spec).await.unwrap();
    assert_eq!(status.stop_reason, Some(StopReason::StartFailed), "{status:?}");
    assert!(status.detail.as_deref().unwrap_or_default().contains("demands isolation"), "{status:?}");
    bench.clean().await;
    for substrate in [Substrate::Bubblewrap, Substrate::Docker] {
        let mut bench = Bench::with(substrate, demand).await;
        bench.running("sleep").await;
        bench.clean().await;
    }
}
