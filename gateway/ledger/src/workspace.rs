//! Whose a workspace or a unit is, and how a workspace becomes nobody's.

use contract::{Owner, UnitId, WorkspaceId};
use redis::Value;

use crate::connection::Ledger;
use crate::error::{LedgerError, Result};
use crate::fields::{Fields, items, text};
use crate::{keys, script};

/// Where the erasure of a workspace is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EraseWorkspace {
    /// No turn may name it any more and nobody mounts it: the runtime may trash its folder, then `forget_workspace`.
    Begun,
    /// No turn may name it any more; workers that mount it are ended first. Ask again.
    Draining,
    /// Turns that name it wait or run. Nothing was changed.
    Busy,
    /// It is a unit's own, and goes with the unit. Nothing was changed.
    OfUnit,
    /// It is not this owner's. Nothing was changed.
    Unknown,
}

impl Ledger {
    /// The workspaces that the owner named, in no order.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    pub async fn workspaces(&self, owner: &Owner) -> Result<Vec<WorkspaceId>> {
        let key = keys::owner_workspaces(owner);
        let mut get = redis::cmd("SMEMBERS");
        get.arg(&key);
        let list = match self.command(&get).await? {
            Value::Set(list) => list,
            other => items(&key, other)?,
        };
        let parse = |id| WorkspaceId::parse(text(&key, id)?).map_err(|e| LedgerError::corrupt(&key, e));
        list.into_iter().map(parse).collect()
    }

    /// Begins to erase a workspace that the owner named: idle workers that mount it are ended, its grants too. Idempotent.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`]; may be repeated.
    pub async fn erase_workspace(&self, id: &WorkspaceId, owner: &Owner) -> Result<EraseWorkspace> {
        let owner_key = owner.key();
        let args = [id.as_str(), owner.as_str(), &owner_key].map(str::as_bytes);
        let (word, fields) = Fields::reply("erase_workspace", self.run(&script::ERASE_WORKSPACE, &args).await?)?;
        Ok(match word.as_str() {
            "begun" => EraseWorkspace::Begun,
            "draining" => EraseWorkspace::Draining,
            "busy" => EraseWorkspace::Busy,
            "of_unit" => EraseWorkspace::OfUnit,
            "unknown" => EraseWorkspace::Unknown,
            other => return Err(fields.wrong("reply", other)),
        })
    }

    /// The name is nobody's from now on. Does nothing unless [`Self::erase_workspace`] has begun.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`]; may be repeated.
    pub async fn forget_workspace(&self, id: &WorkspaceId, owner: &Owner) -> Result<()> {
        let owner_key = owner.key();
        let args = [id.as_str(), owner.as_str(), &owner_key].map(str::as_bytes);
        self.run(&script::FORGET_WORKSPACE, &args).await.map(drop)
    }

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
