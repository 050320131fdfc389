//! A generation is ended, and what is due.

use std::time::Duration;

use contract::{Generation, StopReason, UnitId};

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::{Fields, number};
use crate::script;
use crate::starts::lease_ms;
use crate::state::DrainReason;

/// How a workload ended, in the substrate's words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// Why.
    pub reason: StopReason,
    /// Exit status of its first process, where it is known.
    pub exit_code: Option<i32>,
    /// What else there is to say.
    pub detail: Option<String>,
}

/// What kind of deadline is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeadlineKind {
    /// Nothing was taken or waited for the idle timeout: `begin_idle_drain`.
    Idle,
    /// The worker did not become ready: `begin_drain(StartTimedOut)`.
    Start,
    /// The generation lived for as long as it may: `begin_drain(MaxLifetime)`.
    Lifetime,
    /// A cancel was not answered: `begin_drain(Unresponsive)`.
    Cancel,
    /// A turn took longer than it may, from its delivery: `begin_drain(TurnTimeout)`.
    Turn,
}

/// Something that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deadline {
    /// What.
    pub kind: DeadlineKind,
    /// Of which unit.
    pub uid: UnitId,
    /// Of which generation.
    pub generation: Generation,
}

/// A generation whose workload is to be stopped and destroyed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DrainJob {
    /// The unit.
    pub uid: UnitId,
    /// The generation.
    pub generation: Generation,
    /// What the runtime is told.
    pub reason: StopReason,
}

/// `reason`, `exit_code` and `detail` of an exit as arguments; three empty ones for none.
fn exit_args(exit: Option<&Exit>) -> [String; 3] {
    match exit {
        None => Default::default(),
        Some(exit) => [
            exit.reason.as_str().to_owned(),
            exit.exit_code.map(|c| c.to_string()).unwrap_or_default(),
            exit.detail.clone().unwrap_or_default(),
        ],
    }
}

impl Ledger {
    /// Starting or Live → Draining; writes a drain job. `false` when the generation is not current or drains already, and
    /// when what is said to be over is not: a start that is ready meanwhile, a turn or a cancel that is settled meanwhile.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn begin_drain(
        &self,
        uid: &UnitId,
        generation: Generation,
        reason: DrainReason,
        exit: Option<Exit>,
    ) -> Result<bool> {
        let generation = number(generation.0);
        let [why, code, detail] = exit_args(exit.as_ref());
        let args = [
            uid.as_str().as_bytes(),
            generation.as_bytes(),
            reason.as_str().as_bytes(),
            why.as_bytes(),
            code.as_bytes(),
            detail.as_bytes(),
        ];
        let (word, _) = Fields::reply("begin_drain", self.run(&script::BEGIN_DRAIN, &args).await?)?;
        Ok(word == "draining")
    }

    /// Live → Draining, only if nothing is taken or waiting and the idle timeout has passed by Redis' clock.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn begin_idle_drain(&self, uid: &UnitId, generation: Generation) -> Result<bool> {
        let generation = number(generation.0);
        let args = [uid.as_str().as_bytes(), generation.as_bytes()];
        let (word, _) = Fields::reply("begin_idle_drain", self.run(&script::BEGIN_IDLE_DRAIN, &args).await?)?;
        Ok(word == "draining")
    }

    /// A caller's stop: the generation that drains now, if the unit had one.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn drain_unit(&self, uid: &UnitId) -> Result<Option<Generation>> {
        let stopped = DrainReason::Stopped.as_str().as_bytes();
        let args: [&[u8]; 6] = [uid.as_str().as_bytes(), b"", stopped, b"", b"", b""];
        let (_, fields) = Fields::reply("begin_drain", self.run(&script::BEGIN_DRAIN, &args).await?)?;
        Ok(fields.maybe("gen")?.map(Generation))
    }

    /// What is due, the longest first. What is not of a current generation is dropped.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`].
    pub async fn due(&self, limit: usize) -> Result<Vec<Deadline>> {
        let limit = number(limit as u64);
        let reply = self.run(&script::DUE, &[limit.as_bytes()]).await?;
        let parse = |fields: &Fields| {
            Ok(Deadline {
                kind: match fields.need("kind")? {
                    "idle" => DeadlineKind::Idle,
                    "start" => DeadlineKind::Start,
                    "lifetime" => DeadlineKind::Lifetime,
                    "cancel" => DeadlineKind::Cancel,
                    "turn" => DeadlineKind::Turn,
                    other => return Err(fields.wrong("kind", other)),
                },
                uid: fields.parsed("uid")?,
                generation: Generation(fields.parsed("gen")?),
            })
        };
        Fields::list("due", reply)?.iter().map(parse).collect()
    }

    /// Leases drain jobs. A short lease, renewed while the workload is being ended, is soon another reaper's when this one dies.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; jobs leased meanwhile are free again after `lease`.
    pub async fn pick_drains(&self, lease: Duration, limit: usize) -> Result<Vec<DrainJob>> {
        let args = [number(lease_ms(lease)), number(limit as u64)];
        let reply = self.run(&script::PICK_DRAINS, &[args[0].as_bytes(), args[1].as_bytes()]).await?;
        let parse = |fields: &Fields| {
            let reason = fields.need("reason")?;
            Ok(DrainJob {
                uid: fields.parsed("uid")?,
                generation: Generation(fields.parsed("gen")?),
                reason: DrainReason::parse(reason).ok_or_else(|| fields.wrong("reason", reason))?.stop_reason(),
            })
        };
        Fields::list("pick_drains", reply)?.iter().map(parse).collect()
    }

    /// Renews the lease of a drain job; `false` when the generation is not draining any more or somebody else has the job.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`].
    pub async fn renew_drain(&self, uid: &UnitId, generation: Generation, lease: Duration) -> Result<bool> {
        let args = [number(generation.0), number(lease_ms(lease))];
        let args = [uid.as_str().as_bytes(), args[0].as_bytes(), args[1].as_bytes()];
        let (word, _) = Fields::reply("renew_drain", self.run(&script::RENEW_DRAIN, &args).await?)?;
        Ok(word == "renewed")
    }

    /// The runtime confirmed that the workload no longer exists: Draining → Cold, or Starting where something waits. `false`
    /// when this generation is not draining.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn exited(&self, uid: &UnitId, generation: Generation, exit: Exit) -> Result<bool> {
        let generation = number(generation.0);
        let [why, code, detail] = exit_args(Some(&exit));
        let args = [uid.as_str().as_bytes(), generation.as_bytes(), why.as_bytes(), code.as_bytes(), detail.as_bytes()];
        let (word, _) = Fields::reply("exited", self.run(&script::EXITED, &args).await?)?;
        Ok(word == "exited")
    }
}
