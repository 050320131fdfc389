//! What the ledger knows of generations, for whoever compares it with what the runtime has.

use std::time::Duration;

use contract::{Generation, UnitId, WorkloadId};

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::{Fields, items, number, text};
use crate::keys;
use crate::script;
use crate::starts::lease_ms;

/// Of what kind the things are that are compared; each kind has a grace of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StrayKind {
    /// Workloads that the runtime lists.
    Workloads,
    /// Generations' folders that belong to no workload.
    Folders,
}

impl StrayKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Workloads => "workloads",
            Self::Folders => "folders",
        }
    }
}

/// A workload (or its folder) whose generation is over, or of which the ledger knows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Which.
    pub workload: WorkloadId,
    /// It has been one for the grace, and is this caller's to remove for the lease.
    pub due: bool,
}

/// A generation that has begun and does not drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tracked {
    /// Which.
    pub workload: WorkloadId,
    /// Live: its worker was there once. Else it is starting, and need not exist yet.
    pub live: bool,
}

impl Ledger {
    /// Those of `listed` whose generation is not the unit's current one. Generations never come back, so what is a stray
    /// once always is. Name all that there are of the kind: the grace of what is not named begins anew.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; those that became due meanwhile are due again after `lease`.
    pub async fn strays(
        &self,
        kind: StrayKind,
        listed: &[WorkloadId],
        grace: Duration,
        lease: Duration,
    ) -> Result<Vec<Stray>> {
        let grace = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let mut args = vec![kind.as_str().to_owned(), number(grace), number(lease_ms(lease))];
        args.extend(listed.iter().flat_map(|id| [id.uid.to_string(), number(id.generation.0)]));
        let args: Vec<&[u8]> = args.iter().map(String::as_bytes).collect();
        let parse = |fields: &Fields| {
            let (uid, generation): (UnitId, u64) = (fields.parsed("uid")?, fields.parsed("gen")?);
            let workload = WorkloadId { uid, generation: Generation(generation) };
            Ok(Stray { workload, due: fields.get("due").is_some() })
        };
        Fields::list("strays", self.run(&script::STRAYS, &args).await?)?.iter().map(parse).collect()
    }

    /// Renews the lease of a stray that is being removed; `false` when it is none any more.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`].
    pub async fn renew_stray(&self, kind: StrayKind, workload: &WorkloadId, lease: Duration) -> Result<bool> {
        let (member, lease) = (format!("{}|{}", workload.uid, workload.generation), number(lease_ms(lease)));
        let args = [kind.as_str().as_bytes(), member.as_bytes(), lease.as_bytes()];
        let (word, _) = Fields::reply("renew_stray", self.run(&script::RENEW_STRAY, &args).await?)?;
        Ok(word == "renewed")
    }

    /// All generations that were Starting or Live when this was called and still are when it returns, and perhaps some that
    /// are one of both.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`], [`crate::LedgerError::Corrupt`].
    pub async fn tracked(&self) -> Result<Vec<Tracked>> {
        let mut found = Vec::new();
        let mut cursor = "0".to_owned();
        loop {
            let mut scan = redis::cmd("ZSCAN");
            scan.arg(keys::DEADLINES).arg(&cursor).arg("COUNT").arg(1000);
            let mut reply = items(keys::DEADLINES, self.command(&scan).await?)?.into_iter();
            cursor = text(keys::DEADLINES, reply.next().unwrap_or_default())?;
            let members = items(keys::DEADLINES, reply.next().unwrap_or_default())?;
            // Members and scores take turns.
            for member in members.into_iter().step_by(2) {
                found.extend(tracked_of(&text(keys::DEADLINES, member)?));
            }
            if cursor == "0" {
                return Ok(found);
            }
        }
    }
}

/// Every generation that starts has a start's deadline, every live one a lifetime's.
fn tracked_of(member: &str) -> Option<Tracked> {
    let mut parts = member.split('|');
    let (kind, uid, generation) = (parts.next()?, parts.next()?, parts.next()?);
    let live = match kind {
        "lifetime" => true,
        "start" => false,
        _ => return None,
    };
    let workload = WorkloadId { uid: UnitId::parse(uid).ok()?, generation: Generation(generation.parse().ok()?) };
    Some(Tracked { workload, live })
}
