//! What a workload leaves to, or says to, those who look after it.

use std::path::Path;
use std::time::Duration;

use contract::{Mount, Owner, StopReason, UnitId, UnitName, WorkloadState};

use super::bench::{Bench, Substrate, granted};

/// Much longer than an end takes, and less than what is waited for processes that do not end.
const PROMPTLY: Duration = Duration::from_secs(15);

/// 20,000 folders in each other, of 255 bytes each, in all that it may write to: they are measured, removed, trashed, and
/// nothing of them is left.
pub async fn nested_folders_end_nobody(substrate: Substrate) {
    let mut bench = Bench::in_memory(substrate).await;
    let id = bench.running("nest").await;
    bench.runtime.inner.look_at_room(&mut None).await;
    let workload = bench.runtime.inner.table.get(&id).await.unwrap();
    assert_eq!(workload.state(), WorkloadState::Running);
    let store = &bench.runtime.inner.store;
    let home = store.generation(&id).home();
    assert_eq!((entries(&home), entries(&bench.state())), (20_003, 20_004));
    bench.runtime.destroy(&id).await.unwrap();
    assert!(!home.exists());
    bench.runtime.trash_workspace(&bench.uid().own_workspace()).await.unwrap();
    bench.runtime.trash_state(&bench.uid()).await.unwrap();
    let trash = bench.runtime.leftovers().await.unwrap().trash;
    assert_eq!(trash.len(), 2);
    for entry in trash {
        bench.runtime.remove_trash(&entry.id).await.unwrap();
    }
    assert_eq!(entries(&bench.config.store.join("trash")), 0);
    bench.clean().await;
}

/// As find(1) counts them.
fn entries(top: &Path) -> usize {
    let find = std::process::Command::new("find").arg(top).args(["-mindepth", "1", "-printf", "x"]).output();
    find.expect("run find").stdout.len()
}

/// Who closes its workspace and its state closes them to nobody else.
pub async fn closed_folders_are_open_to_the_next(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let id = bench.running("close").await;
    bench.runtime.stop(&id, Some(StopReason::Stopped)).await.unwrap();
    let mut spec = bench.spec("touch");
    spec.env.insert("TARGET".into(), "${workspace}/new".into());
    bench.start_ready(spec).await;
    assert_eq!(bench.report().await, "written");
    bench.clean().await;
}

/// A process of one unit that bears the names of another: it is the first one's, and the other's end does not wait for it.
pub async fn a_process_is_nobody_elses_by_what_it_says(substrate: Substrate) {
    let mut bench = Bench::new(substrate).await;
    let victim = bench.running("sleep").await;
    let mut spec = bench.spec("lie");
    let liar = UnitId::of(&Owner::parse("liar").unwrap(), &UnitName::parse("liar").unwrap());
    spec.workload_id.uid = liar.clone();
    spec.unit.uid = liar.clone();
    spec.mounts = vec![Mount { workspace: liar.own_workspace(), mode: contract::Mode::Rw }];
    let folder = bench.runtime.inner.store.generation(&victim).path().display().to_string();
    spec.env.extend([
        ("LIE_UNIT".into(), victim.uid.to_string()),
        ("LIE_GENERATION".into(), victim.generation.to_string()),
        ("LIE_FOLDER".into(), folder),
    ]);
    let id = spec.workload_id.clone();
    assert_eq!(bench.runtime.start(granted(spec)).await.unwrap().state, WorkloadState::Running);
    let told = bench.runtime.inner.store.state(&liar).join("report");
    super::bench::eventually("the lie", || told.exists().then_some(())).await;
    if substrate != Substrate::Docker {
        assert!(super::bench::marked_processes(&victim).len() >= 2, "it bears the victim's names");
    }

    tokio::time::timeout(PROMPTLY, bench.runtime.destroy(&victim)).await.expect("a prompt end").unwrap();
    // Neither was it ended for the other: its first process ends with the one that lies.
    let workload = bench.runtime.inner.table.get(&id).await.unwrap();
    bench.runtime.inner.look_at(&workload).await;
    assert_eq!(workload.state(), WorkloadState::Running, "{:?}", workload.status.borrow());
    bench.runtime.destroy(&id).await.unwrap();
    assert_eq!(super::bench::marked_processes(&victim), Vec::<String>::new());
    bench.clean().await;
}
