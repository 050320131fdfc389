//! The disk: a floor of free space below which nothing starts and whoever took it is stopped, and the sizes that a workspace and
//! a home may have.
//!
//! A look at a workload is a bounded walk through what it may write to and has a limit for, and at what its processes hold of
//! files without a name; the looks are repeated after a rest in proportion to what they took. A limit may be overshot by what is
//! written in between: the floor is what protects the host.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use contract::{StopReason, WorkloadState};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing::warn;

use crate::error::RuntimeError;
use crate::nameless;
use crate::runtime::Inner;
use crate::table::Workload;
use crate::usage::{self, Usage};

/// Between two looks, at least.
const REST: Duration = Duration::from_secs(2);
/// A rest is so many times what the look took.
const REST_RATIO: u32 = 4;
/// Files that are looked at where no limit says how many there may be; a folder with more is judged by these.
const FILES: u64 = 1_000_000;
/// What is written is watched from so many times the floor on.
const NEAR: u64 = 2;
/// Whoever is stopped has written so much at least,
const HEAVY_MB: u64 = 1;
/// and one part in so many of what was lost.
const HEAVY_PART: u64 = 10;

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
            let mut before = None;
            let mut rest = REST;
            loop {
                tokio::select! {
                    () = inner.stop.cancelled() => return,
                    () = tokio::time::sleep(rest) => {}
                }
                let began = Instant::now();
                inner.look_at_room(&mut before).await;
                rest = REST.max(began.elapsed() * REST_RATIO);
            }
        });
    }

    /// `before` is kept by the caller from look to look.
    pub async fn look_at_room(self: &Arc<Self>, before: &mut Option<Before>) {
        let room = match self.room() {
            Ok(room) => room,
            Err(error) => return warn!(%error, "the disk is not looked at"),
        };
        let mut running = self.table.all().await;
        running.retain(|workload| workload.state() == WorkloadState::Running);
        if running.is_empty() {
            *before = None;
            return;
        }
        let nameless = self.nameless().await;
        for workload in &running {
            self.hold_to_limit(workload, &nameless).await;
        }
        if room.free_mb >= room.floor_mb.saturating_mul(NEAR) {
            *before = None;
            return;
        }
        let first = before.get_or_insert_with(|| Before { free_mb: room.free_mb, written_mb: HashMap::new() });
        let mut grown = Vec::new();
        for workload in running {
            let all = Usage { bytes: u64::MAX, files: FILES };
            let Ok(now) = self.measure(self.written_to(&workload), all, &nameless).await else { continue };
            let now_mb = now.bytes >> 20;
            let was_mb = *first.written_mb.entry(workload.id.to_string()).or_insert(now_mb);
            grown.push((now_mb.saturating_sub(was_mb), workload));
        }
        // One at a time: what it leaves may be enough for the others.
        if let Some((grown_mb, workload)) = first.to_blame(room, grown) {
            let Room { free_mb, floor_mb } = room;
            let lost_mb = first.free_mb.saturating_sub(free_mb);
            let detail = format!(
                "the disk is nearly full ({free_mb} MiB are free, runtime.min_free_mb is {floor_mb}), and of the last \
                 {lost_mb} MiB that were lost this workload wrote most: {grown_mb} MiB"
            );
            warn!(workload = %workload.id, detail, "stopping it");
            self.begin_stop_for(&workload, StopReason::Failed, Some(detail)).await;
        }
    }

    /// Stops a workload of which a writable workspace, or its home and state together, is larger than its profile allows.
    async fn hold_to_limit(self: &Arc<Self>, workload: &Arc<Workload>, nameless: &Nameless) {
        let profile = workload.status.borrow().profile.clone();
        let Some(profile) = self.config.profiles.get(&profile) else { return };
        let of_workspaces = [
            ("workspace_max_mb", profile.workspace_max_mb.unwrap_or(0)),
            ("workspace_max_files", profile.workspace_max_files),
        ];
        let mut limited: Vec<_> = (workload.writable.iter())
            .map(|id| (format!("the workspace {id} holds"), of_workspaces, vec![self.store.workspace(id)]))
            .collect();
        let of_home = [("home_max_mb", profile.home_max_mb), ("home_max_files", profile.home_max_files)];
        let folders = vec![self.store.generation(&workload.id).home(), self.store.state(&workload.id.uid)];
        limited.push(("its home and state hold".to_owned(), of_home, folders));
        for (what, [(mb_setting, mb), (files_setting, files)], folders) in limited {
            // 0 is no limit.
            let most = |limit: u64| if limit == 0 { u64::MAX } else { limit };
            let most = Usage { bytes: most(mb << 20), files: most(files) };
            if most == (Usage { bytes: u64::MAX, files: u64::MAX }) {
                continue;
            }
            let detail = match self.measure(folders, most, nameless).await {
                Ok(found) if found.bytes > most.bytes => format!("{what} more than {mb_setting} = {mb} MiB"),
                Ok(found) if found.files > most.files => format!("{what} more files than {files_setting} = {files}"),
                Ok(_) => continue,
                Err(error) => {
                    warn!(workload = %workload.id, %error, "{what} an unknown amount");
                    continue;
                }
            };
            warn!(workload = %workload.id, detail, "stopping it");
            return self.begin_stop_for(workload, StopReason::Failed, Some(detail)).await;
        }
    }

    /// Everything on the disk that a workload may write to.
    fn written_to(&self, workload: &Workload) -> Vec<PathBuf> {
        let mut folders: Vec<_> = workload.writable.iter().map(|id| self.store.workspace(id)).collect();
        folders.push(self.store.state(&workload.id.uid));
        folders.push(self.store.generation(&workload.id).home());
        folders
    }

    async fn nameless(&self) -> Nameless {
        let store = self.store.root().to_owned();
        let looking = tokio::task::spawn_blocking(move || nameless::held(&store));
        match looking.await.map_err(io::Error::other).and_then(|held| held) {
            Ok(held) => held,
            Err(error) => {
                warn!(%error, "files without a name are not counted");
                Nameless::default()
            }
        }
    }

    /// How much folders hold, with what was made in them and has no name any more.
    async fn measure(&self, folders: Vec<PathBuf>, most: Usage, nameless: &Nameless) -> io::Result<Usage> {
        let below_root = |folder: &PathBuf| folder.strip_prefix(self.store.root()).map(Path::to_owned).ok();
        let held = folders.iter().filter_map(|folder| nameless.get(&below_root(folder)?)).copied();
        let mut found = Usage::default();
        held.for_each(|usage| found += usage);
        let measuring = tokio::task::spawn_blocking(move || {
            for folder in folders {
                found += usage::below(&folder, most)?;
            }
            Ok(found)
        });
        measuring.await.map_err(io::Error::other)?
    }
}

/// What files without a name hold, by the folder of the store.
type Nameless = HashMap<PathBuf, Usage>;

/// How it was when the floor came near.
#[derive(Debug)]
pub(crate) struct Before {
    free_mb: u64,
    /// What workloads had written, each when it was first looked at.
    written_mb: HashMap<String, u64>,
}

impl Before {
    /// Who has to go for the room that is lost, below the floor: the one that grew most, if what all of them grew is the greater
    /// part of the loss, and its own a part that counts. Somebody else may be filling the disk, and then nobody here is to blame.
    fn to_blame<W>(&self, now: Room, grown_mb: Vec<(u64, W)>) -> Option<(u64, W)> {
        let lost_mb = self.free_mb.saturating_sub(now.free_mb);
        let explained_mb: u64 = grown_mb.iter().map(|(mb, _)| mb).sum();
        if now.is_enough() || lost_mb == 0 || explained_mb * 2 < lost_mb {
            return None;
        }
        let heavy = grown_mb.into_iter().max_by_key(|(mb, _)| *mb)?;
        (heavy.0 >= HEAVY_MB && heavy.0 * HEAVY_PART >= lost_mb).then_some(heavy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_growth_does_not_explain_the_loss_is_not_stopped() {
        let before = Before { free_mb: 200, written_mb: HashMap::new() };
        let blamed = |free_mb, grown: &[u64]| {
            let grown = grown.iter().enumerate().map(|(who, mb)| (*mb, who)).collect();
            before.to_blame(Room { free_mb, floor_mb: 100 }, grown).map(|(_, who)| who)
        };
        assert_eq!(blamed(90, &[3, 100, 7]), Some(1));
        assert_eq!(blamed(90, &[30, 28, 29]), Some(0));
        assert_eq!(blamed(90, &[50, 0]), None, "somebody else took the greater part");
        assert_eq!(blamed(90, &[0, 0]), None);
        assert_eq!(blamed(90, &[9; 20]), None, "each of many took too little");
        assert_eq!(blamed(100, &[100]), None, "there is room");
        assert_eq!(blamed(90, &[]), None);
        let before = Before { free_mb: 50, written_mb: HashMap::new() };
        assert_eq!(before.to_blame(Room { free_mb: 60, floor_mb: 100 }, vec![(20, ())]), None, "nothing was lost");
    }
}
