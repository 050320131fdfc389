//! Whose a workspace is.

use contract::{Owner, WorkspaceId};
use redis::Value;

use crate::connection::Ledger;
use crate::error::{LedgerError, Result};
use crate::fields::text;
use crate::keys;

impl Ledger {
    /// The owner that first used a workspace; none when nobody has.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`], [`crate::LedgerError::Corrupt`].
    pub async fn workspace_owner(&self, id: &WorkspaceId) -> Result<Option<Owner>> {
        let key = keys::workspace(id);
        let mut get = redis::cmd("HGET");
        get.arg(&key).arg("owner");
        match self.command(&get).await? {
            Value::Nil => Ok(None),
            value => Ok(Some(Owner::parse(text(&key, value)?).map_err(|e| LedgerError::corrupt(&key, e))?)),
        }
    }
}
