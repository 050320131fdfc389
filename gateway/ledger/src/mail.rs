//! What other processes put into this gateway's mailbox.

use contract::{Generation, TurnId, UnitId};

use crate::error::Result;
use crate::fields::Fields;
use crate::submit::{Delivery, Link, message};

/// What another process put into this gateway's mailbox, or everybody was nudged about.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "deliveries are what comes")]
pub enum Mail {
    /// A turn was taken for a link of this gateway: hand it over.
    Deliver(Delivery),
    /// The turn that the link's worker has was cancelled.
    Cancel {
        /// The unit.
        uid: UnitId,
        /// Its generation.
        generation: Generation,
        /// The link's connection.
        connection: u64,
        /// The turn.
        turn: TurnId,
    },
    /// The link's generation began to drain: tell the worker to end when idle, close what no running turn needs.
    Draining {
        /// The unit.
        uid: UnitId,
        /// Its generation.
        generation: Generation,
        /// The link's connection.
        connection: u64,
    },
    /// There is a start job: `pick_starts`.
    StartsWaiting,
    /// The mailbox had expired or Redis was away: call `take` again for every reader that waits, it may have missed a mail.
    Relink,
}

impl Mail {
    /// An entry of the mailbox; `None` for what is nobody's business (the entry that makes the mailbox).
    pub(crate) fn parse(gateway: &str, fields: &Fields) -> Result<Option<Self>> {
        let kind = fields.need("kind")?;
        if kind == "hello" {
            return Ok(None);
        }
        let uid: UnitId = fields.parsed("uid")?;
        let generation = Generation(fields.parsed("generation")?);
        let connection = fields.parsed("connection")?;
        Ok(Some(match kind {
            "deliver" => Self::Deliver(Delivery {
                link: Link { gateway: gateway.to_owned(), connection },
                uid,
                generation,
                turn: message(fields, None)?,
            }),
            "cancel" => Self::Cancel { uid, generation, connection, turn: fields.parsed("turn")? },
            "draining" => Self::Draining { uid, generation, connection },
            other => return Err(fields.wrong("kind", other)),
        }))
    }
}
