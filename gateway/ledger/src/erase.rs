//! A unit is erased: the ledger refuses new turns, the runtime trashes the folders, then the ledger forgets it.

use std::time::Duration;

use contract::UnitId;

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::{Fields, number};
use crate::script;
use crate::starts::lease_ms;

/// Where an erasure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Erase {
    /// The unit is cold and takes no more turns; waiting ones are settled `erased`. The runtime may trash its folders, then
    /// `forget` it.
    Begun {
        /// Whether its own workspace is kept.
        keep_workspace: bool,
    },
    /// Its generation is ended first; it takes no more turns. Ask again.
    Draining,
    /// There is no such unit.
    Unknown,
}

/// An erasure that was begun and not ended: the unit is cold and takes no turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbandonedErasure {
    /// The unit.
    pub uid: UnitId,
    /// Whether its own workspace is kept.
    pub keep_workspace: bool,
}

impl Ledger {
    /// Begins to erase a unit. Idempotent; a unit that has a generation is drained first.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn erase(&self, uid: &UnitId, keep_workspace: bool) -> Result<Erase> {
        let keep: &[u8] = if keep_workspace { b"1" } else { b"" };
        let reply = self.run(&script::ERASE, &[uid.as_str().as_bytes(), keep]).await?;
        let (word, fields) = Fields::reply("erase", reply)?;
        Ok(match word.as_str() {
            "begun" => Erase::Begun { keep_workspace: fields.get("keep").is_some() },
            "draining" => Erase::Draining,
            "unknown" => Erase::Unknown,
            other => return Err(fields.wrong("reply", other)),
        })
    }

    /// Removes the unit's turns, its record and its streams. Does nothing unless [`Self::erase`] has begun and the unit is cold.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; some turns may be gone already, and it may be repeated.
    pub async fn forget(&self, uid: &UnitId) -> Result<()> {
        // One call for so many turns, so that nobody else waits for all of them.
        while Fields::reply("forget", self.run(&script::FORGET, &[uid.as_str().as_bytes()]).await?)?.0 == "more" {}
        Ok(())
    }

    /// Erasures of cold units that nobody has gone on with for `older`; they are the caller's for as long.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; what was picked meanwhile is picked again after `older`.
    pub async fn pick_erasures(&self, older: Duration, limit: usize) -> Result<Vec<AbandonedErasure>> {
        let args = [number(lease_ms(older)), number(limit as u64)];
        let reply = self.run(&script::PICK_ERASURES, &[args[0].as_bytes(), args[1].as_bytes()]).await?;
        let parse = |fields: &Fields| {
            Ok(AbandonedErasure { uid: fields.parsed("uid")?, keep_workspace: fields.get("keep").is_some() })
        };
        Fields::list("pick_erasures", reply)?.iter().map(parse).collect()
    }
}
