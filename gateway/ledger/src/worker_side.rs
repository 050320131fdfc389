//! What the worker port does on a worker's behalf. Every call is fenced by the generation.

use contract::{FailReason, Generation, TurnId, TurnMessage, UnitId};

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::{Fields, items, number, text};
use crate::stream_id::StreamId;
use crate::submit::{Delivery, message};
use crate::turn::head_of;
use crate::{keys, script};

/// A `done` event that is longer is cut where there is no room: half of what is kept free for a turn's end (`ENDING` in
/// `lua/lib.lua`), whose other half is for what else is written then.
const SHORT_BYTES: usize = 8 << 10;

/// What a generation still is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Starting or live.
    Current,
    /// It is being ended; it may finish the turn that it has.
    Draining,
    /// Another generation, or none, is current.
    Over,
}

/// What a connection of a generation may count on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// What the generation still is.
    pub standing: Standing,
    /// Whether our worker claimed it.
    pub claimed: bool,
    /// Hash of the nonce that its connections must show.
    pub nonce_hash: Option<String>,
    /// The turn that it has.
    pub taken: Option<TurnId>,
}

/// What became of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ready {
    /// The unit is live, now or already by the same claim.
    Live,
    /// Somebody claimed the generation before.
    AlreadyClaimed,
    /// The generation is draining or over.
    Over,
}

/// What a read gives.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one exists at a time")]
pub enum Taken {
    /// A turn: a new one, or the held one of which no event was seen.
    Turn(TurnMessage),
    /// Nothing now; the connection is the link, and what comes is delivered to it.
    Nothing,
    /// The held turn was cancelled.
    Cancel(TurnId),
    /// The generation is draining: the worker ends when idle.
    Stop,
    /// The generation is over.
    Over,
}

/// An event of a worker.
#[derive(Debug, Clone, Copy)]
pub struct Emit<'a> {
    /// The turn that it claims to be of; `None`: the taken one.
    pub turn: Option<&'a TurnId>,
    /// Its number within the turn.
    pub seq: Option<u64>,
    /// Its type.
    pub kind: &'a str,
    /// The event, an object, already stamped with its generation.
    pub json: &'a str,
    /// Whether the script shall put `turn_id` into the object, which has none.
    pub splice_turn: bool,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Emitted {
    /// It is written.
    Written {
        /// Its id.
        id: StreamId,
        /// The turn was cancelled.
        cancel: bool,
    },
    /// It was written before.
    Repeat {
        /// Its id, or, of one that was followed by others, the last one's.
        id: StreamId,
    },
    /// It is not of the taken turn and was dropped.
    Stale,
    /// The generation is over.
    Over,
}

/// A worker's last word on a turn.
#[derive(Debug, Clone)]
pub struct Settle<'a> {
    /// Whether it went well.
    pub ok: bool,
    /// Why not; `None` when the worker gave no reason (then what the turn was marked with, or `error`).
    pub reason: Option<FailReason>,
    /// The `done` event, already stamped.
    pub done_json: &'a str,
    /// Its number within the turn.
    pub seq: Option<u64>,
    /// Hash of the worker's walk cache, given to the next turn.
    pub cache: Option<String>,
}

/// What became of a settlement.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "one exists at a time")]
pub enum Settled {
    /// The turn is settled.
    Written {
        /// Id of the `done` event.
        id: StreamId,
        /// The next turn, taken for a link of this gateway.
        next: Option<Delivery>,
    },
    /// It was settled before, by this generation. Nothing changed.
    Repeat {
        /// Id of the `done` event then.
        id: StreamId,
    },
    /// It is not the taken turn. Nothing changed.
    Stale,
    /// The generation is over. Nothing changed.
    Over,
}

impl Ledger {
    /// What a generation still is.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`].
    pub async fn current(&self, uid: &UnitId, generation: Generation) -> Result<Current> {
        standing(uid, generation, self.command(&look(uid)).await?)
    }

    /// What each of many generations still is, in their order; a round trip for a few hundred.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`].
    pub async fn currents(&self, generations: &[(UnitId, Generation)]) -> Result<Vec<Current>> {
        let mut all = Vec::with_capacity(generations.len());
        for some in generations.chunks(500) {
            let mut looks = redis::pipe();
            for (uid, _) in some {
                looks.add_command(look(uid));
            }
            for ((uid, generation), reply) in some.iter().zip(self.pipeline(&looks).await?) {
                all.push(standing(uid, *generation, reply)?);
            }
        }
        Ok(all)
    }

    /// The worker is there: Starting → Live, writes `worker-ready`. With a claim (the hash of a nonce) once per generation; a
    /// repeat with the same hash, or by a foreign worker without one, changes nothing.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn ready(
        &self,
        uid: &UnitId,
        generation: Generation,
        claim: Option<&str>,
        boot_ms: u64,
    ) -> Result<Ready> {
        let args = [number(generation.0), number(boot_ms)];
        let args =
            [uid.as_str().as_bytes(), args[0].as_bytes(), claim.unwrap_or_default().as_bytes(), args[1].as_bytes()];
        let (word, fields) = Fields::reply("ready", self.run(&script::READY, &args).await?)?;
        Ok(match word.as_str() {
            "live" => Ready::Live,
            "claimed" => Ready::AlreadyClaimed,
            "over" => Ready::Over,
            other => return Err(fields.wrong("reply", other)),
        })
    }

    /// A worker reads: the connection becomes the link, and a turn is taken for it if one is there. A generation that is not
    /// ready yet gets [`Taken::Nothing`] and no link. The turn that this connection `had` last is not given to it again.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated: what was taken is given again.
    pub async fn take(
        &self,
        uid: &UnitId,
        generation: Generation,
        connection: u64,
        had: Option<&TurnId>,
    ) -> Result<Taken> {
        let args = [number(generation.0), number(connection)];
        let had = had.map_or("", |turn| turn.as_str());
        let args = [uid.as_str().as_bytes(), args[0].as_bytes(), args[1].as_bytes(), had.as_bytes()];
        let (word, fields) = Fields::reply("take", self.run(&script::TAKE, &args).await?)?;
        Ok(match word.as_str() {
            "turn" => Taken::Turn(message(&fields, None)?),
            "nothing" => Taken::Nothing,
            "cancel" => Taken::Cancel(fields.parsed("turn")?),
            "stop" => Taken::Stop,
            "over" => Taken::Over,
            other => return Err(fields.wrong("reply", other)),
        })
    }

    /// The connection is gone. Clears the link only if it is still this one.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`].
    pub async fn unlink(&self, uid: &UnitId, generation: Generation, connection: u64) -> Result<()> {
        let args = [number(generation.0), number(connection)];
        let args = [uid.as_str().as_bytes(), args[0].as_bytes(), args[1].as_bytes()];
        self.run(&script::UNLINK, &args).await.map(drop)
    }

    /// Writes an event of the taken turn.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; a numbered event may be repeated, one without a number may then be there twice.
    pub async fn emit(&self, uid: &UnitId, generation: Generation, emit: Emit<'_>) -> Result<Emitted> {
        let generation = number(generation.0);
        let seq = emit.seq.map(number).unwrap_or_default();
        let args: [&[u8]; 7] = [
            uid.as_str().as_bytes(),
            generation.as_bytes(),
            emit.turn.map_or("", |t| t.as_str()).as_bytes(),
            seq.as_bytes(),
            emit.kind.as_bytes(),
            emit.json.as_bytes(),
            if emit.splice_turn { b"1" } else { b"" },
        ];
        let (word, fields) = Fields::reply("emit", self.run_or_lean(&script::EMIT, &script::EMIT_LEAN, &args).await?)?;
        Ok(match word.as_str() {
            "written" => Emitted::Written { id: fields.parsed("id")?, cancel: fields.get("cancel").is_some() },
            "repeat" => Emitted::Repeat { id: fields.parsed("id")? },
            "stale" => Emitted::Stale,
            "over" => Emitted::Over,
            other => return Err(fields.wrong("reply", other)),
        })
    }

    /// Settles the taken turn: writes `done` and `turn-complete` or `turn-failed`, keeps the result, and takes the next one
    /// for the linked reader. The first terminal wins.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn settle(
        &self,
        uid: &UnitId,
        generation: Generation,
        turn: &TurnId,
        settle: Settle<'_>,
    ) -> Result<Settled> {
        let generation = number(generation.0);
        let seq = settle.seq.map(number).unwrap_or_default();
        let short = shortened(settle.done_json);
        let (head, cut) = head_of(settle.done_json);
        let args: [&[u8]; 11] = [
            uid.as_str().as_bytes(),
            generation.as_bytes(),
            turn.as_str().as_bytes(),
            if settle.ok { b"1" } else { b"" },
            settle.reason.map_or("", FailReason::as_str).as_bytes(),
            settle.done_json.as_bytes(),
            seq.as_bytes(),
            settle.cache.as_deref().unwrap_or_default().as_bytes(),
            short.as_bytes(),
            head.as_bytes(),
            if cut { b"1" } else { b"" },
        ];
        let (word, fields) =
            Fields::reply("settle", self.run_or_lean(&script::SETTLE, &script::SETTLE_LEAN, &args).await?)?;
        Ok(match word.as_str() {
            "written" => Settled::Written {
                id: fields.parsed("id")?,
                next: fields.get("turn_id").map(|_| self.delivery(uid, &fields, None)).transpose()?,
            },
            "repeat" => Settled::Repeat { id: fields.parsed("id")? },
            "stale" => Settled::Stale,
            "over" => Settled::Over,
            other => return Err(fields.wrong("reply", other)),
        })
    }
}

/// A long `done` event as it is kept where there is no room for the whole: its reply is cut, and it says so. Empty when it is not
/// long.
fn shortened(done_json: &str) -> String {
    if done_json.len() <= SHORT_BYTES {
        return String::new();
    }
    let mut done: serde_json::Value = serde_json::from_str(done_json).unwrap_or_default();
    let mut cut = serde_json::Map::new();
    if let Some(fields) = done.as_object_mut() {
        let reply = fields.get("reply").and_then(serde_json::Value::as_str).unwrap_or_default();
        let reply: String = reply.chars().take(SHORT_BYTES / 16).collect();
        // What is as small as it should be stays.
        cut.extend(std::mem::take(fields).into_iter().filter(|(_, value)| value.to_string().len() <= SHORT_BYTES / 16));
        cut.insert("reply".into(), reply.into());
    }
    let detail = "the ledger had no room for the whole result; the reply is cut, and `output` may be missing";
    cut.insert("detail".into(), detail.into());
    let short = serde_json::Value::Object(cut).to_string();
    if short.len() <= SHORT_BYTES {
        short
    } else {
        format!(r#"{{"type":"done","ok":false,"reply":"","detail":"{detail}"}}"#)
    }
}

fn look(uid: &UnitId) -> redis::Cmd {
    let mut get = redis::cmd("HMGET");
    get.arg(keys::unit(uid)).arg(&["state", "gen", "claim", "taken"]);
    get
}

fn standing(uid: &UnitId, generation: Generation, reply: redis::Value) -> Result<Current> {
    let key = keys::unit(uid);
    let mut got = Vec::with_capacity(4);
    for value in items(&key, reply)? {
        got.push(if value == redis::Value::Nil { String::new() } else { text(&key, value)? });
    }
    let [state, current, claim, taken] = got.as_slice() else {
        return Err(crate::LedgerError::corrupt(key, "HMGET answered another number of fields"));
    };
    let standing = match state.as_str() {
        _ if *current != number(generation.0) => Standing::Over,
        "starting" | "live" => Standing::Current,
        "draining" => Standing::Draining,
        _ => Standing::Over,
    };
    let mine = |text: &str| Some(text.to_owned()).filter(|t| !t.is_empty() && standing != Standing::Over);
    Ok(Current {
        standing,
        claimed: mine(claim).is_some(),
        nonce_hash: mine(claim),
        taken: mine(taken).map(TurnId::parse).transpose().map_err(|e| crate::LedgerError::corrupt(key, e))?,
    })
}
