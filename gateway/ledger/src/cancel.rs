//! A caller ends a turn.

use contract::TurnId;

use crate::connection::Ledger;
use crate::error::Result;
use crate::fields::Fields;
use crate::script;
use crate::submit::Link;

/// What became of a cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cancel {
    /// It had never been delivered and is settled `cancelled`.
    Settled,
    /// It was delivered: its worker is told and settles it. Unanswered, the generation is drained after 30 s.
    Flagged {
        /// The link, where it is on this gateway; another gateway was told through its mailbox.
        deliver: Option<Link>,
    },
    /// It was settled before.
    AlreadySettled,
    /// There is no such turn.
    Unknown,
}

impl Ledger {
    /// Cancels a turn. Idempotent.
    ///
    /// # Errors
    /// [`crate::LedgerError::Unavailable`]; may be repeated.
    pub async fn cancel(&self, turn: &TurnId) -> Result<Cancel> {
        let reply = self.run(&script::CANCEL, &[turn.as_str().as_bytes()]).await?;
        let (word, fields) = Fields::reply("cancel", reply)?;
        Ok(match word.as_str() {
            "settled" => Cancel::Settled,
            "flagged" => Cancel::Flagged {
                deliver: fields
                    .maybe("connection")?
                    .map(|connection| Link { gateway: self.0.config.gateway.clone(), connection }),
            },
            "already" => Cancel::AlreadySettled,
            "unknown" => Cancel::Unknown,
            other => return Err(fields.wrong("reply", other)),
        })
    }
}
