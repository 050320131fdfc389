//! A unit is erased: the ledger refuses new turns, the runtime trashes the folders, then the ledger forgets it.

use contract::UnitId;

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::Fields;
use crate::script;

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

    /// Removes the unit's record and streams; its settled turns stay for their time. Does nothing unless [`Self::erase`] has
    /// begun and the unit is cold.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn forget(&self, uid: &UnitId) -> Result<()> {
        let owner = self.unit(uid).await?.map(|unit| crate::keys::owner_units(&unit.owner)).unwrap_or_default();
        self.run(&script::FORGET, &[uid.as_str().as_bytes(), owner.as_bytes()]).await.map(drop)
    }
}
