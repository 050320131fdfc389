//! The disk: a floor of free space below which nothing starts and the heaviest writers are stopped, and the sizes that a
//! workspace and a home may have.
//!
//! A look at a workload is a bounded walk through what it may write to and has a limit for; the looks are repeated after a rest
//! in proportion to what they took. A limit may be overshot by what is written in between: the floor is what protects the host.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contract::{StopReason, WorkloadState};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::warn;

use crate::error::RuntimeError;
use crate::runtime::Inner;
use crate::table::Workload;
use crate::usage::{Bounds, bytes_below};

/// Between two looks, at least.
const REST: Duration = Duration::from_secs(2);
/// A rest is so many times what the look took.
const REST_RATIO: u32 = 10;
/// Entries of one walk; a folder with more is judged by these.
const ENTRIES: usize = 500_000;
/// Who has written less than this since the shortage began is not to blame for it.
const HEAVY_BYTES: u64 = 1 << 20;

/// How full the disk is that the store lies on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Room {
    /// MiB that are free.
    pub free_mb: u64,
    /// MiB that must be, or nothing starts.
    pub floor_mb: u64,
}

impl Room {
    /// Whether anything may start.
    pub fn is_enough(self) -> bool {
        self.free_mb >= self.floor_mb
    }
}

impl Inner {
    /// How much room there is now.
    pub fn room(&self) -> Result<Room, RuntimeError> {
        let stat = rustix::fs::statvfs(self.store.root())
            .map_err(|e| RuntimeError::unavailable(format!("cannot tell how much room the store has: {e}")))?;
        Ok(Room { free_mb: (stat.f_bavail * stat.f_frsize) >> 20, floor_mb: self.config.min_free_mb })
    }

    /// Refuses a start that there is no room for.
    pub fn check_room(&self) -> Result<(), RuntimeError> {
        let room = self.room()?;
        if room.is_enough() {
            return Ok(());
        }
        let Room { free_mb, floor_mb } = room;
        let detail = format!("{free_mb} MiB are free where the store lies, and runtime.min_free_mb is {floor_mb}");
        Err(RuntimeError::NoRoom { detail })
    }

    /// Watches the disk and the workspaces.
    pub fn keep_room(self: &Arc<Self>) {
        let inner = Arc::clone(self);
        self.tasks.spawn(async move {
            let mut written = Written::default();
            let mut rest = REST;
            loop {
                tokio::select! {
                    () = inner.stop.cancelled() => return,
                    () = tokio::time::sleep(rest) => {}
                }
                let began = Instant::now();
                inner.look_at_room(&mut written).await;
                rest = REST.max(began.elapsed() * REST_RATIO);
            }
        });
    }

    pub async fn look_at_room(self: &Arc<Self>, written: &mut Written) {
        let short = match self.room() {
            Ok(room) => Some(room).filter(|r| !r.is_enough()),
            Err(error) => return warn!(%error, "the disk is not looked at"),
        };
        let mut measured = HashMap::new();
        let mut heaviest: Option<(u64, Arc<Workload>)> = None;
        for workload in self.table.all().await {
            if workload.state() != WorkloadState::Running {
                continue;
            }
            self.hold_to_limit(&workload).await;
            if short.is_none() {
                continue;
            }
            let Ok(bytes) = self.measure(self.written_to(&workload), u64::MAX).await else { continue };
            let id = workload.id.to_string();
            let first = written.0.get(&id).copied().unwrap_or(bytes);
            let grown = bytes.saturating_sub(first);
            measured.insert(id, first);
            if grown >= HEAVY_BYTES && heaviest.as_ref().is_none_or(|(most, _)| grown > *most) {
                heaviest = Some((grown, workload));
            }
        }
        written.0 = measured;
        // One at a time: what it leaves may be enough for the others.
        if let (Some(Room { free_mb, floor_mb }), Some((grown, workload))) = (short, heaviest) {
            let detail = format!(
                "the disk is nearly full ({free_mb} MiB are free, runtime.min_free_mb is {floor_mb}), and this workload \
                 wrote most: {} MiB since that began",
                grown >> 20
            );
            warn!(workload = %workload.id, detail, "stopping it");
            self.begin_stop_for(&workload, StopReason::Failed, Some(detail)).await;
        }
    }

    /// Stops a workload of which a writable workspace, or its home and state together, is larger than its profile allows.
    async fn hold_to_limit(self: &Arc<Self>, workload: &Arc<Workload>) {
        let profile = workload.status.borrow().profile.clone();
        let Some(profile) = self.config.profiles.get(&profile) else { return };
        let mut limited = Vec::new();
        if let Some(limit_mb) = profile.workspace_max_mb {
            let of = |id| {
                (format!("the workspace {id} holds"), "workspace_max_mb", vec![self.store.workspace(id)], limit_mb)
            };
            limited.extend(workload.writable.iter().map(of));
        }
        if profile.home_max_mb > 0 {
            let limit_mb = profile.home_max_mb;
            let folders = vec![self.store.generation(&workload.id).home(), self.store.state(&workload.id.uid)];
            limited.push(("its home and state hold".to_owned(), "home_max_mb", folders, limit_mb));
        }
        for (what, setting, folders, limit_mb) in limited {
            let limit = limit_mb << 20;
            match self.measure(folders, limit + 1).await {
                Ok(bytes) if bytes > limit => {
                    let detail = format!("{what} more than {setting} = {limit_mb} MiB");
                    warn!(workload = %workload.id, detail, "stopping it");
                    return self.begin_stop_for(workload, StopReason::Failed, Some(detail)).await;
                }
                Ok(_) => {}
                Err(error) => warn!(workload = %workload.id, %error, "{what} an unknown amount"),
            }
        }
    }

    /// Everything on the disk that a workload may write to.
    fn written_to(&self, workload: &Workload) -> Vec<PathBuf> {
        let mut folders: Vec<_> = workload.writable.iter().map(|id| self.store.workspace(id)).collect();
        folders.push(self.store.state(&workload.id.uid));
        folders.push(self.store.generation(&workload.id).home());
        folders
    }

    async fn measure(&self, folders: Vec<PathBuf>, enough: u64) -> io::Result<u64> {
        let measuring = tokio::task::spawn_blocking(move || {
            let bounds = Bounds { entries: ENTRIES, bytes: enough };
            folders.iter().map(|folder| bytes_below(folder, bounds)).sum()
        });
        measuring.await.map_err(io::Error::other)?
    }
}

/// What workloads had written when the shortage was first seen.
#[derive(Debug, Default)]
pub(crate) struct Written(HashMap<String, u64>);
