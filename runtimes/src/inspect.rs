//! `POST /inspect`: a short-lived workload that looks into one workspace and may do nothing else.
//!
//! It has no network and no credential, sees one workspace read-only and the worker's binary, prints one document and ends, or
//! is ended at its deadline. It is no part of any unit: nothing of it is in the table of workloads or in a generation's folder.
//! A container of it carries the label `rekindle.kind=inspect`, by which a later runtime removes what this one left; a process
//! of it dies with the runtime.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use contract::{ErrorCode, InspectAnswer, InspectOutcome, InspectRefusal, InspectRequest};
use tokio::sync::{Mutex, Semaphore};

use crate::backend::BackendError;
use crate::error::RuntimeError;
use crate::runtime::{Inner, Runtime};

/// Looks at one time.
const RUNNING_MAX: usize = 4;
/// Looks that wait for their turn.
const WAITING_MAX: usize = 32;
/// How long one waits for its turn.
const WAIT: Duration = Duration::from_secs(5);
const DEADLINE_DEFAULT_SEC: u64 = 10;
const DEADLINE_MAX_SEC: u64 = 60;
/// How long its removal may take.
const REMOVE_LIMIT: Duration = Duration::from_secs(10);
/// A longer answer is none of ours.
pub(crate) const ANSWER_MAX_BYTES: usize = 4 << 20;
/// Of what it says on stderr, as much as is told on.
pub(crate) const WORDS_MAX_BYTES: usize = 2 << 10;

/// The looks of a runtime.
#[derive(Debug)]
pub(crate) struct Inspects {
    running: Semaphore,
    admitted: Arc<Semaphore>,
    /// Names of those that this runtime is at: what else there is was left by an earlier one.
    names: Mutex<BTreeSet<String>>,
}

impl Default for Inspects {
    fn default() -> Self {
        Self {
            running: Semaphore::new(RUNNING_MAX),
            admitted: Arc::new(Semaphore::new(RUNNING_MAX + WAITING_MAX)),
            names: Mutex::default(),
        }
    }
}

#[cfg(test)]
impl Inspects {
    /// Places that nobody has.
    pub fn free(&self) -> usize {
        self.running.available_permits()
    }
}

/// One look, as a backend is asked for it.
#[derive(Debug)]
pub(crate) struct Inspection {
    /// Unique for ever.
    pub name: String,
    /// The workspace's folder on the host.
    pub folder: PathBuf,
    /// Value of `REKINDLE_INSPECT`.
    pub look: String,
    /// An image that is there; what is in it does not matter.
    pub image: String,
}

/// What a look printed.
#[derive(Debug, Default)]
pub(crate) struct Printed {
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Printed {
    /// Keeps what came, within the bounds.
    ///
    /// # Errors
    /// When it prints more than any answer.
    pub fn push(&mut self, is_stdout: bool, bytes: &[u8]) -> Result<(), BackendError> {
        if is_stdout {
            self.stdout.extend_from_slice(bytes);
            if self.stdout.len() > ANSWER_MAX_BYTES {
                return Err(BackendError(format!("it printed more than {ANSWER_MAX_BYTES} bytes")));
            }
        } else {
            let room = WORDS_MAX_BYTES.saturating_sub(self.stderr.len());
            self.stderr.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        Ok(())
    }
}

impl Runtime {
    /// Looks into a workspace, which is not changed. A look that was begun is seen to its end, whether the caller waits or not;
    /// nothing is left of it.
    ///
    /// # Errors
    /// [`RuntimeError::NotFound`] when there is no such workspace, or nothing in it of that name;
    /// [`RuntimeError::Refused`] when it cannot be looked at this way; [`RuntimeError::Unavailable`] when too many look already,
    /// when it was not done in time, or when the substrate does not answer.
    pub async fn inspect(&self, request: InspectRequest) -> Result<InspectAnswer, RuntimeError> {
        let deadline = match request.deadline_sec.unwrap_or(DEADLINE_DEFAULT_SEC) {
            sec @ 1..=DEADLINE_MAX_SEC => Duration::from_secs(sec),
            _ => return Err(RuntimeError::invalid("/deadlineSec", format!("must be 1 to {DEADLINE_MAX_SEC}"))),
        };
        let inner = &self.inner;
        let folder = inner.store.workspace(&request.workspace);
        // A folder itself: a link in its place leads nowhere.
        if !folder.symlink_metadata().is_ok_and(|m| m.is_dir()) {
            return Err(RuntimeError::NotFound);
        }
        let profile = inner.config.profiles.get("default").or_else(|| inner.config.profiles.values().next());
        let unwritable = |e: serde_json::Error| RuntimeError::invalid("/look", e.to_string());
        let inspection = Inspection {
            name: ulid::Ulid::new().to_string().to_lowercase(),
            folder,
            look: serde_json::to_string(&request.look).map_err(unwritable)?,
            image: profile.map(|p| p.image.clone()).unwrap_or_default(),
        };
        let crowded = || RuntimeError::unavailable("too many inspections at once; try again");
        let admitted = Arc::clone(&inner.inspects.admitted).try_acquire_owned().map_err(|_| crowded())?;
        let owned = Arc::clone(inner);
        // A task of its own: a caller that hangs up does not leave a container.
        let looking = inner.tasks.spawn(async move {
            let _admitted = admitted;
            match tokio::time::timeout(WAIT, owned.inspects.running.acquire()).await {
                Ok(Ok(_running)) => owned.run_inspection(&inspection, deadline).await,
                _ => Err(RuntimeError::unavailable("too many inspections at once; try again")),
            }
        });
        looking.await.map_err(|e| RuntimeError::unavailable(format!("the inspection was cut off: {e}")))?
    }
}

impl Inner {
    async fn run_inspection(&self, inspection: &Inspection, limit: Duration) -> Result<InspectAnswer, RuntimeError> {
        self.inspects.names.lock().await.insert(inspection.name.clone());
        let printed = tokio::select! {
            () = self.stop.cancelled() => Err(BackendError("the runtime ends".into())),
            done = tokio::time::timeout(limit, self.backend.inspect(inspection)) => match done {
                Ok(printed) => printed,
                Err(_) => Err(BackendError(format!("it was not done within {} s and was ended", limit.as_secs()))),
            },
        };
        match tokio::time::timeout(REMOVE_LIMIT, self.backend.end_inspect(&inspection.name)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, name = inspection.name, "an inspection may be left; it is swept"),
            Err(_) => tracing::warn!(name = inspection.name, "an inspection may be left; it is swept"),
        }
        self.inspects.names.lock().await.remove(&inspection.name);
        outcome(printed.map_err(|e| RuntimeError::unavailable(format!("the workspace was not inspected: {e}")))?)
    }

    /// Removes inspections that an earlier runtime has left, or that could not be removed before.
    pub async fn sweep_inspections(&self) {
        let known = match self.backend.inspects().await {
            Ok(known) => known,
            Err(error) => return tracing::warn!(%error, "the substrate does not list its inspections"),
        };
        for name in known {
            // Asked after the list: one of ours that is on it was written down before it was created.
            if self.inspects.names.lock().await.contains(&name) {
                continue;
            }
            match self.backend.end_inspect(&name).await {
                Ok(()) => tracing::info!(name, "removed an inspection that was left"),
                Err(error) => tracing::warn!(%error, name, "cannot remove an inspection that was left"),
            }
        }
    }
}

fn outcome(printed: Printed) -> Result<InspectAnswer, RuntimeError> {
    match contract::parse(&printed.stdout) {
        Ok(InspectOutcome::Answer(answer)) => Ok(answer),
        Ok(InspectOutcome::Refused { reason: InspectRefusal::Absent, .. }) => Err(RuntimeError::NotFound),
        Ok(InspectOutcome::Refused { reason: InspectRefusal::Invalid, detail }) => {
            Err(RuntimeError::refused(ErrorCode::InvalidParameter, detail))
        }
        Ok(InspectOutcome::Refused { reason: InspectRefusal::Unusable, detail }) => {
            Err(RuntimeError::refused(ErrorCode::Conflict, detail))
        }
        Err(error) => {
            let words = String::from_utf8_lossy(&printed.stderr);
            let detail = format!("the workspace was not inspected: {} ({error})", words.trim());
            Err(RuntimeError::unavailable(detail))
        }
    }
}
