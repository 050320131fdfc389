//! Reads the in-stream, for as long as the generation lasts, during turns too.

use std::sync::Arc;
use std::time::Duration;

use contract::{InEntry, TurnId, TurnMessage};
use redis::{Cmd, Value};
use tokio::sync::{Notify, mpsc};

use super::connection::{Connection, Failed, Verdict, told, verdict};
use super::{Address, Backoff, LinkEnd};
use crate::memory;

/// How long one read waits at the gateway.
const BLOCK: Duration = Duration::from_secs(20);
/// How much later than that its answer may come.
const LATE: Duration = Duration::from_secs(10);

/// What the gateway says to this worker.
#[derive(Debug)]
pub enum Delivery {
    /// A turn.
    Turn(Box<TurnMessage>),
    /// End that turn if it runs.
    Cancel(TurnId),
    /// End the worker when it is idle.
    Stop,
    /// A turn that this build cannot read.
    Unreadable {
        /// Which.
        turn: TurnId,
        /// Why.
        why: String,
    },
    /// An event of that turn was dropped: the ledger does not have it as taken any more.
    Stale(TurnId),
}

/// Reads until the link is over. `first` is the connection that claimed the generation.
pub(super) async fn read(
    address: Arc<Address>,
    nonce: Arc<str>,
    first: Connection,
    delivered: mpsc::Sender<Delivery>,
    renew: Arc<Notify>,
) -> LinkEnd {
    let mut backoff = Backoff::new(address.orphan_after);
    let mut connection = Some(first);
    loop {
        let lost = match &mut connection {
            Some(open) => match tokio::select! {
                entry = next(open, &address) => entry,
                () = renew.notified() => {
                    // An entry that is on its way is given again to the next read.
                    connection = None;
                    continue;
                }
            } {
                Ok(entry) => {
                    backoff.reached();
                    if let Some(delivery) = entry.and_then(|json| parse(&json)) {
                        // The receiving end outlives this task.
                        let _ = delivered.send(delivery).await;
                    }
                    continue;
                }
                Err(failed) => failed,
            },
            None => match Connection::authorised(&address, &nonce).await {
                Ok(open) => {
                    connection = Some(open);
                    memory::trim();
                    continue;
                }
                Err(failed) => failed,
            },
        };
        match lost {
            Failed::Fenced(why) => return LinkEnd::Fenced(why),
            Failed::Lost(why) => {
                connection = None;
                if let Err(end) = backoff.pause(&why).await {
                    return end;
                }
            }
        }
    }
}

async fn next(connection: &mut Connection, address: &Address) -> Result<Option<Vec<u8>>, Failed> {
    let mut read = Cmd::new();
    read.arg("XREADGROUP").arg("GROUP").arg("rekindle").arg(&address.consumer).arg("COUNT").arg(1);
    read.arg("BLOCK").arg(BLOCK.as_millis() as u64).arg("STREAMS").arg(&address.in_stream).arg(">");
    match connection.within(&read, BLOCK + LATE).await? {
        Value::ServerError(error) => match verdict(&error) {
            Verdict::Fenced | Verdict::Refused => Err(Failed::Fenced(told(&error))),
            Verdict::Stale | Verdict::Later | Verdict::Wrong => Err(Failed::Lost(told(&error))),
        },
        answer => Ok(turn_field(answer)),
    }
}

/// Digs field `turn` out of `[[stream, [[id, [field, value, …]]]]]`, which RESP3 makes a map at the top.
fn turn_field(answer: Value) -> Option<Vec<u8>> {
    let entries = match answer {
        Value::Array(streams) => match streams.into_iter().next()? {
            Value::Array(pair) => pair.into_iter().nth(1)?,
            _ => return None,
        },
        Value::Map(streams) => streams.into_iter().next()?.1,
        _ => return None,
    };
    let Value::Array(entries) = entries else { return None };
    let Value::Array(entry) = entries.into_iter().next()? else { return None };
    let Value::Array(fields) = entry.into_iter().nth(1)? else { return None };
    let mut fields = fields.into_iter();
    while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
        match (name, value) {
            (Value::BulkString(name), Value::BulkString(value)) if name == b"turn" => return Some(value),
            _ => {}
        }
    }
    None
}

/// What cannot be read is told to whoever waits for it, where that can be found out, and else to the log.
fn parse(json: &[u8]) -> Option<Delivery> {
    let error = match serde_json::from_slice(json) {
        Ok(InEntry::Message(turn)) => return Some(Delivery::Turn(Box::new(turn))),
        Ok(InEntry::Cancel { turn_id }) => return Some(Delivery::Cancel(turn_id)),
        Ok(InEntry::Stop) => return Some(Delivery::Stop),
        Err(error) => error,
    };
    tracing::warn!(%error, "an entry of the in-stream is unreadable");
    let entry: serde_json::Value = serde_json::from_slice(json).ok()?;
    if entry.get("type")? != "message" {
        return None;
    }
    let turn = TurnId::parse(entry.get("turn_id")?.as_str()?).ok()?;
    Some(Delivery::Unreadable { turn, why: format!("this worker cannot read the turn: {error}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreadable_turns_are_answered_and_unknown_entries_ignored() {
        let id = "01JZ3Y7QK8W9V6X5T4S3R2Q1P0";
        assert!(matches!(parse(br#"{"type":"stop"}"#), Some(Delivery::Stop)));
        let cancel = format!(r#"{{"type":"cancel","turn_id":"{id}"}}"#);
        assert!(matches!(parse(cancel.as_bytes()), Some(Delivery::Cancel(turn)) if turn.as_str() == id));
        let odd = format!(r#"{{"type":"message","turn_id":"{id}","prompt":7}}"#);
        assert!(matches!(parse(odd.as_bytes()), Some(Delivery::Unreadable { turn, .. }) if turn.as_str() == id));
        for ignored in [&br#"{"type":"later"}"#[..], b"{", b"\xff", br#"{"type":"message","turn_id":"x"}"#] {
            assert!(parse(ignored).is_none());
        }
    }
}
