//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), written by hand: what a foreign
//! worker put into an event must not be able to break a frame or a process.

use bytes::Bytes;
use ledger::EventJson;

/// Longer data is sent from where it lies, and not copied for each reader.
const COPIED_BYTES: usize = 4 << 10;

/// A copy counts for as long as what it was copied from.
struct Copied {
    frame: Bytes,
    _json: EventJson,
}

impl AsRef<[u8]> for Copied {
    fn as_ref(&self) -> &[u8] {
        &self.frame
    }
}

/// An event of the ledger's, in pieces. It counts against its owner's share until all of it was sent.
pub fn stored(id: &str, kind: &str, json: &EventJson) -> Vec<Bytes> {
    if json.len() <= COPIED_BYTES || json.contains(['\r', '\n']) {
        let frame = event(Some(id), kind, json);
        return vec![Bytes::from_owner(Copied { frame, _json: json.clone() })];
    }
    let mut before = head(Some(id), kind, 0);
    before.push_str("data: ");
    vec![before.into(), Bytes::from_owner(json.clone()), Bytes::from_static(b"\n\n")]
}

fn head(id: Option<&str>, kind: &str, room: usize) -> String {
    let mut frame = String::with_capacity(room + kind.len() + 64);
    if let Some(id) = id {
        push(&mut frame, "id", id);
    }
    if !kind.contains(['\r', '\n']) {
        push(&mut frame, "event", kind);
    }
    frame
}

/// One event. `id` becomes the reader's `Last-Event-ID`.
pub fn event(id: Option<&str>, kind: &str, data: &str) -> Bytes {
    let mut frame = head(id, kind, data.len());
    // A line break inside of the data begins another `data:`; JSON has none, so this is for what is not JSON.
    for line in data.split(['\r', '\n']) {
        push(&mut frame, "data", line);
    }
    frame.push('\n');
    frame.into()
}

/// A comment, which readers skip.
pub fn comment(text: &str) -> Bytes {
    let line: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    format!(": {line}\n\n").into()
}

fn push(frame: &mut String, field: &str, value: &str) {
    frame.push_str(field);
    frame.push_str(": ");
    frame.push_str(value);
    frame.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_cannot_be_broken_from_inside() {
        assert_eq!(event(Some("1-0"), "done", "{}"), "id: 1-0\nevent: done\ndata: {}\n\n");
        assert_eq!(event(None, "a\nb", "x\r\ny"), "data: x\ndata: \ndata: y\n\n");
        assert_eq!(comment("a\n\nb"), ": ab\n\n");
    }
}
