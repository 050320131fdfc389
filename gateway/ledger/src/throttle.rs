//! How often an owner may call, counted over all gateways.

use std::time::Duration;

use contract::Owner;

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::{Fields, number};
use crate::script;

/// A bound on calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run; at least 1.
    pub per_sec: u32,
    /// At once; at least 1.
    pub burst: u32,
}

/// Whether calls may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// So many, at least one.
    For(u32),
    /// None before that.
    After(Duration),
}

impl Ledger {
    /// Takes leave for up to `wanted` calls of an owner.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]. A Redis that takes no writes gives leave.
    pub async fn leave(&self, owner: &Owner, rate: Rate, wanted: u32) -> Result<Leave> {
        let args = [owner.key(), number(rate.per_sec.max(1)), number(rate.burst.max(1)), number(wanted.max(1))];
        let reply = self.run(&script::THROTTLE, &args.each_ref().map(|arg| arg.as_bytes())).await?;
        let (word, fields) = Fields::reply("throttle", reply)?;
        Ok(match word.as_str() {
            "go" => Leave::For(fields.parsed("leave")?),
            "wait" => Leave::After(Duration::from_millis(fields.parsed("ms")?)),
            other => return Err(fields.wrong("reply", other)),
        })
    }
}
