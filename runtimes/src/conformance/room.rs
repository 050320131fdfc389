//! What the disk has room for, and what is left on it. The same on every substrate.

use std::time::Duration;

use contract::{Mode, Mount, StopReason, WorkloadState, WorkspaceId};
use rustix::mount::{MountFlags, UnmountFlags};
use tokio_util::sync::CancellationToken;

use super::bench::{Bench, LIMIT, Substrate};
use crate::client::RuntimeClient;
use crate::error::RuntimeError;
use crate::service::{Listener, serve};

/// More than any disk has.
const TOO_MUCH_MB: u64 = 1 << 40;

async fn served(bench: &Bench) -> (RuntimeClient, tokio_util::sync::DropGuard) {
    let url = format!("unix://{}", bench.dir.path().join("runtime.sock").display());
    let (listener, stop) = (Listener::bind(&url).await.unwrap(), CancellationToken::new());
    tokio::spawn(serve(bench.runtime.clone(), listener, None, stop.clone()));
    (RuntimeClient::new(&url, None).unwrap(), stop.drop_guard())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_the_floor_nothing_starts_and_nothing_is_begun() {
    let mut bench = Bench::with(Substrate::Bare, |config| config.min_free_mb = TOO_MUCH_MB).await;
    let spec = bench.spec("sleep");
    {
        let (client, _serving) = served(&bench).await;
        match client.start(&spec).await {
            Err(RuntimeError::NoRoom { detail }) => assert!(detail.contains("runtime.min_free_mb"), "{detail}"),
            other => panic!("{other:?}"),
        }
        let room = client.health().await.unwrap().room;
        assert_eq!((room.is_enough(), room.floor_mb), (false, TOO_MUCH_MB));
        assert!(room.free_mb > 0 && room.free_mb < TOO_MUCH_MB);
        assert_eq!(client.list().await.unwrap(), vec![]);
    }
    bench.config.min_free_mb = 1;
    bench.restart().await;
    // The very same generation: it never began.
    bench.start_ready(spec).await;
    assert!(bench.runtime.health().await.unwrap().room.is_enough());
    bench.clean().await;
}

/// A disk that nobody else writes to. Only root may mount one.
struct Disk(tempfile::TempDir);

impl Disk {
    fn of_mb(mb: u64) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = std::ffi::CString::new(format!("size={mb}m,mode=0755")).unwrap();
        rustix::process::geteuid().is_root().then(|| {
            rustix::mount::mount(c"tmpfs", dir.path(), c"tmpfs", MountFlags::empty(), size.as_c_str()).unwrap();
            Self(dir)
        })
    }

    /// A runtime whose store lies there.
    async fn bench(&self, floor_mb: u64) -> Bench {
        Bench::with(Substrate::Bare, |config| {
            config.store = self.0.path().join("store");
            config.min_free_mb = floor_mb;
        })
        .await
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What holds it still is gone a moment later.
        let _ = rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

fn write_mb(path: std::path::PathBuf, mb: usize) {
    std::fs::write(path, vec![1; mb << 20]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_the_floor_the_heaviest_writer_is_stopped() {
    let Some(disk) = Disk::of_mb(256) else { return };
    let mut bench = disk.bench(1).await;
    let id = bench.running("sleep").await;
    bench.config.min_free_mb = TOO_MUCH_MB;
    bench.restart().await;
    let workspace = bench.runtime.inner.store.workspace(&bench.uid().own_workspace());
    // What is written goes on growing, as it does until somebody is stopped.
    let growing = async {
        for n in 0.. {
            write_mb(workspace.join(n.to_string()), 1);
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let workload = bench.runtime.inner.table.get(&id).await.unwrap();
    let status = tokio::select! {
        status = workload.wait(LIMIT, |s| !s.is_alive()) => status,
        () = growing => unreachable!(),
    };
    assert_eq!((status.state, status.stop_reason), (WorkloadState::Stopped, Some(StopReason::Failed)), "{status:?}");
    let detail = status.detail.unwrap();
    assert!(detail.contains("the disk is nearly full") && detail.contains("wrote most"), "{detail}");
    bench.clean().await;
}

/// Somebody else fills the disk, while a workload that holds much writes a little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn below_the_floor_nobody_is_stopped_who_did_not_take_the_room() {
    let Some(disk) = Disk::of_mb(160) else { return };
    let mut bench = disk.bench(80).await;
    let id = bench.running("sleep").await;
    let workspace = bench.runtime.inner.store.workspace(&bench.uid().own_workspace());
    write_mb(workspace.join("large"), 30);
    let mut before = None;
    bench.runtime.inner.look_at_room(&mut before).await;
    // Each time the workload first: whenever the runtime itself looks, the other one took more.
    for (name, own_mb, others_mb) in [("one", 3, 60), ("two", 2, 8), ("three", 2, 8)] {
        write_mb(workspace.join(name), own_mb);
        write_mb(disk.0.path().join(name), others_mb);
        bench.runtime.inner.look_at_room(&mut before).await;
        assert!(!bench.runtime.inner.room().unwrap().is_enough(), "it is below the floor");
        assert_eq!(bench.runtime.get(&id).await.unwrap().state, WorkloadState::Running, "{name}");
    }
    // Until there is room again nothing starts, not even the one that runs.
    let spec = bench.spec("sleep");
    assert!(matches!(bench.runtime.start(spec).await, Err(RuntimeError::NoRoom { .. })));
    for name in ["one", "two", "three"] {
        std::fs::remove_file(disk.0.path().join(name)).unwrap();
    }
    bench.running("sleep").await;
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_workload_that_outgrows_its_workspace_is_stopped_and_one_that_only_reads_it_is_not() {
    let mut bench = Bench::with(Substrate::Bare, |config| {
        config.profiles.get_mut("default").unwrap().workspace_max_mb = Some(4);
    })
    .await;
    let shared = WorkspaceId::parse("shared").unwrap();
    let mut spec = bench.spec("sleep");
    spec.mounts = vec![Mount { workspace: shared.clone(), mode: Mode::Ro }];
    let reader = bench.start_ready(spec).await;
    let store = &bench.runtime.inner.store;
    std::fs::write(store.workspace(&shared).join("large"), vec![1; 8 << 20]).unwrap();
    let mut look = None;
    bench.runtime.inner.look_at_room(&mut look).await;
    assert_eq!(bench.runtime.get(&reader).await.unwrap().state, WorkloadState::Running);

    let mut spec = bench.spec("sleep");
    spec.mounts.insert(0, Mount { workspace: shared, mode: Mode::Rw });
    let writer = bench.start_ready(spec).await;
    let status = bench.stopped(&writer).await;
    assert_eq!(status.stop_reason, Some(StopReason::Failed), "{status:?}");
    let detail = status.detail.unwrap();
    assert!(detail.contains("workspace shared") && detail.contains("workspace_max_mb = 4"), "{detail}");

    let profile = bench.config.profiles.get_mut("default").unwrap();
    (profile.workspace_max_mb, profile.workspace_max_files) = (None, 2000);
    bench.restart().await;
    let writer = bench.running("sleep").await;
    let names = bench.runtime.inner.store.workspace(&bench.uid().own_workspace()).join("names");
    (0..2500).for_each(|n| std::fs::create_dir_all(names.join(n.to_string())).unwrap());
    let detail = bench.stopped(&writer).await.detail.unwrap();
    assert!(detail.contains("more files than workspace_max_files = 2000"), "{detail}");
    bench.clean().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_is_listed_and_can_be_removed() {
    let mut bench = Bench::new(Substrate::Bare).await;
    // Of a lower generation: to destroy one is to destroy those below it.
    let broken = bench.spec("sleep").workload_id;
    let id = bench.running("sleep").await;
    let folder = bench.runtime.inner.store.generation(&broken);
    std::fs::create_dir(folder.path()).unwrap();
    std::fs::write(folder.path().join("spec.json"), "not a spec").unwrap();
    bench.restart().await;
    let (client, serving) = served(&bench).await;
    let found = client.leftovers().await.unwrap();
    assert_eq!((found.folders, found.trash), (vec![broken.clone()], vec![]));
    client.destroy(&broken).await.unwrap();
    assert!(!folder.path().exists());

    client.stop(&id, None).await.unwrap();
    client.trash_workspace(&bench.uid().own_workspace()).await.unwrap();
    let found = client.leftovers().await.unwrap();
    assert_eq!(found.folders, vec![]);
    assert_eq!(found.trash.len(), 1);
    assert!(found.trash[0].age_sec < 60, "{found:?}");
    client.remove_trash(&found.trash[0].id).await.unwrap();
    client.remove_trash(&found.trash[0].id).await.unwrap();
    assert_eq!(client.leftovers().await.unwrap().trash, vec![]);
    assert!(matches!(client.remove_trash("..").await, Err(RuntimeError::Refused { .. } | RuntimeError::NotFound)));
    assert!(matches!(client.remove_trash("notes").await, Err(RuntimeError::Refused { .. })));
    assert!(bench.state().is_dir());
    drop(serving);
    bench.clean().await;
}
