//! A worker that is told to end while it is idle puts its repositories in order first: nobody waits for it any more, and
//! nobody else may write to them yet.

use std::time::Duration;

use contract::Mode;
use tokio::time::Instant;
use workspace::{Limits, Mounted, Tidied, Unit, Workspace};

use crate::settings::Settings;

/// How long it may take: the next start of a unit waits for the end of the last one, and runtimes give no endless grace.
const BOUND: Duration = Duration::from_secs(6);

/// Puts the `rw` workspaces in order, as far as it gets. A kill meanwhile loses nothing.
pub async fn tidy(settings: &Settings) {
    let unit = Unit { uid: settings.unit.clone(), generation: settings.generation };
    let mounts: Vec<_> = settings.workspaces.iter().filter(|at| at.mode == Mode::Rw).cloned().collect();
    let deadline = Instant::now() + BOUND;
    let working = tokio::task::spawn_blocking(move || {
        for at in mounts {
            let mounted = Mounted { id: at.id, mode: at.mode, path: at.path };
            let opened = Workspace::open(&mounted, &unit, Limits::default());
            match opened.and_then(|mut workspace| workspace.tidy(&|| Instant::now() >= deadline)) {
                Ok(tidied) if tidied == Tidied::default() => {}
                Ok(Tidied { packed, pruned, swept }) => {
                    tracing::info!(workspace = %mounted.id, packed, pruned = pruned.len(), swept, "put in order");
                }
                Err(error) => {
                    tracing::warn!(workspace = %mounted.id, error = error.chain(), "cannot be put in order");
                }
            }
        }
    });
    if let Err(error) = working.await {
        tracing::error!(%error, "failed to put the workspaces in order");
    }
}
