//! How a new runtime finds what an earlier one left, and what it notices later by itself.

use std::sync::Arc;
use std::time::Duration;

use contract::{StopReason, WorkloadState, WorkloadStatus};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::backend::Sighting;
use crate::runtime::Inner;
use crate::table::Workload;

/// Between two looks at lifetimes.
const PERIOD: Duration = Duration::from_secs(5);
/// Between two sweeps of the tombstones.
const SWEEP: Duration = Duration::from_secs(300);

impl Inner {
    /// Fills the table from the generations' folders, and makes the sockets of those that were alive anew.
    pub async fn read_folders(self: &Arc<Self>) -> std::io::Result<()> {
        for id in self.store.generations()? {
            let dir = self.store.generation(&id);
            let (spec, status) = match (dir.spec(), dir.status()) {
                (Ok(Some(spec)), Ok(status)) => (spec, status),
                (Ok(None), _) => {
                    // Cut short before anything was started or told.
                    self.store.remove_generation(&id)?;
                    continue;
                }
                (Err(error), _) | (_, Err(error)) => {
                    warn!(workload = %id, %error, "its folder cannot be read; destroy it to get rid of it");
                    continue;
                }
            };
            let status = status.unwrap_or_else(|| WorkloadStatus {
                state: WorkloadState::Starting,
                ..self.unknown(&id, spec.profile.clone())
            });
            let workload = Workload::new(status, Some(&spec), false);
            if workload.state().is_alive() {
                info!(workload = %id, state = ?workload.state(), "found again");
                if let Err(error) = self.carry(&workload) {
                    warn!(workload = %id, %error, "its sockets cannot be made anew; its worker will end itself");
                }
            }
            self.table.insert(workload).await;
        }
        Ok(())
    }

    /// Listens to what the backend notices.
    pub fn watch_substrate(self: &Arc<Self>, mut sightings: mpsc::Receiver<Sighting>) {
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            loop {
                let sighting = tokio::select! {
                    () = inner.stop.cancelled() => return,
                    sighting = sightings.recv() => sighting,
                };
                match sighting {
                    Some(Sighting::Reconnected) => inner.look_at_everything().await,
                    Some(Sighting::Ended(id)) => {
                        if let Some(workload) = inner.table.get(&id).await {
                            inner.tasks.spawn(Arc::clone(&inner).see_end(workload));
                        }
                    }
                    None => return,
                }
            }
        });
    }

    /// Something says that it has ended: asks until that is known.
    async fn see_end(self: Arc<Self>, workload: Arc<Workload>) {
        // While it is being started, its own task judges it.
        workload.wait(Duration::MAX, |s| s != WorkloadState::Starting).await;
        let mut delay = Duration::from_millis(20);
        while workload.state().is_alive() {
            self.look_at(&workload).await;
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = workload.wait(delay, |s| !s.is_alive()) => {}
            }
            delay = (delay * 2).min(Duration::from_secs(5));
        }
    }

    async fn look_at_everything(self: &Arc<Self>) {
        for workload in self.table.all().await {
            if !workload.state().is_alive() || Self::is_launching(&workload) {
                continue;
            }
            self.look_at(&workload).await;
            if workload.state() == WorkloadState::Stopping && !self.ready_once() {
                // The runtime that had begun this is gone.
                self.see_stop_through(&workload);
            }
        }
        match self.backend.list().await {
            Ok(known) => {
                for (id, profile) in known {
                    if self.table.get(&id).await.is_none() {
                        self.adopt(&id, profile).await;
                    }
                }
                self.ready.send_replace(true);
            }
            Err(error) => warn!(%error, "the substrate does not list its workloads"),
        }
        self.sweep_inspections().await;
    }

    /// A workload of this deployment whose folder is gone: it is listed, so that whoever compares lists can destroy it.
    async fn adopt(self: &Arc<Self>, id: &contract::WorkloadId, profile: String) {
        let _guard = self.locks.lock(&id.uid).await;
        if self.table.get(id).await.is_some() {
            return;
        }
        let dir = self.store.generation(id);
        match self.backend.examine(&dir).await {
            Ok(crate::backend::Condition::Absent) | Err(_) => return,
            Ok(_) => warn!(workload = %id, "a workload without a folder; it is listed until it is destroyed"),
        }
        if let Err(error) = std::fs::create_dir_all(dir.path()) {
            warn!(workload = %id, %error, "cannot make a folder for it");
        }
        let status = WorkloadStatus { state: WorkloadState::Running, ..self.unknown(id, profile) };
        let workload = Workload::new(status, None, false);
        self.table.insert(Arc::clone(&workload)).await;
        self.announce(&workload).await;
        self.look_at(&workload).await;
    }

    fn ready_once(&self) -> bool {
        *self.ready.borrow()
    }

    fn unknown(&self, id: &contract::WorkloadId, profile: String) -> WorkloadStatus {
        WorkloadStatus {
            workload_id: id.clone(),
            profile,
            state: WorkloadState::Starting,
            ports: Default::default(),
            started_at: None,
            stopped_at: None,
            exit_code: None,
            stop_reason: None,
            detail: None,
            backend: self.config.backend,
            node: None,
        }
    }

    /// Ends what has lived for as long as it may, and forgets old tombstones.
    pub fn keep_house(self: &Arc<Self>) {
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut period = tokio::time::interval(PERIOD);
            let mut swept = tokio::time::Instant::now();
            loop {
                tokio::select! {
                    () = inner.stop.cancelled() => return,
                    _ = period.tick() => {}
                }
                for workload in inner.table.all().await {
                    let started = workload.status.borrow().started_at;
                    if let (Some(started), Some(limit)) = (started, workload.max_lifetime)
                        && Timestamp::now().duration_since(started).unsigned_abs() > limit
                    {
                        inner.begin_stop(&workload, StopReason::MaxLifetime).await;
                    }
                }
                if swept.elapsed() > SWEEP {
                    swept = tokio::time::Instant::now();
                    if let Err(error) = inner.tombstones.sweep(Timestamp::now()) {
                        warn!(%error, "cannot sweep the tombstones");
                    }
                }
            }
        });
    }
}
