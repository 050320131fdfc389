//! Whose a workspace or a unit is.

use contract::{Owner, UnitId, WorkspaceId};
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
        self.owner_in(keys::workspace(id)).await
    }

    /// The unit's owner; none when there is no such unit. For who may not know the rest of it: whether there is more to read
    /// must not show in the time that it takes.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`], [`crate::LedgerError::Corrupt`].
    pub async fn unit_owner(&self, uid: &UnitId) -> Result<Option<Owner>> {
        self.owner_in(keys::unit(uid)).await
    }

    async fn owner_in(&self, key: String) -> Result<Option<Owner>> {
        let mut get = redis::cmd("HGET");
        get.arg(&key).arg("owner");
        match self.command(&get).await? {
            Value::Nil => Ok(None),
            value => Ok(Some(Owner::parse(text(&key, value)?).map_err(|e| LedgerError::corrupt(&key, e))?)),
        }
    }
}
