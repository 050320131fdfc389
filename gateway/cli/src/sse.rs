//! Server-sent events, as the HTML standard's "event stream interpretation" has them.

/// One dispatched message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The `id:` that this message has itself; one without has none, so that it never counts as a repeat of the one before.
    pub id: Option<String>,
    /// `event:`; `message` where absent.
    pub event: String,
    /// The `data:` lines, joined by line feeds.
    pub data: String,
}

/// Most bytes of one line; a peer that sends a longer one is not speaking this protocol.
const MOST_LINE_BYTES: usize = 16 << 20;

/// A parser that is fed with chunks cut anywhere.
#[derive(Debug, Default)]
pub struct Parser {
    line: Vec<u8>,
    /// The last byte was a CR: an LF that follows belongs to it.
    after_cr: bool,
    started: bool,
    id: Option<String>,
    event: String,
    data: String,
    has_data: bool,
}

/// A line is longer than any that the gateway sends.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a line of the event stream is longer than {MOST_LINE_BYTES} bytes")]
pub struct TooLong;

impl Parser {
    /// Takes the next chunk; the messages that it completed.
    ///
    /// # Errors
    /// [`TooLong`]; the parser is of no use any more.
    pub fn push(&mut self, chunk: &[u8]) -> Result<Vec<Message>, TooLong> {
        let mut messages = Vec::new();
        for &byte in chunk {
            match byte {
                b'\n' if self.after_cr => self.after_cr = false,
                b'\n' | b'\r' => {
                    self.after_cr = byte == b'\r';
                    messages.extend(self.end_of_line());
                }
                _ => {
                    self.after_cr = false;
                    if self.line.len() >= MOST_LINE_BYTES {
                        return Err(TooLong);
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(messages)
    }

    fn end_of_line(&mut self) -> Option<Message> {
        let bytes = std::mem::take(&mut self.line);
        let text = String::from_utf8_lossy(&bytes);
        // One byte order mark may lead the stream.
        let line = match std::mem::replace(&mut self.started, true) {
            true => &*text,
            false => text.strip_prefix('\u{feff}').unwrap_or(&text),
        };
        if line.is_empty() {
            return self.dispatch();
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event = value.into(),
            "data" => {
                if std::mem::replace(&mut self.has_data, true) {
                    self.data.push('\n');
                }
                self.data.push_str(value);
            }
            "id" if !value.contains('\0') => self.id = Some(value.into()),
            // A line that begins with a colon is a comment; other fields are ignored.
            _ => {}
        }
        None
    }

    fn dispatch(&mut self) -> Option<Message> {
        let event = std::mem::take(&mut self.event);
        let data = std::mem::take(&mut self.data);
        std::mem::replace(&mut self.has_data, false).then(|| Message {
            id: self.id.take().filter(|id| !id.is_empty()),
            event: if event.is_empty() { "message".into() } else { event },
            data,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = "\u{feff}: hello\r\nid: 1-0\r\nevent: message-delta\r\ndata: {\"a\":1}\r\n\r\n\
        data: one\rdata:two\r\rid\ndata\n\nevent: only\n\nid: 2-0\ndata: ü\nretry: 9\n\n";

    fn expected() -> Vec<Message> {
        let message = |id: Option<&str>, event: &str, data: &str| Message {
            id: id.map(Into::into),
            event: event.into(),
            data: data.into(),
        };
        vec![
            message(Some("1-0"), "message-delta", "{\"a\":1}"),
            message(None, "message", "one\ntwo"),
            message(None, "message", ""),
            message(Some("2-0"), "message", "ü"),
        ]
    }

    #[test]
    fn a_stream_is_the_same_however_it_is_cut() {
        let bytes = STREAM.as_bytes();
        for size in 1..=bytes.len() {
            let mut parser = Parser::default();
            let messages: Vec<_> = bytes.chunks(size).flat_map(|chunk| parser.push(chunk).unwrap()).collect();
            assert_eq!(messages, expected(), "in chunks of {size}");
        }
    }

    #[test]
    fn an_unfinished_message_is_not_told() {
        let mut parser = Parser::default();
        assert!(parser.push(b"id: 5-0\ndata: x\n").unwrap().is_empty());
        let messages = parser.push(b"\n").unwrap();
        assert_eq!(messages[0].id.as_deref(), Some("5-0"));
    }

    #[test]
    fn an_endless_line_is_refused() {
        let mut parser = Parser::default();
        let block = vec![b'x'; 1 << 20];
        let result = (0..=16).try_for_each(|_| parser.push(&block).map(drop));
        assert_eq!(result, Err(TooLong));
    }
}
