//! Ways out of a sandbox: what the gateway asks before it opens one, and what it tells when it does not.

use contract::{Generation, TurnId, UnitId};
use redis::Value;

use crate::connection::Ledger;
use crate::error::{LedgerError, Result};
use crate::fields::{Fields, items, number, text};
use crate::shape::Shape;
use crate::{keys, script};

/// Refusals that one turn is told of; an agent that tries every host there is shall not fill its stream.
const MOST_DENIALS: u64 = 20;

/// Who wants to connect to the outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errand {
    /// Name of its profile.
    pub profile: String,
    /// The turn that it has.
    pub turn: Option<TurnId>,
}

impl Ledger {
    /// On whose behalf a generation may connect to the outside now; `None` when it may not any more: it is over, or it drains
    /// and has no turn.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`].
    pub async fn errand(&self, uid: &UnitId, generation: Generation) -> Result<Option<Errand>> {
        let key = keys::unit(uid);
        let mut get = redis::cmd("HMGET");
        get.arg(&key).arg(&["state", "gen", "taken", "shape"]);
        let mut got = Vec::with_capacity(4);
        for value in items(&key, self.command(&get).await?)? {
            got.push(if value == Value::Nil { String::new() } else { text(&key, value)? });
        }
        let [state, current, taken, shape] = got.as_slice() else {
            return Err(LedgerError::corrupt(key, "HMGET answered another number of fields"));
        };
        let alive = matches!(state.as_str(), "starting" | "live") || state == "draining" && !taken.is_empty();
        if *current != number(generation.0) || !alive {
            return Ok(None);
        }
        let shape: Shape = serde_json::from_str(shape).map_err(|e| LedgerError::corrupt(key.clone(), e))?;
        let taken = Some(taken).filter(|t| !t.is_empty());
        let turn = taken.map(TurnId::parse).transpose().map_err(|e| LedgerError::corrupt(key, e))?;
        Ok(Some(Errand { profile: shape.profile, turn }))
    }

    /// Writes `egress-denied` into the running turn: once for each host, and for the first few hosts. `host` has no spaces.
    /// Whether it was written.
    ///
    /// # Errors
    /// [`LedgerError::Unavailable`]; may be repeated.
    pub async fn deny_egress(&self, uid: &UnitId, generation: Generation, host: &str, setting: &str) -> Result<bool> {
        let (generation, most) = (number(generation.0), number(MOST_DENIALS));
        let args: [&[u8]; 5] =
            [uid.as_str().as_bytes(), generation.as_bytes(), host.as_bytes(), setting.as_bytes(), most.as_bytes()];
        let (word, fields) = Fields::reply("deny_egress", self.run(&script::DENY_EGRESS, &args).await?)?;
        match word.as_str() {
            "told" => Ok(true),
            "repeat" | "enough" | "stale" | "over" => Ok(false),
            other => Err(fields.wrong("reply", other)),
        }
    }
}
