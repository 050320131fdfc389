//! The port: start, look, stop, destroy.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contract::{ErrorCode, StopReason, UnitId, WorkloadId, WorkloadSpec, WorkloadState, WorkloadStatus, WorkspaceId};
use jiff::Timestamp;
use tokio::sync::{Mutex, broadcast, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::backend::{Backend, Launch};
use crate::callbacks::Callbacks;
use crate::config::RuntimeConfig;
use crate::error::RuntimeError;
use crate::generation::GenerationDir;
use crate::inspect::Inspects;
use crate::service::Health;
use crate::spec;
use crate::store::Store;
use crate::table::{Table, UnitLocks, Workload};
use crate::tombstones::Tombstones;

/// How long a call waits for a start before it tells that it is `starting`.
const START_ANSWER: Duration = Duration::from_secs(30);
/// How long a stop waits, after its grace, for the substrate to confirm.
const STOP_ANSWER: Duration = Duration::from_secs(30);
/// How long a call waits for the substrate's first answer after the runtime's start.
const READY_ANSWER: Duration = Duration::from_secs(5);
/// How long a shutdown waits for what is being done. What is cut off is found again.
const CLOSE_LIMIT: Duration = Duration::from_secs(10);

/// Runs workloads. Cheap to clone. Dropping it ends no workload; [`Runtime::close`] it before another one opens its store.
#[derive(Debug, Clone)]
pub struct Runtime {
    pub(crate) inner: Arc<Inner>,
}

/// What the port is made of; `life` and `restore` add the rest.
#[derive(Debug)]
pub(crate) struct Inner {
    pub config: RuntimeConfig,
    pub store: Store,
    pub tombstones: Tombstones,
    pub callbacks: Callbacks,
    pub backend: Backend,
    pub table: Table,
    pub locks: UnitLocks,
    pub inspects: Inspects,
    pub tasks: TaskTracker,
    pub stop: CancellationToken,
    /// The substrate has been looked at once: what is in the table is true.
    pub ready: watch::Sender<bool>,
    /// Held until it is closed: two runtimes on one store would undo each other's work.
    lock: Mutex<Option<std::fs::File>>,
}

impl Runtime {
    /// Opens the store, finds the workloads again and goes on with what was being done to them. An engine that does not
    /// answer is no error: calls are [`RuntimeError::Unavailable`] until it does.
    ///
    /// # Errors
    /// When the store or a setting cannot be used. Nothing was started or stopped.
    pub async fn open(config: RuntimeConfig) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let store = Store::open(&config.store, config.worker_ids())?;
        let lock = take(&store).await?;
        let callbacks = Callbacks::open(store.callbacks(), config.callback_token.clone()).await?;
        let (sender, sightings) = mpsc::channel(1024);
        let backend = Backend::open(&config, &store, sender, stop.clone()).await?;
        let inner = Arc::new(Inner {
            tombstones: Tombstones::new(store.tombstones()),
            config,
            store,
            callbacks,
            backend,
            table: Table::new(),
            locks: UnitLocks::default(),
            inspects: Inspects::default(),
            tasks: TaskTracker::new(),
            stop,
            ready: watch::Sender::new(false),
            lock: Mutex::new(Some(lock)),
        });
        inner.read_folders().await?;
        inner.watch_substrate(sightings);
        inner.keep_house();
        inner.keep_room();
        Ok(Self { inner })
    }

    /// Starts a workload and waits until it runs or has failed to, or for half a minute. Idempotent while it is alive.
    ///
    /// # Errors
    /// See [`RuntimeError`]. After a failed start the status is `stopped` with `start_failed`, which is no error here.
    pub async fn start(&self, spec: WorkloadSpec) -> Result<WorkloadStatus, RuntimeError> {
        let inner = &self.inner;
        let profile = spec::check(&spec, &inner.config)?;
        inner.when_ready().await?;
        let id = spec.workload_id.clone();
        if let Some(workload) = inner.table.get(&id).await.filter(|w| w.state().is_alive()) {
            return Ok(workload.wait(START_ANSWER, |s| s != WorkloadState::Starting).await);
        }
        for lower in inner.table.of_unit(&id.uid).await {
            if lower.id.generation < id.generation {
                // Its start may wait for an image, with the unit's lock in its hand.
                lower.abort.cancel();
            }
        }
        let guard = inner.locks.lock(&id.uid).await;
        // Somebody may have been faster.
        if let Some(workload) = inner.table.get(&id).await.filter(|w| w.state().is_alive()) {
            return Ok(workload.wait(START_ANSWER, |s| s != WorkloadState::Starting).await);
        }
        inner.admit(&id).await?;
        for lower in inner.table.of_unit(&id.uid).await {
            inner.destroy_locked(&lower).await?;
        }
        inner.check_room()?;
        inner.backend.reachable().await.map_err(|e| RuntimeError::unavailable(e.0))?;

        let status = WorkloadStatus {
            workload_id: id.clone(),
            profile: spec.profile.clone(),
            state: WorkloadState::Starting,
            ports: Default::default(),
            started_at: None,
            stopped_at: None,
            exit_code: None,
            stop_reason: None,
            detail: None,
            backend: inner.config.backend,
            node: None,
        };
        let dir = inner.store.generation(&id);
        let unwritten = |e: io::Error| RuntimeError::unavailable(format!("cannot write {}: {e}", dir.path().display()));
        // What lies there belongs to a start that was cut short before it was known.
        inner.store.remove_generation(&id).map_err(unwritten)?;
        dir.create(&spec, &status).map_err(unwritten)?;
        let workload = Workload::new(status, Some(&spec), true);
        inner.table.insert(Arc::clone(&workload)).await;
        inner.announce(&workload).await;
        let launch = Launch {
            workspaces: (spec.mounts.iter())
                .map(|m| (m.workspace.clone(), m.mode, inner.store.workspace(&m.workspace)))
                .collect(),
            state: inner.store.state(&id.uid),
            abort: workload.abort.clone(),
            dir,
            spec,
            profile,
        };
        let (owned, launched) = (Arc::clone(inner), Arc::clone(&workload));
        // A task of its own: a caller that hangs up does not leave half a start.
        inner.tasks.spawn(async move {
            owned.launch(&launched, launch).await;
            drop(guard);
        });
        Ok(workload.wait(START_ANSWER, |s| s != WorkloadState::Starting).await)
    }

    /// The status of one workload.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`] when it never was or is destroyed.
    pub async fn get(&self, id: &WorkloadId) -> Result<WorkloadStatus, RuntimeError> {
        self.inner.table.get(id).await.map(|w| w.snapshot()).ok_or(RuntimeError::NotFound)
    }

    /// All workloads that are not destroyed.
    pub async fn list(&self) -> Vec<WorkloadStatus> {
        self.inner.table.all().await.iter().map(|w| w.snapshot()).collect()
    }

    /// All workloads, and every change from then on. After a lag, call it again.
    pub async fn watch(&self) -> (Vec<WorkloadStatus>, broadcast::Receiver<WorkloadStatus>) {
        self.inner.table.watch().await
    }

    /// TERM, grace, KILL; returns when it is stopped. A stop that was begun goes on when the caller does not wait for it.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`]; [`RuntimeError::Unavailable`] when the substrate does not confirm that it has ended.
    pub async fn stop(&self, id: &WorkloadId, reason: Option<StopReason>) -> Result<WorkloadStatus, RuntimeError> {
        let inner = &self.inner;
        inner.when_ready().await?;
        let workload = inner.table.get(id).await.ok_or(RuntimeError::NotFound)?;
        let limit = inner.config.stop_grace + STOP_ANSWER;
        if workload.state() == WorkloadState::Starting {
            workload.requested.get_or_init(|| reason.unwrap_or(StopReason::Stopped));
            workload.abort.cancel();
            workload.wait(limit, |s| s != WorkloadState::Starting).await;
        }
        inner.begin_stop(&workload, reason.unwrap_or(StopReason::Stopped)).await;
        let status = workload.wait(limit, |s| !s.is_alive()).await;
        if status.state.is_alive() {
            let detail = format!("the substrate does not confirm that {id} has ended; it is still being stopped");
            return Err(RuntimeError::unavailable(detail));
        }
        Ok(status)
    }

    /// Reclaims everything of a workload but its unit's folders, and of lower generations that are still there. One that is
    /// being stopped is given its grace. Destroying what is not there is no error: a start that comes later is refused.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] when it is not certain that nothing is left.
    pub async fn destroy(&self, id: &WorkloadId) -> Result<(), RuntimeError> {
        let inner = &self.inner;
        inner.when_ready().await?;
        if let Some(workload) = inner.table.get(id).await {
            workload.abort.cancel();
            if workload.state() == WorkloadState::Stopping {
                workload.wait(inner.config.stop_grace + STOP_ANSWER, |s| !s.is_alive()).await;
            }
        }
        let lower = |workload: &Arc<Workload>| workload.id.generation < id.generation;
        for workload in inner.table.of_unit(&id.uid).await.iter().filter(|w| lower(w)) {
            workload.abort.cancel();
        }
        let waiting = tokio::time::timeout(STOP_ANSWER, inner.locks.lock(&id.uid));
        let Ok(_guard) = waiting.await else {
            let detail = format!("{id} is still being started or destroyed; the substrate does not answer");
            return Err(RuntimeError::unavailable(detail));
        };
        // Whoever hears that this one is gone gives its leases on.
        for workload in inner.table.of_unit(&id.uid).await.iter().filter(|w| lower(w)) {
            inner.destroy_locked(workload).await?;
        }
        match inner.table.get(id).await {
            Some(workload) => inner.destroy_locked(&workload).await,
            None => {
                let unburied = |e| RuntimeError::unavailable(format!("cannot write the tombstone of {id}: {e}"));
                inner.tombstones.bury(id, Timestamp::now()).map_err(unburied)?;
                inner.reclaim(&inner.store.generation(id)).await
            }
        }
    }

    /// Moves a workspace into the trash; idempotent.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`] while a live workload has it mounted.
    pub async fn trash_workspace(&self, id: &WorkspaceId) -> Result<(), RuntimeError> {
        let inner = &self.inner;
        inner.when_ready().await?;
        let all = inner.table.all().await;
        if let Some(user) = all.iter().find(|w| w.state().is_alive() && w.mounts.contains(id)) {
            let detail = format!("the workspace is mounted by {}; destroy that first", user.id);
            return Err(RuntimeError::refused(ErrorCode::Conflict, detail));
        }
        trashed(inner.store.trash_workspace(id))
    }

    /// Moves a unit's state into the trash; idempotent.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`] while the unit has a live workload.
    pub async fn trash_state(&self, uid: &UnitId) -> Result<(), RuntimeError> {
        let _guard = self.no_live_workload(uid).await?;
        trashed(self.inner.store.trash_state(uid))
    }

    /// Moves a unit's whole folder, its own workspace and its state, into the trash; idempotent.
    ///
    /// # Errors
    /// [`RuntimeError::Refused`] while the unit has a live workload.
    pub async fn trash_unit(&self, uid: &UnitId) -> Result<(), RuntimeError> {
        let _guard = self.no_live_workload(uid).await?;
        trashed(self.inner.store.trash_unit(uid))
    }

    /// Whether the substrate answers, and what it isolates.
    ///
    /// # Errors
    /// [`RuntimeError::Unavailable`] with the substrate's own words.
    pub async fn health(&self) -> Result<Health, RuntimeError> {
        self.inner.backend.health().await.map_err(|e| RuntimeError::unavailable(e.0))?;
        Ok(Health {
            backend: self.inner.config.backend,
            isolation: self.inner.backend.isolation(),
            deployment: self.inner.config.deployment.clone(),
            room: self.inner.room()?,
        })
    }

    /// Ends the runtime's own tasks, and no workload. What is cut off is found again by the next one.
    pub async fn close(&self) {
        let inner = &self.inner;
        inner.stop.cancel();
        for workload in inner.table.all().await {
            workload.relay.cancel();
        }
        inner.tasks.close();
        if tokio::time::timeout(CLOSE_LIMIT, inner.tasks.wait()).await.is_err() {
            tracing::warn!("the runtime ends in the middle of something; the next one goes on with it");
        }
        inner.callbacks.close().await;
        inner.backend.close();
        inner.lock.lock().await.take();
    }

    async fn no_live_workload(&self, uid: &UnitId) -> Result<tokio::sync::OwnedMutexGuard<()>, RuntimeError> {
        let inner = &self.inner;
        inner.when_ready().await?;
        let guard = inner.locks.lock(uid).await;
        match inner.table.of_unit(uid).await.iter().find(|w| w.state().is_alive()) {
            Some(user) => {
                let detail = format!("the unit's workload {} is alive; destroy that first", user.id);
                Err(RuntimeError::refused(ErrorCode::Conflict, detail))
            }
            None => Ok(guard),
        }
    }
}

fn trashed(result: io::Result<bool>) -> Result<(), RuntimeError> {
    result.map(drop).map_err(|e| RuntimeError::unavailable(format!("cannot move it into the trash: {e}")))
}

impl Inner {
    /// Waits for the first look at the substrate: before it, "unknown" and "gone" would be the same.
    pub async fn when_ready(&self) -> Result<(), RuntimeError> {
        let mut ready = self.ready.subscribe();
        let is_ready = tokio::time::timeout(READY_ANSWER, ready.wait_for(|r| *r)).await.is_ok();
        if is_ready {
            return Ok(());
        }
        self.backend.health().await.map_err(|e| RuntimeError::unavailable(e.0))?;
        Err(RuntimeError::unavailable("the runtime is still looking for its workloads"))
    }

    /// Refuses a generation that is over, or lower than one that is known.
    async fn admit(&self, id: &WorkloadId) -> Result<(), RuntimeError> {
        let known = self.table.of_unit(&id.uid).await.iter().map(|w| w.id.generation).max();
        if let Some(highest) = known.filter(|k| *k >= id.generation) {
            return Err(RuntimeError::Stale { highest });
        }
        match self.tombstones.admit(id, Timestamp::now()) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(highest)) => Err(RuntimeError::Stale { highest }),
            Err(error) => Err(RuntimeError::unavailable(format!("cannot read the tombstones: {error}"))),
        }
    }

    /// Removes what is left of a generation that is not in the table, or not any more.
    pub async fn reclaim(&self, dir: &GenerationDir) -> Result<(), RuntimeError> {
        self.backend.remove(dir).await.map_err(|e| RuntimeError::unavailable(e.0))?;
        let (id, store_dir) = (dir.id().clone(), dir.path().to_owned());
        // A home may hold a whole package cache.
        tokio::task::spawn_blocking(move || untrusted::remove(&store_dir))
            .await
            .map_err(io::Error::other)
            .and_then(|result| result)
            .map_err(|e| RuntimeError::unavailable(format!("cannot remove the folder of {id}: {e}")))
    }

    /// Whether somebody in this process is starting it right now.
    pub fn is_launching(workload: &Workload) -> bool {
        workload.launching.load(Ordering::SeqCst)
    }
}

/// The store's lock. A child that was forked and has not called exec yet holds a copy of its predecessor's descriptor, and the
/// lock with it (flock(2)): that lasts for moments, another runtime lasts.
async fn take(store: &Store) -> io::Result<std::fs::File> {
    const MOMENTS: Duration = Duration::from_secs(1);
    let until = tokio::time::Instant::now() + MOMENTS;
    loop {
        match store.lock() {
            Err(e) if e.kind() == io::ErrorKind::ResourceBusy && tokio::time::Instant::now() < until => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            taken => return taken,
        }
    }
}
