//! XADD: emitting an event, or settling the turn with its last one.

use bytes::Bytes;
use contract::{Mode, TurnId};
use ledger::{Emit, Emitted, Settle, Settled, StreamId};

use super::super::event::{self, Done, EventError, Said};
use super::super::reply::Reply;
use super::super::request;
use super::{Facade, Stop};

impl Facade<'_> {
    /// `XADD <out> * event <json>`
    pub(super) async fn add(&mut self, args: &[Bytes]) -> Result<Reply, Stop> {
        let outbox = self.claims.unit.out_stream();
        let json = match request::add(args, outbox.as_bytes()) {
            Ok(json) => json,
            Err(reply) => return Ok(reply),
        };
        self.may_use().await?;
        let said = match event::parse(json, self.claims.generation, self.port.limits.event_bytes) {
            Ok(said) => said,
            Err(error) => return Ok(Reply::error(format!("ERR {error}"))),
        };
        if let Some(id) = &said.commit_of
            && !self.claims.workspaces.iter().any(|at| at.id == *id && at.mode == Mode::Rw)
        {
            return Ok(Reply::error(format!("ERR {}", EventError::NotItsWorkspace(id.clone()))));
        }
        match said.done.clone() {
            Some(done) => self.settle(said, done).await,
            None => self.emit(&said).await,
        }
    }

    async fn emit(&mut self, said: &Said) -> Result<Reply, Stop> {
        let (uid, generation) = (&self.claims.unit, self.claims.generation);
        let emit = Emit {
            turn: said.turn.as_ref(),
            seq: said.seq,
            kind: &said.kind,
            json: &said.json,
            splice_turn: said.turn.is_none(),
        };
        match self.port.ledger.emit(uid, generation, emit).await? {
            Emitted::Written { id, cancel } => {
                if cancel && let Some(turn) = self.turn_of(said).await? {
                    self.port.links.cancel_reader(uid, generation, turn);
                }
                Ok(written(id))
            }
            Emitted::Repeat { id } => Ok(written(id)),
            Emitted::Stale => Ok(stale()),
            Emitted::Over => Err(Stop::Over),
        }
    }

    async fn settle(&mut self, said: Said, done: Done) -> Result<Reply, Stop> {
        let Some(turn) = self.turn_of(&said).await? else {
            return Ok(stale());
        };
        let json = match said.turn {
            Some(_) => said.json,
            None => splice(&said.json, &turn),
        };
        let (uid, generation) = (&self.claims.unit, self.claims.generation);
        let settle = Settle { ok: done.ok, reason: done.reason, done_json: &json, seq: said.seq, cache: done.cache };
        match self.port.ledger.settle(uid, generation, &turn, settle).await? {
            Settled::Written { id, next } => {
                if let Some(delivery) = next {
                    self.port.links.deliver(delivery);
                }
                Ok(written(id))
            }
            Settled::Repeat { id } => Ok(written(id)),
            Settled::Stale => Ok(stale()),
            Settled::Over => Err(Stop::Over),
        }
    }

    /// The event's turn. A foreign worker need not say whose it is: it has but one.
    async fn turn_of(&self, said: &Said) -> Result<Option<TurnId>, Stop> {
        if said.turn.is_some() {
            return Ok(said.turn.clone());
        }
        let (uid, generation) = (&self.claims.unit, self.claims.generation);
        Ok(self.port.ledger.current(uid, generation).await?.taken)
    }
}

/// Puts the turn's id into an event, which is a JSON object with at least a type.
fn splice(json: &str, turn: &TurnId) -> String {
    format!(r#"{{"turn_id":"{turn}",{}"#, &json[1..])
}

fn written(id: StreamId) -> Reply {
    Reply::bulk(id.to_string())
}

fn stale() -> Reply {
    Reply::error("STALE the event is not of the taken turn; it was dropped")
}
