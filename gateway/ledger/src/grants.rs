//! A workspace is its owner's; who else may use it was granted it.

use contract::{Mode, Owner, WorkspaceId};
use redis::Value;

use crate::connection::Ledger;
use crate::error::{LedgerError, Result};
use crate::fields::{Fields, items, number, text};
use crate::keys;
use crate::script;

/// Another owner that may use a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub to: Owner,
    /// How.
    pub mode: Mode,
}

/// What became of a grant, or of its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Granting {
    /// It is so from now on; workers that mount more than that are being ended.
    Done,
    /// The workspace is not this owner's, or nobody's yet. Nothing was changed.
    NoWorkspace,
    /// There was no such grant. Nothing was changed.
    NoGrant,
    /// It is granted to as many owners as it may be. Nothing was changed.
    Full,
    /// Its owner has as many bytes stored as it may. Nothing was changed.
    Stored,
}

/// What an owner may do with a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkspaceAccess {
    /// Whose it is.
    pub owner: Owner,
    /// How it was granted to who asks; none when it was not, or is its own.
    pub granted: Option<Mode>,
}

fn mode_of(grant: &str) -> Option<Mode> {
    match grant.split(' ').next() {
        Some("ro") => Some(Mode::Ro),
        Some("rw") => Some(Mode::Rw),
        _ => None,
    }
}

impl Ledger {
    /// Grants a workspace of this owner's to another one, or changes the mode. Workers of the grantee that mount more than
    /// that are ended; what they were at is told as failed when it would start again.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`]; may be repeated.
    pub async fn grant(
        &self,
        workspace: &WorkspaceId,
        owner: &Owner,
        to: &Owner,
        mode: Mode,
        most: u32,
    ) -> Result<Granting> {
        let mode = match mode {
            Mode::Ro => "ro",
            Mode::Rw => "rw",
        };
        self.set_grant(workspace, owner, to, mode, most).await
    }

    /// Ends a grant. Workers of the grantee that mount the workspace are ended.
    ///
    /// # Errors
    /// As [`Self::grant`].
    pub async fn revoke_grant(&self, workspace: &WorkspaceId, owner: &Owner, to: &Owner) -> Result<Granting> {
        self.set_grant(workspace, owner, to, "", 0).await
    }

    async fn set_grant(
        &self,
        workspace: &WorkspaceId,
        owner: &Owner,
        to: &Owner,
        mode: &str,
        most: u32,
    ) -> Result<Granting> {
        let (owner_key, to_key, most) = (owner.key(), to.key(), number(most));
        let args = [workspace.as_str(), owner.as_str(), to.as_str(), &to_key, mode, &most, &owner_key];
        let script = if mode.is_empty() { &script::REVOKE_GRANT } else { &script::GRANT };
        let reply = self.run_replicated(script, &args.map(str::as_bytes)).await?;
        let (word, fields) = Fields::reply("grant", reply)?;
        Ok(match word.as_str() {
            "granted" | "revoked" => Granting::Done,
            "unknown" => Granting::NoWorkspace,
            "none" => Granting::NoGrant,
            "full" => Granting::Full,
            "stored" => Granting::Stored,
            other => return Err(fields.wrong("reply", other)),
        })
    }

    /// To whom a workspace is granted; none when it is not this owner's.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`], [`LedgerError::Corrupt`].
    pub async fn grants(&self, workspace: &WorkspaceId, owner: &Owner) -> Result<Option<Vec<Grant>>> {
        let (key, list) = (keys::workspace(workspace), keys::grants(workspace));
        let mut ask = redis::pipe();
        ask.cmd("HGET").arg(&key).arg("owner").cmd("HGETALL").arg(&list);
        let mut replies = self.pipeline(&ask).await?.into_iter();
        if known_owner(&key, replies.next())?.as_ref() != Some(owner) {
            return Ok(None);
        }
        let flat = match replies.next().unwrap_or_default() {
            Value::Map(pairs) => pairs.into_iter().flat_map(|(k, v)| [k, v]).collect(),
            other => items(&list, other)?,
        };
        let mut grants = Vec::new();
        let mut flat = flat.into_iter();
        while let (Some(to), Some(grant)) = (flat.next(), flat.next()) {
            let to = Owner::parse(text(&list, to)?).map_err(|e| LedgerError::corrupt(&list, e))?;
            if let Some(mode) = mode_of(&text(&list, grant)?) {
                grants.push(Grant { to, mode });
            }
        }
        grants.sort_by(|a, b| a.to.as_str().cmp(b.to.as_str()));
        Ok(Some(grants))
    }

    /// Whose a workspace is and how it was granted to this owner; none when it is nobody's. The same questions are asked
    /// whatever the answer.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`], [`LedgerError::Corrupt`].
    pub async fn workspace_access(&self, id: &WorkspaceId, who: &Owner) -> Result<Option<WorkspaceAccess>> {
        let (key, list) = (keys::workspace(id), keys::grants(id));
        let mut ask = redis::pipe();
        ask.cmd("HGET").arg(&key).arg("owner").cmd("HGET").arg(&list).arg(who.as_str());
        let mut replies = self.pipeline(&ask).await?.into_iter();
        let owner = known_owner(&key, replies.next())?;
        let granted = match replies.next() {
            None | Some(Value::Nil) => None,
            Some(grant) => mode_of(&text(&list, grant)?),
        };
        Ok(owner.map(|owner| WorkspaceAccess { owner, granted }))
    }
}

fn known_owner(key: &str, reply: Option<Value>) -> Result<Option<Owner>> {
    match reply {
        None | Some(Value::Nil) => Ok(None),
        Some(value) => Ok(Some(Owner::parse(text(key, value)?).map_err(|e| LedgerError::corrupt(key, e))?)),
    }
}
