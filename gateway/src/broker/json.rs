//! JSON that comes in pieces, read strictly (RFC 8259) in bounded memory and without a copy of the rest.
//!
//! A document is an object or an array. What is taken here is taken by every other reader, and read the same: there are no
//! comments, no `NaN`, no second document and no marks of byte order. Whether texts are UTF-8 is not looked at, only what is kept of them.

/// Bytes that are kept of a text, and characters that a number may have.
const TOKEN_BYTES: usize = 256;
/// The longest escape that a cut can go through: two `\uXXXX` of one character.
const ESCAPE_BYTES: usize = 12;

/// What comes next is not JSON, or nested too deeply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

/// A piece of a document.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Token<'a> {
    /// An object begins, or an array.
    Begin { object: bool },
    /// What was begun last ends.
    End,
    /// The name of the member that follows, or how it begins; `None` for one that is no text (half of a surrogate pair).
    Name(Option<&'a str>),
    /// A value that is no object and no array.
    Scalar(Scalar<'a>),
}

/// A value that is no object and no array.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar<'a> {
    /// A text, and whether that is all of it or only how it begins.
    Text(&'a str, bool),
    Number(u64),
    True,
    False,
    Null,
    /// Anything else: a negative number, a text with half of a surrogate pair.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Within {
    Nothing,
    Text,
    /// A backslash came.
    Escape,
    /// So many digits of `\uXXXX` are to come.
    Hex(u8),
    Word,
}

/// What may come next.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Next {
    Value,
    /// A value or the end of an array.
    FirstValue,
    Name,
    /// A name or the end of an object.
    FirstName,
    Colon,
    /// A comma or the end of what is open.
    Comma,
    Nothing,
}

/// The reader.
#[derive(Debug)]
pub(super) struct Json {
    most_depth: usize,
    /// Of each container that is open, whether it is an object.
    open: Vec<bool>,
    within: Within,
    next: Next,
    token: Vec<u8>,
    cut: bool,
}

impl Json {
    /// At the beginning of a document that is nested no deeper than that.
    pub(super) fn new(most_depth: usize) -> Self {
        let (within, next) = (Within::Nothing, Next::Value);
        Self { most_depth, open: Vec::new(), within, next, token: Vec::new(), cut: false }
    }

    /// The next document begins.
    pub(super) fn reset(&mut self) {
        self.open.clear();
        (self.within, self.next) = (Within::Nothing, Next::Value);
    }

    /// Whether an object or array came that is complete.
    pub(super) fn is_complete(&self) -> bool {
        self.next == Next::Nothing
    }

    /// Takes the next piece, of any size. After an error nothing more may be fed before [`Self::reset`].
    pub(super) fn feed(&mut self, bytes: &[u8], found: &mut dyn FnMut(Token<'_>)) -> Result<(), NotJson> {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            match self.within {
                Within::Text => {
                    // Most of a document is text: up to where it may end at once.
                    let end = rest.iter().position(|b| matches!(b, b'"' | b'\\' | ..0x20)).unwrap_or(rest.len());
                    self.keep(&rest[..end]);
                    match rest.get(end) {
                        Some(b'"') => self.end_text(found),
                        Some(b'\\') => {
                            self.keep(b"\\");
                            self.within = Within::Escape;
                        }
                        Some(_) => return Err(NotJson),
                        None => {}
                    }
                    rest = rest.get(end + 1..).unwrap_or_default();
                    continue;
                }
                Within::Escape => {
                    self.keep(&[byte]);
                    self.within = match byte {
                        b'u' => Within::Hex(4),
                        b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => Within::Text,
                        _ => return Err(NotJson),
                    };
                }
                Within::Hex(left) if byte.is_ascii_hexdigit() => {
                    self.keep(&[byte]);
                    self.within = if left == 1 { Within::Text } else { Within::Hex(left - 1) };
                }
                Within::Hex(_) => return Err(NotJson),
                Within::Word if is_of_word(byte) => self.keep(&[byte]),
                Within::Word => {
                    self.end_word(found)?;
                    continue;
                }
                Within::Nothing => self.between(byte, found)?,
            }
            rest = &rest[1..];
        }
        Ok(())
    }

    fn keep(&mut self, bytes: &[u8]) {
        let room = TOKEN_BYTES - self.token.len();
        self.cut |= bytes.len() > room;
        self.token.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    fn begin_token(&mut self, within: Within) {
        self.token.clear();
        self.cut = false;
        self.within = within;
    }

    fn between(&mut self, byte: u8, found: &mut dyn FnMut(Token<'_>)) -> Result<(), NotJson> {
        let value_may_come = matches!(self.next, Next::Value | Next::FirstValue);
        match (byte, self.next) {
            (b' ' | b'\t' | b'\r' | b'\n', _) => {}
            (b'{' | b'[', _) if value_may_come && self.open.len() < self.most_depth => {
                let object = byte == b'{';
                self.open.push(object);
                self.next = if object { Next::FirstName } else { Next::FirstValue };
                found(Token::Begin { object });
            }
            (b'"', Next::Name | Next::FirstName) => self.begin_token(Within::Text),
            (b'"', _) if value_may_come && !self.open.is_empty() => self.begin_token(Within::Text),
            (b'-' | b'0'..=b'9' | b't' | b'f' | b'n', _) if value_may_come && !self.open.is_empty() => {
                self.begin_token(Within::Word);
                self.keep(&[byte]);
            }
            (b':', Next::Colon) => self.next = Next::Value,
            (b',', Next::Comma) => {
                self.next = if self.open.last() == Some(&true) { Next::Name } else { Next::Value };
            }
            (b'}', Next::Comma | Next::FirstName) if self.open.last() == Some(&true) => self.close(found),
            (b']', Next::Comma | Next::FirstValue) if self.open.last() == Some(&false) => self.close(found),
            _ => return Err(NotJson),
        }
        Ok(())
    }

    fn close(&mut self, found: &mut dyn FnMut(Token<'_>)) {
        self.open.pop();
        self.after_value();
        found(Token::End);
    }

    fn after_value(&mut self) {
        self.next = if self.open.is_empty() { Next::Nothing } else { Next::Comma };
    }

    fn end_text(&mut self, found: &mut dyn FnMut(Token<'_>)) {
        self.within = Within::Nothing;
        let text = if self.cut { beginning(&self.token) } else { unescaped(&self.token) };
        if matches!(self.next, Next::Name | Next::FirstName) {
            self.next = Next::Colon;
            return found(Token::Name(text.as_deref()));
        }
        self.after_value();
        let whole = !self.cut;
        found(Token::Scalar(text.as_deref().map_or(Scalar::Other, |text| Scalar::Text(text, whole))));
    }

    fn end_word(&mut self, found: &mut dyn FnMut(Token<'_>)) -> Result<(), NotJson> {
        self.within = Within::Nothing;
        self.after_value();
        if self.cut || serde_json::from_slice::<serde::de::IgnoredAny>(&self.token).is_err() {
            return Err(NotJson);
        }
        found(Token::Scalar(word(&self.token)));
        Ok(())
    }
}

fn is_of_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.')
}

fn unescaped(raw: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(raw).ok()?;
    match text.contains('\\') {
        false => Some(text.to_owned()),
        true => serde_json::from_str(&format!("\"{text}\"")).ok(),
    }
}

/// The same of a text that was cut anywhere.
fn beginning(raw: &[u8]) -> Option<String> {
    (0..=ESCAPE_BYTES).find_map(|less| unescaped(&raw[..raw.len() - less]))
}

fn word(raw: &[u8]) -> Scalar<'static> {
    match raw {
        b"true" => Scalar::True,
        b"false" => Scalar::False,
        b"null" => Scalar::Null,
        _ => {
            let text = std::str::from_utf8(raw).unwrap_or_default();
            match (text.parse(), text.parse::<f64>()) {
                (Ok(number), _) => Scalar::Number(number),
                // As some gateways write them: 12.0, 1e3. The cast saturates.
                (_, Ok(number)) if number >= 0.0 => Scalar::Number(number as u64),
                _ => Scalar::Other,
            }
        }
    }
}
