//! The workloads that are known, and the order in which their changes are told.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use contract::{Mode, StopReason, UnitId, WorkloadId, WorkloadSpec, WorkloadState, WorkloadStatus, WorkspaceId};
use tokio::sync::{Mutex, OwnedMutexGuard, broadcast, watch};
use tokio_util::sync::CancellationToken;

/// Changes that a slow watcher may be behind before it is told everything anew.
const CHANGES_KEPT: usize = 1024;

/// One workload.
#[derive(Debug)]
pub(crate) struct Workload {
    pub id: WorkloadId,
    /// What is known of it; also what one waits on.
    pub status: watch::Sender<WorkloadStatus>,
    pub callback_url: Option<String>,
    pub max_lifetime: Option<Duration>,
    pub mounts: Vec<WorkspaceId>,
    /// Those of them that it may write to.
    pub writable: Vec<WorkspaceId>,
    /// Ends a start that still waits for something.
    pub abort: CancellationToken,
    /// Ends its relay.
    pub relay: CancellationToken,
    /// A task of this process is starting it; nobody else judges it meanwhile.
    pub launching: AtomicBool,
    /// Why it was asked to end; the first one counts.
    pub requested: OnceLock<StopReason>,
}

impl Workload {
    pub fn new(status: WorkloadStatus, spec: Option<&WorkloadSpec>, launching: bool) -> Arc<Self> {
        let requested = OnceLock::new();
        if let (WorkloadState::Stopping, Some(reason)) = (status.state, status.stop_reason) {
            requested.get_or_init(|| reason);
        }
        Arc::new(Self {
            id: status.workload_id.clone(),
            callback_url: spec.and_then(|s| s.callback_url.clone()),
            max_lifetime: spec.and_then(|s| s.max_lifetime_sec).map(Duration::from_secs),
            mounts: spec.map(|s| s.mounts.iter().map(|m| m.workspace.clone()).collect()).unwrap_or_default(),
            writable: spec.map(writable).unwrap_or_default(),
            status: watch::Sender::new(status),
            abort: CancellationToken::new(),
            relay: CancellationToken::new(),
            launching: AtomicBool::new(launching),
            requested,
        })
    }

    pub fn state(&self) -> WorkloadState {
        self.status.borrow().state
    }

    pub fn snapshot(&self) -> WorkloadStatus {
        self.status.borrow().clone()
    }

    /// Waits until its state is such a one, at most for `limit`; then whatever it is.
    pub async fn wait(&self, limit: Duration, until: impl Fn(WorkloadState) -> bool) -> WorkloadStatus {
        let mut changes = self.status.subscribe();
        // Neither the end of the time nor a closed channel is an error: the status is told as it is.
        let _ = tokio::time::timeout(limit, changes.wait_for(|s| until(s.state))).await;
        self.snapshot()
    }
}

fn writable(spec: &WorkloadSpec) -> Vec<WorkspaceId> {
    spec.mounts.iter().filter(|m| m.mode == Mode::Rw).map(|m| m.workspace.clone()).collect()
}

/// All workloads. A change and what is told of it happen under one lock, so that a watcher which begins with a list and
/// goes on with changes never goes back in time.
#[derive(Debug)]
pub(crate) struct Table {
    workloads: Mutex<BTreeMap<String, Arc<Workload>>>,
    changes: broadcast::Sender<WorkloadStatus>,
}

impl Table {
    pub fn new() -> Self {
        Self { workloads: Mutex::default(), changes: broadcast::Sender::new(CHANGES_KEPT) }
    }

    pub async fn insert(&self, workload: Arc<Workload>) {
        self.workloads.lock().await.insert(workload.id.to_string(), workload);
    }

    pub async fn get(&self, id: &WorkloadId) -> Option<Arc<Workload>> {
        self.workloads.lock().await.get(&id.to_string()).cloned()
    }

    pub async fn all(&self) -> Vec<Arc<Workload>> {
        self.workloads.lock().await.values().cloned().collect()
    }

    /// The workloads of one unit.
    pub async fn of_unit(&self, uid: &UnitId) -> Vec<Arc<Workload>> {
        let first = format!("{uid}-");
        let table = self.workloads.lock().await;
        table.range(first.clone()..).take_while(|(id, _)| id.starts_with(&first)).map(|(_, w)| Arc::clone(w)).collect()
    }

    /// All statuses, and every change from then on.
    pub async fn watch(&self) -> (Vec<WorkloadStatus>, broadcast::Receiver<WorkloadStatus>) {
        let table = self.workloads.lock().await;
        (table.values().map(|w| w.snapshot()).collect(), self.changes.subscribe())
    }

    /// Changes the status of a workload if `change` says that there is anything to change. `keep` is called with the new
    /// status before anybody sees it. A destroyed workload leaves the table.
    pub async fn change<F>(
        &self,
        workload: &Workload,
        change: impl FnOnce(&mut WorkloadStatus) -> bool + Send,
        keep: impl FnOnce(WorkloadStatus) -> F + Send,
    ) -> io::Result<bool>
    where
        F: Future<Output = io::Result<()>> + Send,
    {
        let mut table = self.workloads.lock().await;
        let mut status = workload.snapshot();
        if !change(&mut status) {
            return Ok(false);
        }
        let kept = keep(status.clone()).await;
        if status.state == WorkloadState::Destroyed {
            table.remove(&workload.id.to_string());
        }
        workload.status.send_replace(status.clone());
        // Nobody may be watching.
        let _ = self.changes.send(status);
        kept.map(|()| true)
    }
}

/// One lock for each unit, held by what creates or removes a generation of it.
#[derive(Debug, Default)]
pub(crate) struct UnitLocks {
    locks: Mutex<HashMap<UnitId, Weak<Mutex<()>>>>,
}

impl UnitLocks {
    pub async fn lock(&self, uid: &UnitId) -> OwnedMutexGuard<()> {
        let lock = {
            let mut locks = self.locks.lock().await;
            if locks.len() >= 1024 {
                locks.retain(|_, lock| lock.strong_count() > 0);
            }
            match locks.get(uid).and_then(Weak::upgrade) {
                Some(lock) => lock,
                None => {
                    let lock = Arc::new(Mutex::new(()));
                    locks.insert(uid.clone(), Arc::downgrade(&lock));
                    lock
                }
            }
        };
        lock.lock_owned().await
    }
}
