//! Waiting for drain jobs without polling for them.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use tokio::time::timeout;

use crate::connection::{BOUND, Ledger};
use crate::error::{LedgerError, Result};
use crate::fields::{items, text};
use crate::keys;

/// Says when a drain job was written.
pub struct Nudges {
    ledger: Ledger,
    connection: Option<MultiplexedConnection>,
    /// The last nudge that was seen; `None` before the first wait.
    last: Option<String>,
}

impl Ledger {
    /// A waiter for drain jobs, with a connection of its own.
    pub fn drain_nudges(&self) -> Nudges {
        Nudges { ledger: self.clone(), connection: None, last: None }
    }
}

impl Nudges {
    /// Waits until a drain job was written since the last call, at most `timeout`. `true` when there may be one; the first
    /// call returns at once.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`] at once when Redis does not answer; the next call connects anew.
    pub async fn wait(&mut self, at_most: Duration) -> Result<bool> {
        let waited = self.read(at_most).await;
        if waited.is_err() {
            self.connection = None;
        }
        waited
    }

    async fn read(&mut self, at_most: Duration) -> Result<bool> {
        let Some(last) = self.last.clone() else {
            let range =
                redis::cmd("XREVRANGE").arg(keys::NUDGE_DRAINS).arg("+").arg("-").arg("COUNT").arg(1).to_owned();
            let newest = items(keys::NUDGE_DRAINS, self.ledger.command(&range).await?)?.pop();
            self.last = Some(match newest {
                Some(entry) => entry_id(entry)?,
                None => "0-0".into(),
            });
            return Ok(true);
        };
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.ledger.blocking().await?,
        };
        let block = u64::try_from(at_most.as_millis()).unwrap_or(u64::MAX).clamp(1, 600_000);
        let mut read = redis::cmd("XREAD");
        read.arg("COUNT").arg(1000).arg("BLOCK").arg(block).arg("STREAMS").arg(keys::NUDGE_DRAINS).arg(last);
        let bound = Duration::from_millis(block) + BOUND;
        let reply =
            timeout(bound, connection.send_packed_command(&read)).await.map_err(|_| LedgerError::timed_out())??;
        self.connection = Some(connection);
        let reply = reply.extract_error()?;
        let Some(stream) = items(keys::NUDGE_DRAINS, reply)?.pop() else { return Ok(false) };
        let entries = items(keys::NUDGE_DRAINS, stream)?.pop().unwrap_or_default();
        if let Some(entry) = items(keys::NUDGE_DRAINS, entries)?.pop() {
            self.last = Some(entry_id(entry)?);
        }
        Ok(true)
    }
}

fn entry_id(entry: redis::Value) -> Result<String> {
    let id = items(keys::NUDGE_DRAINS, entry)?.into_iter().next().unwrap_or_default();
    text(keys::NUDGE_DRAINS, id)
}
