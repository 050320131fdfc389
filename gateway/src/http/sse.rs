//! Server-sent events (<https://html.spec.whatwg.org/multipage/server-sent-events.html>), written by hand: what a foreign
//! worker put into an event must not be able to break a frame or a process.

use bytes::Bytes;

/// One event. `id` becomes the reader's `Last-Event-ID`.
pub fn event(id: Option<&str>, kind: &str, data: &str) -> Bytes {
    let mut frame = String::with_capacity(data.len() + kind.len() + 64);
    if let Some(id) = id {
        push(&mut frame, "id", id);
    }
    if !kind.contains(['\r', '\n']) {
        push(&mut frame, "event", kind);
    }
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
