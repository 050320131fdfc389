//! What reapers share: whose turn it is to look, lines that nobody moves, and places that nobody gives back.

use std::time::Duration;

use contract::{UnitId, WorkspaceId};

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::{Fields, number};
use crate::script;
use crate::starts::lease_ms;

/// A line for a workspace that moved on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The workspace that was waited for.
    pub workspace: WorkspaceId,
    /// Who was first in line.
    pub uid: UnitId,
}

/// A place that a cold unit had, and now has no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vacated {
    /// Who had it. It may be no unit any more.
    pub uid: UnitId,
    /// Among whom: `owner cap` or `total cap`.
    pub of: String,
}

impl Ledger {
    /// Whether a periodic task is this process' to do in this period; one process only gets a `true`.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`].
    pub async fn claim_period(&self, task: &str, period: Duration) -> Result<bool> {
        let period = number(lease_ms(period));
        let reply = self.run(&script::CLAIM_PERIOD, &[task.as_bytes(), period.as_bytes()]).await?;
        Ok(Fields::reply("claim_period", reply)?.0 == "mine")
    }

    /// Removes what was kept for its time: prompts and events of settled turns, then the turns. At most `limit` looks; how many
    /// there were.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn age(&self, limit: usize) -> Result<usize> {
        let limit = number(limit as u64);
        let reply = self.run(&script::AGE, &[limit.as_bytes()]).await?;
        Fields::reply("age", reply)?.1.parsed("looks")
    }

    /// Looks at lines for workspaces, at most `limit` of them: where the holder is cold and nothing waits in it (or it is
    /// unknown), the first in line starts; a holder that is live and idle is ended for it.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn tend_lines(&self, limit: usize) -> Result<Vec<Moved>> {
        let limit = number(limit as u64);
        let reply = self.run(&script::TEND_LINES, &[limit.as_bytes()]).await?;
        let parse = |f: &Fields| Ok(Moved { workspace: f.parsed("workspace")?, uid: f.parsed("uid")? });
        Fields::list("tend_lines", reply)?.iter().map(parse).collect()
    }

    /// Goes on with a line that a script left before it was through with it. `true` when there are more.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated. A line that was being gone on with then is looked at by
    /// [`Self::tend_lines`] or [`Self::tend_places`].
    pub async fn go_on(&self) -> Result<bool> {
        Ok(Fields::reply("go_on", self.run(&script::GO_ON, &[]).await?)?.0 == "more")
    }

    /// Looks at places, at most `limit` of all and as many of each of some owners, drawn at random: whoever has one and is cold
    /// loses it to who waits. No transition leaves such a place; lost or mended data may.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn tend_places(&self, limit: usize) -> Result<Vec<Vacated>> {
        let limit = number(limit as u64);
        let reply = self.run(&script::TEND_PLACES, &[limit.as_bytes()]).await?;
        let parse = |f: &Fields| Ok(Vacated { uid: f.parsed("uid")?, of: f.need("of")?.to_owned() });
        Fields::list("tend_places", reply)?.iter().map(parse).collect()
    }
}
