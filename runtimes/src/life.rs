//! A workload's life: every transition, and what must be true before it is told.
//!
//! ```text
//! starting ─▶ running ─▶ stopping ─▶ stopped ─▶ destroyed
//!     └──────────┴────────────────────▲
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use contract::{Mode, RuntimeEvent, StopReason, WorkloadState, WorkloadStatus, WorkspaceId};
use jiff::Timestamp;
use relay::{Limits, Relay};
use tracing::{error, info, warn};

use crate::backend::{BackendError, Condition, Exit, Launch};
use crate::error::RuntimeError;
use crate::runtime::Inner;
use crate::table::Workload;

/// Between two questions to a substrate that did not answer the first.
const ASK_AGAIN: Duration = Duration::from_millis(500);
/// How long a KILL may take before it is sent again.
const KILL_AGAIN: Duration = Duration::from_secs(5);
/// How long a destroy waits for the end of what it killed.
const DESTROY_LIMIT: Duration = Duration::from_secs(30);

impl Inner {
    /// starting → running, or → stopped (`start_failed`).
    pub async fn launch(self: &Arc<Self>, workload: &Arc<Workload>, launch: Launch) {
        let outcome = match self.prepare(workload, &launch) {
            Ok(()) => self.backend.launch(&launch).await,
            Err(error) => Err(BackendError(error.to_string())),
        };
        workload.launching.store(false, Ordering::SeqCst);
        match outcome {
            Ok(()) => {
                self.change(workload, |status| {
                    status.state = WorkloadState::Running;
                    status.started_at = Some(Timestamp::now());
                    true
                })
                .await;
            }
            Err(BackendError(detail)) => {
                warn!(workload = %workload.id, detail, "a start failed");
                self.abandon(workload, &detail).await;
            }
        }
    }

    /// A start came to nothing: nothing of it may be left before that is told.
    pub async fn abandon(self: &Arc<Self>, workload: &Arc<Workload>, detail: &str) {
        let dir = self.store.generation(&workload.id);
        while let Err(error) = self.backend.remove(&dir).await {
            warn!(workload = %workload.id, %error, "cannot remove what is left of a failed start; trying again");
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = tokio::time::sleep(ASK_AGAIN) => {}
            }
        }
        let exit = Exit { never_ran: true, detail: Some(detail.to_owned()), ..Exit::default() };
        self.finish(workload, exit).await;
    }

    fn prepare(self: &Arc<Self>, workload: &Arc<Workload>, launch: &Launch) -> io::Result<()> {
        let workspaces: Vec<&WorkspaceId> = launch.workspaces.iter().map(|(id, _, _)| id).collect();
        self.store.ensure(&workload.id.uid, &workspaces)?;
        for (id, mode, path) in &launch.workspaces {
            let read_only = rustix::fs::statvfs(path)?.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY);
            if *mode == Mode::Rw && read_only {
                let detail = format!("the workspace {id} lies on a read-only file system: {}", path.display());
                return Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, detail));
            }
        }
        self.carry(workload)
    }

    /// Makes the generation's two sockets and serves them until it is stopped.
    pub fn carry(self: &Arc<Self>, workload: &Workload) -> io::Result<()> {
        let dir = self.store.generation(&workload.id);
        let relay = Relay::listen(&dir.sock(), dir.token()?, self.config.worker_port.clone(), Limits::default())?;
        self.tasks.spawn(relay.run(workload.relay.clone()));
        Ok(())
    }

    /// running → stopping; a task sees it through.
    pub async fn begin_stop(self: &Arc<Self>, workload: &Arc<Workload>, reason: StopReason) {
        self.begin_stop_for(workload, reason, None).await;
    }

    /// As [`Self::begin_stop`], with words that stay in its status.
    pub async fn begin_stop_for(self: &Arc<Self>, workload: &Arc<Workload>, reason: StopReason, why: Option<String>) {
        let begun = self
            .change(workload, |status| {
                if status.state != WorkloadState::Running {
                    return false;
                }
                // Kept with the status, so that a restart in the middle does not forget why.
                status.stop_reason = Some(*workload.requested.get_or_init(|| reason));
                status.state = WorkloadState::Stopping;
                status.detail = why;
                true
            })
            .await;
        if begun {
            self.see_stop_through(workload);
        }
    }

    /// TERM, grace, KILL until it is stopped.
    pub fn see_stop_through(self: &Arc<Self>, workload: &Arc<Workload>) {
        let (inner, workload) = (Arc::clone(self), Arc::clone(workload));
        self.tasks.spawn(async move {
            let dir = inner.store.generation(&workload.id);
            let ending = async {
                if let Err(error) = inner.backend.terminate(&dir).await {
                    warn!(workload = %workload.id, %error, "cannot send TERM");
                }
                workload.wait(inner.config.stop_grace, |s| !s.is_alive()).await;
                while workload.state().is_alive() {
                    info!(workload = %workload.id, "the grace period is over, it is killed");
                    if let Err(error) = inner.backend.kill(&dir).await {
                        warn!(workload = %workload.id, %error, "cannot send KILL; trying again");
                    }
                    inner.look_at(&workload).await;
                    workload.wait(KILL_AGAIN, |s| !s.is_alive()).await;
                }
            };
            tokio::select! {
                () = inner.stop.cancelled() => {}
                () = ending => {}
            }
        });
    }

    /// Asks the substrate about a workload that is thought to be alive, and writes down what it says.
    pub async fn look_at(self: &Arc<Self>, workload: &Arc<Workload>) {
        let dir = self.store.generation(&workload.id);
        if !workload.state().is_alive() || Self::is_launching(workload) {
            return;
        }
        match self.backend.examine(&dir).await {
            Ok(Condition::Exited(mut exit)) => {
                if exit.code == Some(137) && !exit.oom && workload.requested.get().is_none() {
                    exit.oom = self.backend.ran_out_of_memory(&dir).await;
                }
                if exit.oom {
                    exit.detail.get_or_insert_with(|| "its memory limit was reached".into());
                }
                self.finish(workload, exit).await;
            }
            Ok(Condition::NeverStarted) => {
                self.abandon(workload, "the runtime ended in the middle of this start").await;
            }
            Ok(Condition::Absent) if workload.state() == WorkloadState::Starting => {
                self.abandon(workload, "the runtime ended in the middle of this start").await;
            }
            Ok(Condition::Absent) => {
                let detail = "it was removed behind the runtime's back".to_owned();
                self.finish(workload, Exit { detail: Some(detail), ..Exit::default() }).await;
            }
            Ok(Condition::Running) => {
                self.change(workload, |status| {
                    let news = status.state == WorkloadState::Starting;
                    if news {
                        status.state = WorkloadState::Running;
                        status.started_at = Some(Timestamp::now());
                    }
                    news
                })
                .await;
            }
            Err(error) => warn!(workload = %workload.id, %error, "the substrate does not say how it is"),
        }
    }

    /// starting, running, stopping → stopped. No process of it is left.
    pub async fn finish(&self, workload: &Workload, exit: Exit) {
        workload.relay.cancel();
        if let Err(error) = self.tombstones.bury(&workload.id, Timestamp::now()) {
            // Its own folder says as well that it is over, until it is destroyed.
            error!(workload = %workload.id, %error, "cannot write its tombstone");
        }
        let requested = workload.requested.get().copied();
        let reason = match (&exit, requested) {
            (Exit { oom: true, .. }, _) => StopReason::Oom,
            (Exit { never_ran: true, .. }, _) => StopReason::StartFailed,
            (_, Some(reason)) => reason,
            (Exit { code: Some(0), .. }, None) => StopReason::Completed,
            (_, None) => StopReason::Failed,
        };
        self.change(workload, |status| {
            if !status.state.is_alive() {
                return false;
            }
            status.state = WorkloadState::Stopped;
            status.stopped_at = Some(exit.at.unwrap_or_else(Timestamp::now));
            status.exit_code = exit.code;
            status.stop_reason = Some(reason);
            // What it was stopped for says more than its last words.
            status.detail = status.detail.take().or(exit.detail);
            true
        })
        .await;
    }

    /// → destroyed, from wherever it is. The unit's lock is held by the caller.
    pub async fn destroy_locked(self: &Arc<Self>, workload: &Arc<Workload>) -> Result<(), RuntimeError> {
        let dir = self.store.generation(&workload.id);
        if workload.state().is_alive() {
            workload.requested.get_or_init(|| StopReason::Stopped);
            self.backend.kill(&dir).await.map_err(|e| RuntimeError::unavailable(e.0))?;
            let ending = async {
                while workload.state().is_alive() {
                    self.look_at(workload).await;
                    workload.wait(ASK_AGAIN / 10, |s| !s.is_alive()).await;
                }
            };
            if tokio::time::timeout(DESTROY_LIMIT, ending).await.is_err() {
                let detail = format!("the substrate does not confirm that {} has ended", workload.id);
                return Err(RuntimeError::unavailable(detail));
            }
        }
        self.tombstones
            .bury(&workload.id, Timestamp::now())
            .map_err(|e| RuntimeError::unavailable(format!("cannot write the tombstone of {}: {e}", workload.id)))?;
        self.reclaim(&dir).await?;
        self.change(workload, |status| {
            status.state = WorkloadState::Destroyed;
            true
        })
        .await;
        Ok(())
    }

    /// Tells that it is starting.
    pub async fn announce(&self, workload: &Workload) {
        self.change(workload, |_| true).await;
    }

    /// Changes the status, keeps it, and tells everybody. The event is in the spool before the status is written: a crash in
    /// between tells it twice, not never.
    async fn change(&self, workload: &Workload, change: impl FnOnce(&mut WorkloadStatus) -> bool + Send) -> bool {
        let keep = |status: WorkloadStatus| async move {
            info!(workload = %status.workload_id, state = ?status.state, reason = ?status.stop_reason, "workload");
            let spooled = match &workload.callback_url {
                Some(url) => self.callbacks.send(url, event_of(&status)).await,
                None => Ok(()),
            };
            if status.state != WorkloadState::Destroyed {
                self.store.generation(&workload.id).write_status(&status)?;
            }
            spooled
        };
        match self.table.change(workload, change, keep).await {
            Ok(changed) => changed,
            Err(error) => {
                // The substrate still knows; a restart will learn it from there.
                error!(workload = %workload.id, %error, "a change could not be written down");
                true
            }
        }
    }
}

fn event_of(status: &WorkloadStatus) -> RuntimeEvent {
    RuntimeEvent {
        workload_id: status.workload_id.clone(),
        state: status.state,
        at: Timestamp::now(),
        ports: status.ports.clone(),
        exit_code: status.exit_code,
        stop_reason: status.stop_reason,
        detail: status.detail.clone(),
    }
}
