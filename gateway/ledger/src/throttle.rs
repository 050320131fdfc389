//! How often an owner may ask for something, counted over all gateways.

use std::time::Duration;

use contract::Owner;

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::{Fields, number};
use crate::script;

/// What is counted, each by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Paced {
    /// Calls of the API.
    Calls,
    /// Requests to models.
    ModelRequests,
    /// KiB of large bodies and answers.
    Bulk,
}

impl Paced {
    fn key(self, owner: &Owner) -> String {
        match self {
            Self::Calls => owner.key(),
            Self::ModelRequests => format!("models:{}", owner.key()),
            Self::Bulk => format!("bulk:{}", owner.key()),
        }
    }
}

/// A bound on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// In the long run; at least 1.
    pub per_sec: u32,
    /// At once; at least 1.
    pub burst: u32,
}

/// Whether it may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Leave {
    /// So many, at least one.
    For(u32),
    /// None before that.
    After(Duration),
}

impl Ledger {
    /// Takes leave for up to `wanted` of them, for an owner.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]. A Redis that takes no writes gives leave.
    pub async fn leave(&self, paced: Paced, owner: &Owner, rate: Rate, wanted: u32) -> Result<Leave> {
        self.throttle(paced, owner, rate, wanted, false).await
    }

    /// Takes leave for all of `wanted` when there is leave for one. What is more than there was holds up those that come later.
    ///
    /// # Errors
    /// As [`Self::leave`].
    pub async fn leave_whole(&self, paced: Paced, owner: &Owner, rate: Rate, wanted: u32) -> Result<Leave> {
        self.throttle(paced, owner, rate, wanted, true).await
    }

    async fn throttle(&self, paced: Paced, owner: &Owner, rate: Rate, wanted: u32, whole: bool) -> Result<Leave> {
        let [per_sec, burst, wanted] = [rate.per_sec, rate.burst, wanted].map(|n| number(n.max(1)));
        let args = [paced.key(owner), per_sec, burst, wanted, number(u8::from(whole))];
        let reply = self.run(&script::THROTTLE, &args.each_ref().map(|arg| arg.as_bytes())).await?;
        let (word, fields) = Fields::reply("throttle", reply)?;
        Ok(match word.as_str() {
            "go" => Leave::For(fields.parsed("leave")?),
            "wait" => Leave::After(Duration::from_millis(fields.parsed("ms")?)),
            other => return Err(fields.wrong("reply", other)),
        })
    }
}
