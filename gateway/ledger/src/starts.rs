//! Start jobs: durable, leased, and done by any gateway.

use std::time::Duration;

use contract::{Generation, Launcher, Owner, TurnId, UnitId, UnitName};

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::{Fields, number};
use crate::script;
use crate::shape::{Policy, Shape};

/// A generation to start: everything that its spec is built from.
#[derive(Debug, Clone, PartialEq)]
pub struct StartJob {
    /// The unit.
    pub uid: UnitId,
    /// The generation to start.
    pub generation: Generation,
    /// Whose unit it is.
    pub owner: Owner,
    /// The unit's name.
    pub name: UnitName,
    /// What fired the turn that it is started for.
    pub launcher: Launcher,
    /// What is fixed at the start.
    pub shape: Shape,
    /// The profile's bounds.
    pub policy: Policy,
    /// W3C trace context of that turn's caller.
    pub traceparent: Option<String>,
    /// Starts that failed before this one.
    pub failed_starts: u32,
    /// When the unit entered Starting, in milliseconds of Redis' clock.
    pub accepted_ms: u64,
}

impl StartJob {
    pub(crate) fn parse(fields: &Fields) -> Result<Self> {
        Ok(Self {
            uid: fields.parsed("start_uid")?,
            generation: Generation(fields.parsed("start_gen")?),
            owner: fields.parsed("start_owner")?,
            name: fields.parsed("start_name")?,
            launcher: fields
                .need("start_launcher")?
                .to_owned()
                .try_into()
                .map_err(|e: String| fields.wrong("launcher", e))?,
            shape: fields.json("start_shape")?,
            policy: Policy::parse(fields.need("start_policy")?)
                .ok_or_else(|| fields.wrong("policy", "not five numbers"))?,
            traceparent: fields.get("start_traceparent").map(Into::into),
            failed_starts: fields.maybe("start_failed")?.unwrap_or(0),
            accepted_ms: fields.parsed("start_ms")?,
        })
    }
}

/// What became of a failed start. The unit drains: what the runtime may have begun is removed before the next try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartFailed {
    /// Another generation is started after this long.
    Retrying {
        /// The back-off.
        after: Duration,
    },
    /// The head turn is settled with the detail; later ones are tried in their turn.
    Settled {
        /// Which.
        turn: TurnId,
    },
    /// Nothing waits any more: no further start is made.
    Nothing,
    /// The generation is not starting any more; nothing changed.
    Over,
}

impl Ledger {
    /// Leases start jobs whose lease is over or that nobody has yet. A job that is too old takes a new generation.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; jobs leased meanwhile are free again after `lease`.
    pub async fn pick_starts(&self, lease: Duration, limit: usize) -> Result<Vec<StartJob>> {
        let args = [number(lease_ms(lease)), number(limit as u64)];
        let reply = self.run(&script::PICK_STARTS, &[args[0].as_bytes(), args[1].as_bytes()]).await?;
        Fields::list("pick_starts", reply)?.iter().map(StartJob::parse).collect()
    }

    /// Renews the lease of a start job; `false` when the generation is not starting any more or somebody else has the job.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`].
    pub async fn renew_start(&self, uid: &UnitId, generation: Generation, lease: Duration) -> Result<bool> {
        let args = [number(generation.0), number(lease_ms(lease))];
        let args = [uid.as_str().as_bytes(), args[0].as_bytes(), args[1].as_bytes()];
        let (word, _) = Fields::reply("renew_start", self.run(&script::RENEW_START, &args).await?)?;
        Ok(word == "renewed")
    }

    /// A start did not succeed: the generation drains, and after a back-off another one is started; after `max_starts` of
    /// them, or at once when a retry cannot help, the head turn is settled with the substrate's own reason.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn start_failed(
        &self,
        uid: &UnitId,
        generation: Generation,
        detail: &str,
        retry: bool,
    ) -> Result<StartFailed> {
        let generation = number(generation.0);
        let args: [&[u8]; 4] =
            [uid.as_str().as_bytes(), generation.as_bytes(), detail.as_bytes(), if retry { b"1" } else { b"" }];
        let (word, fields) = Fields::reply("start_failed", self.run(&script::START_FAILED, &args).await?)?;
        Ok(match word.as_str() {
            "retrying" => StartFailed::Retrying { after: Duration::from_millis(fields.parsed("after_ms")?) },
            "settled" => StartFailed::Settled { turn: fields.parsed("turn")? },
            "nothing" => StartFailed::Nothing,
            "over" => StartFailed::Over,
            other => return Err(fields.wrong("reply", other)),
        })
    }

    /// The start cannot be made now and will be tried again within `again`: its time begins anew, and the turn that it is for
    /// is `queued` for this reason. `false` when the generation is not starting any more, or nothing waits for it.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn start_waits(
        &self,
        uid: &UnitId,
        generation: Generation,
        reason: &str,
        again: Duration,
    ) -> Result<bool> {
        let args = [number(generation.0), number(lease_ms(again))];
        let args = [uid.as_str().as_bytes(), args[0].as_bytes(), reason.as_bytes(), args[1].as_bytes()];
        let (word, _) = Fields::reply("start_waits", self.run(&script::START_WAITS, &args).await?)?;
        Ok(word == "waits")
    }

    /// The runtime refused the generation and named the highest that it knows: the job takes a higher one, leased to this
    /// process. `None` when the generation is not starting any more.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`].
    pub async fn restart(&self, uid: &UnitId, generation: Generation, highest: Generation) -> Result<Option<StartJob>> {
        let args = [number(generation.0), number(highest.0)];
        let args = [uid.as_str().as_bytes(), args[0].as_bytes(), args[1].as_bytes()];
        let (word, fields) = Fields::reply("restart", self.run(&script::RESTART, &args).await?)?;
        (word == "started").then(|| StartJob::parse(&fields)).transpose()
    }
}

pub(crate) fn lease_ms(lease: Duration) -> u64 {
    u64::try_from(lease.as_millis()).unwrap_or(u64::MAX).clamp(1, 3_600_000)
}
