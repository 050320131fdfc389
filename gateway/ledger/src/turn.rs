//! Records of turns.

use contract::{FailReason, Owner, Start, Trigger, TurnId, UnitId, UnitName};
use serde_json::Value;

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::{Fields, items, text};
use crate::keys;
use crate::stream_id::StreamId;

/// Where a turn is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TurnStatus {
    /// It waits.
    Queued,
    /// A worker has it.
    Running,
    /// It is settled, well.
    Completed,
    /// It is settled, not well.
    Failed,
}

impl TurnStatus {
    /// The wire word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
        }
    }

    /// Whether nothing more will come.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Completed | Self::Failed)
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::Queued, Self::Running, Self::Completed, Self::Failed].into_iter().find(|s| s.as_str() == text)
    }
}

/// What the ledger knows of a turn. Times are milliseconds since the epoch, by Redis' clock.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnRecord {
    /// Its id.
    pub turn: TurnId,
    /// Its unit.
    pub uid: UnitId,
    /// Whose it is.
    pub owner: Owner,
    /// The unit's name.
    pub unit: UnitName,
    /// Where it is.
    pub status: TurnStatus,
    /// What to do.
    pub prompt: String,
    /// Why it fired.
    pub trigger: Trigger,
    /// The conversation thread.
    pub thread: String,
    /// The attempt that runs or ran last, from 1; 0 before the first delivery.
    pub attempt: u32,
    /// When it was accepted.
    pub submitted_ms: u64,
    /// When it was last delivered.
    pub taken_ms: Option<u64>,
    /// When it was settled.
    pub settled_ms: Option<u64>,
    /// How warm the worker was that took it.
    pub start: Option<Start>,
    /// The `done` event, where there was one.
    pub result: Option<Value>,
    /// Why it failed.
    pub reason: Option<FailReason>,
    /// What the platform has to say about that.
    pub detail: Option<String>,
    /// Its `commit` events.
    pub commits: Vec<Value>,
    /// Its first event; [`StreamId::ZERO`] before that.
    pub first_event: StreamId,
    /// Its unit's last event before it was submitted: reading from here misses nothing of it.
    pub after: StreamId,
    /// Its last event (`turn-complete` or final `turn-failed`), when it is settled.
    pub last_event: Option<StreamId>,
    /// What it waits for, e.g. `workspace demo` or `owner cap`.
    pub queued_reason: Option<String>,
    /// How many were before it when it was told so.
    pub queued_position: Option<u64>,
    /// Whether somebody cancelled it.
    pub cancelled: bool,
}

impl TurnRecord {
    fn parse(fields: &Fields) -> Result<Self> {
        let status = fields.need("status")?;
        let commits = fields.get("commits").unwrap_or_default().lines();
        Ok(Self {
            turn: fields.parsed("id")?,
            uid: fields.parsed("uid")?,
            owner: fields.parsed("owner")?,
            unit: fields.parsed("unit")?,
            status: TurnStatus::parse(status).ok_or_else(|| fields.wrong("status", status))?,
            prompt: fields.get("prompt").unwrap_or_default().into(),
            trigger: fields.maybe_word("trigger")?.ok_or_else(|| fields.wrong("trigger", "absent"))?,
            thread: fields.get("thread").unwrap_or("main").into(),
            attempt: fields.maybe("attempt")?.unwrap_or(0),
            submitted_ms: fields.parsed("submitted_ms")?,
            taken_ms: fields.maybe("taken_ms")?,
            settled_ms: fields.maybe("settled_ms")?,
            start: fields.maybe_word("start")?,
            result: fields.maybe_json("result")?,
            reason: fields.maybe_word("reason")?,
            detail: fields.get("detail").map(Into::into),
            commits: commits
                .map(serde_json::from_str)
                .collect::<std::result::Result<_, _>>()
                .map_err(|e| fields.wrong("commits", e))?,
            first_event: fields.maybe("first_event")?.unwrap_or_default(),
            after: fields.parsed("after")?,
            last_event: fields.maybe("last_event")?,
            queued_reason: fields.get("queued_reason").map(Into::into),
            queued_position: fields.maybe("queued_position")?,
            cancelled: fields.get("cancelled").is_some(),
        })
    }
}

impl Ledger {
    /// The turn, if it exists.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`], [`crate::LedgerError::Corrupt`].
    pub async fn turn(&self, turn: &TurnId) -> Result<Option<TurnRecord>> {
        Ok(self.turn_records(std::slice::from_ref(turn)).await?.pop())
    }

    /// The unit's turns, the newest first, at most `limit`, before the given one.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub async fn turns(&self, uid: &UnitId, before: Option<TurnId>, limit: usize) -> Result<Vec<TurnRecord>> {
        let key = keys::unit_turns(uid);
        let from = before.map_or("+".to_owned(), |turn| format!("({turn}"));
        let mut range = redis::cmd("ZRANGE");
        range.arg(&key).arg(from).arg("-").arg("BYLEX").arg("REV").arg("LIMIT").arg(0).arg(limit);
        let mut turns = Vec::new();
        for id in items(&key, self.command(&range).await?)? {
            turns.push(TurnId::parse(text(&key, id)?).map_err(|e| crate::LedgerError::corrupt(&key, e))?);
        }
        self.turn_records(&turns).await
    }

    async fn turn_records(&self, turns: &[TurnId]) -> Result<Vec<TurnRecord>> {
        if turns.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for turn in turns {
            pipe.cmd("HGETALL").arg(keys::turn(turn));
        }
        let mut records = Vec::with_capacity(turns.len());
        for (turn, value) in turns.iter().zip(self.pipeline(&pipe).await?) {
            let fields = Fields::parse(&keys::turn(turn), value)?;
            if !fields.is_empty() {
                records.push(TurnRecord::parse(&fields)?);
            }
        }
        Ok(records)
    }
}
