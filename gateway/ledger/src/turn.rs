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
    /// What to do, or the beginning of it.
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
    /// The `done` event, where there was one, or the beginnings of its texts.
    pub result: Option<Value>,
    /// Whether the prompt, or anything of the result, is a beginning only or was left out.
    pub cut: bool,
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

/// How much of a turn is read. Prompts and results may have megabytes; nothing else of it is large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Detail {
    /// All of it.
    Whole,
    /// All but the prompt, of which the beginning.
    Outcome,
    /// The beginnings of the prompt and of the result.
    Head,
}

impl Detail {
    fn names(self) -> Vec<&'static str> {
        let (prompt, result) = match self {
            Self::Whole => ("prompt", "result"),
            Self::Outcome => ("prompt_head", "result"),
            Self::Head => ("prompt_head", "result_head"),
        };
        [NAMES, &[prompt, result]].concat()
    }
}

/// What is read of every turn.
const NAMES: &[&str] = &[
    "id",
    "uid",
    "owner",
    "unit",
    "status",
    "trigger",
    "thread",
    "attempt",
    "submitted_ms",
    "taken_ms",
    "settled_ms",
    "start",
    "reason",
    "detail",
    "commits",
    "first_event",
    "after",
    "last_event",
    "queued_reason",
    "queued_position",
    "cancelled",
    "cut",
];

/// Turns that one look of a list takes.
const AT_ONCE: usize = 16;
/// Most bytes of a list's text of a result.
const HEAD_BYTES: usize = 1024;

impl TurnRecord {
    fn parse(fields: &Fields, detail: Detail) -> Result<Self> {
        let status = fields.need("status")?;
        let commits = fields.get("commits").unwrap_or_default().lines();
        Ok(Self {
            turn: fields.parsed("id")?,
            uid: fields.parsed("uid")?,
            owner: fields.parsed("owner")?,
            unit: fields.parsed("unit")?,
            status: TurnStatus::parse(status).ok_or_else(|| fields.wrong("status", status))?,
            prompt: fields.get("prompt").or(fields.get("prompt_head")).unwrap_or_default().into(),
            trigger: fields.maybe_word("trigger")?.ok_or_else(|| fields.wrong("trigger", "absent"))?,
            thread: fields.get("thread").unwrap_or("main").into(),
            attempt: fields.maybe("attempt")?.unwrap_or(0),
            submitted_ms: fields.parsed("submitted_ms")?,
            taken_ms: fields.maybe("taken_ms")?,
            settled_ms: fields.maybe("settled_ms")?,
            start: fields.maybe_word("start")?,
            result: fields.maybe_json(if detail == Detail::Head { "result_head" } else { "result" })?,
            cut: detail == Detail::Head && fields.get("cut").is_some(),
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
    /// The turn, if it exists: all of it, which may be megabytes.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`], [`crate::LedgerError::Corrupt`].
    pub async fn turn(&self, turn: &TurnId) -> Result<Option<TurnRecord>> {
        self.detailed(turn, Detail::Whole).await
    }

    /// The turn, if it exists, with the beginning of its prompt: what came of it.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub async fn outcome(&self, turn: &TurnId) -> Result<Option<TurnRecord>> {
        self.detailed(turn, Detail::Outcome).await
    }

    /// The turn, if it exists, with the beginnings of its prompt and result: whose it is, and where.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub async fn turn_head(&self, turn: &TurnId) -> Result<Option<TurnRecord>> {
        self.detailed(turn, Detail::Head).await
    }

    async fn detailed(&self, turn: &TurnId, detail: Detail) -> Result<Option<TurnRecord>> {
        let found = self.look_at(std::slice::from_ref(turn), detail).await?.pop();
        found.map(|fields| TurnRecord::parse(&fields, detail)).transpose()
    }

    /// Where the turn is, if it exists: for who asks often.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub async fn turn_status(&self, turn: &TurnId) -> Result<Option<TurnStatus>> {
        let key = keys::turn(turn);
        let mut get = redis::cmd("HGET");
        get.arg(&key).arg("status");
        match self.command(&get).await? {
            redis::Value::Nil => Ok(None),
            word => {
                let word = text(&key, word)?;
                TurnStatus::parse(&word).map(Some).ok_or_else(|| crate::LedgerError::corrupt(key, word))
            }
        }
    }

    /// The unit's turns, the newest first, before the given one; with the beginnings of their texts. At most `limit`, and not
    /// more when there are `bytes` already. Whether there are more.
    ///
    /// # Errors
    /// As [`Self::turn`].
    pub async fn turns(
        &self,
        uid: &UnitId,
        before: Option<TurnId>,
        limit: usize,
        bytes: usize,
    ) -> Result<(Vec<TurnRecord>, bool)> {
        let key = keys::unit_turns(uid);
        let from = before.map_or("+".to_owned(), |turn| format!("({turn}"));
        let mut range = redis::cmd("ZRANGE");
        range.arg(&key).arg(from).arg("-").arg("BYLEX").arg("REV").arg("LIMIT").arg(0).arg(limit + 1);
        let mut turns = Vec::new();
        for id in items(&key, self.bulk_command(&range).await?)? {
            turns.push(TurnId::parse(text(&key, id)?).map_err(|e| crate::LedgerError::corrupt(&key, e))?);
        }
        let (mut records, mut read, mut left) = (Vec::new(), 0, turns.len());
        for some in turns[..turns.len().min(limit)].chunks(AT_ONCE) {
            for fields in self.look_at(some, Detail::Head).await? {
                read += fields.bytes();
                records.push(TurnRecord::parse(&fields, Detail::Head)?);
            }
            left -= some.len();
            if read >= bytes {
                break;
            }
        }
        Ok((records, left > 0))
    }

    async fn look_at(&self, turns: &[TurnId], detail: Detail) -> Result<Vec<Fields>> {
        let names = detail.names();
        let mut pipe = redis::pipe();
        for turn in turns {
            pipe.cmd("HMGET").arg(keys::turn(turn)).arg(&names);
        }
        // A single outcome is what a call waits for.
        let replies =
            if detail == Detail::Outcome { self.pipeline(&pipe).await? } else { self.bulk_pipeline(&pipe).await? };
        let mut found = Vec::with_capacity(replies.len());
        for (turn, reply) in turns.iter().zip(replies) {
            found.push(Fields::named(&keys::turn(turn), &names, reply)?);
        }
        found.retain(|fields| !fields.is_empty());
        Ok(found)
    }
}

/// A `done` event as lists show it, and whether that is less than all of it.
pub(crate) fn head_of(done: &str) -> (String, bool) {
    if done.len() <= HEAD_BYTES {
        return (done.to_owned(), false);
    }
    let Ok(Value::Object(mut fields)) = serde_json::from_str(done) else { return (String::new(), true) };
    let mut cut = false;
    fields.retain(|_, value| match value {
        Value::String(text) => {
            cut |= text.len() > HEAD_BYTES;
            let end = (0..=HEAD_BYTES.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
            text.truncate(end.unwrap_or_default());
            true
        }
        Value::Array(_) | Value::Object(_) => {
            let fits = value.to_string().len() <= HEAD_BYTES;
            cut |= !fits;
            fits
        }
        _ => true,
    });
    (Value::Object(fields).to_string(), cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shows_the_beginning_of_a_result() {
        let short = r#"{"type":"done","ok":true,"reply":"yes"}"#;
        assert_eq!(head_of(short), (short.to_owned(), false));
        let (reply, output) = ("ä".repeat(4_000), vec!["x"; 4_000]);
        let long = serde_json::json!({"type": "done", "reply": reply, "output": output, "usage": {"input_tokens": 1}});
        let (head, cut) = head_of(&long.to_string());
        let head: Value = serde_json::from_str(&head).unwrap();
        assert!(cut);
        assert_eq!(head["reply"].as_str().unwrap(), "ä".repeat(512));
        assert_eq!((&head["output"], &head["usage"]["input_tokens"]), (&Value::Null, &Value::from(1)));
    }
}
