//! Server-sent events that come in pieces: the bytes of their `data` fields, and where an event ends.
//!
//! Source: the HTML standard, *Server-sent events*, "Parsing an event stream".

/// What a piece of the stream holds.
#[derive(Debug, PartialEq)]
pub(super) enum Part<'a> {
    /// A piece of the event's data.
    Data(&'a [u8]),
    /// The event is complete.
    End,
}

const FIELD: &[u8] = b"data:";

#[derive(Debug, Clone, Copy, PartialEq)]
enum Line {
    /// That many bytes of it are those of `data:`.
    Begins(usize),
    Data,
    /// Another field.
    Other,
}

/// The scanner.
#[derive(Debug)]
pub(super) struct Sse {
    line: Line,
    /// The byte before was a carriage return: a line feed now is of the same line end.
    after_return: bool,
    has_data: bool,
}

impl Sse {
    pub(super) fn new() -> Self {
        Self { line: Line::Begins(0), after_return: false, has_data: false }
    }

    /// Takes the next piece, of any size.
    pub(super) fn feed(&mut self, bytes: &[u8], found: &mut dyn FnMut(Part<'_>)) {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            let after_return = std::mem::take(&mut self.after_return);
            if byte == b'\n' && after_return {
                rest = &rest[1..];
                continue;
            }
            if matches!(byte, b'\n' | b'\r') {
                self.after_return = byte == b'\r';
                self.end_line(found);
                rest = &rest[1..];
                continue;
            }
            match self.line {
                Line::Begins(n) => {
                    self.line = match byte == FIELD[n] {
                        true if n + 1 == FIELD.len() => Line::Data,
                        true => Line::Begins(n + 1),
                        false => Line::Other,
                    };
                    self.has_data |= self.line == Line::Data;
                    rest = &rest[1..];
                }
                line => {
                    let end = rest.iter().position(|b| matches!(b, b'\n' | b'\r')).unwrap_or(rest.len());
                    if line == Line::Data {
                        found(Part::Data(&rest[..end]));
                    }
                    rest = &rest[end..];
                }
            }
        }
    }

    fn end_line(&mut self, found: &mut dyn FnMut(Part<'_>)) {
        match std::mem::replace(&mut self.line, Line::Begins(0)) {
            // Lines of data are joined so.
            Line::Data => found(Part::Data(b"\n")),
            Line::Begins(0) if std::mem::take(&mut self.has_data) => found(Part::End),
            _ => {}
        }
    }
}
