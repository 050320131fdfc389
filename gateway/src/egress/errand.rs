//! On whose behalf a connection is opened, and for how long.

use std::time::Duration;

use contract::{Generation, UnitId};
use http::StatusCode;
use ledger::{Errand, Ledger};

use super::refusal::Refusal;

/// How often the ledger is asked whether an open connection is still needed.
const LOOK: Duration = Duration::from_secs(2);

/// One generation's errands.
#[derive(Debug, Clone)]
pub(super) struct Errands {
    pub(super) ledger: Ledger,
    pub(super) uid: UnitId,
    pub(super) generation: Generation,
}

impl Errands {
    /// The present one.
    pub(super) async fn now(&self) -> Result<Errand, Refusal> {
        match self.ledger.errand(&self.uid, self.generation).await {
            Ok(Some(errand)) => Ok(errand),
            Ok(None) => {
                Err(Refusal::new(StatusCode::FORBIDDEN, "this sandbox is being ended; nothing is opened for it"))
            }
            Err(error) => {
                tracing::warn!(%error, uid = %self.uid, "the ledger does not say whether a sandbox may connect");
                Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "the ledger does not answer; try again"))
            }
        }
    }

    /// Resolves when the errand is over: its turn is settled, or the generation ends. A ledger that does not answer says nothing.
    pub(super) async fn until_over(&self, errand: &Errand) {
        loop {
            tokio::time::sleep(LOOK).await;
            match self.ledger.errand(&self.uid, self.generation).await {
                Ok(Some(now)) if now == *errand => {}
                Ok(_) => return,
                Err(error) => tracing::debug!(%error, uid = %self.uid, "an open connection was not looked up"),
            }
        }
    }

    /// Tells the running turn of a refusal that a setting would change.
    pub(super) async fn tell(&self, refusal: &Refusal) {
        tracing::info!(uid = %self.uid, generation = %self.generation, why = refusal.why(), "a way out was refused");
        let Some(denied) = &refusal.denied else { return };
        if let Err(error) = self.ledger.deny_egress(&self.uid, self.generation, &denied.host, &denied.setting).await {
            tracing::warn!(%error, uid = %self.uid, "a turn was not told that a way out was refused");
        }
    }
}
