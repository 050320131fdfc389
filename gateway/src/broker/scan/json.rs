//! JSON that comes in pieces: scalars with the keys that lead to them, in bounded memory and without a copy of the rest.

/// Objects that are looked into; what lies deeper is passed over.
const DEPTH: usize = 6;
/// Bytes of a text or a number that are kept; a longer one is nothing that is looked for.
const TOKEN_BYTES: usize = 256;

/// A value that is no object and no array.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Scalar<'a> {
    Text(&'a str),
    Number(u64),
    True,
    /// Anything else: `false`, `null`, a negative number, a text that is too long.
    Other,
}

#[derive(Debug)]
enum Container {
    /// The key whose value comes or came last; whether a key comes next.
    Object(String, bool),
    Array,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Within {
    Nothing,
    /// Whether the byte before was a backslash that is not itself escaped.
    Text {
        escaped: bool,
    },
    Word,
}

/// The scanner. What is not JSON confuses it and nothing else.
#[derive(Debug)]
pub(super) struct Json {
    open: Vec<Container>,
    /// Containers that are open below those.
    deeper: usize,
    within: Within,
    token: Vec<u8>,
    cut: bool,
}

impl Json {
    pub(super) fn new() -> Self {
        Self { open: Vec::new(), deeper: 0, within: Within::Nothing, token: Vec::new(), cut: false }
    }

    /// The next document begins.
    pub(super) fn reset(&mut self) {
        self.open.clear();
        self.token.clear();
        (self.deeper, self.within, self.cut) = (0, Within::Nothing, false);
    }

    /// Takes the next piece, of any size. `found` is told each scalar that only objects lead to.
    pub(super) fn feed(&mut self, bytes: &[u8], found: &mut dyn FnMut(&[&str], Scalar<'_>)) {
        let mut rest = bytes;
        while let Some(&byte) = rest.first() {
            match self.within {
                Within::Text { escaped: false } => {
                    // Most of a model's answer is text: up to where it may end at once.
                    let end = rest.iter().position(|b| matches!(b, b'"' | b'\\')).unwrap_or(rest.len());
                    self.keep(&rest[..end]);
                    match rest.get(end) {
                        Some(b'"') => self.end_text(found),
                        Some(_) => {
                            self.keep(b"\\");
                            self.within = Within::Text { escaped: true };
                        }
                        None => {}
                    }
                    rest = rest.get(end + 1..).unwrap_or_default();
                    continue;
                }
                Within::Text { escaped: true } => {
                    self.keep(&[byte]);
                    self.within = Within::Text { escaped: false };
                }
                Within::Word if !ends_word(byte) => self.keep(&[byte]),
                Within::Word => {
                    self.end_word(found);
                    continue;
                }
                Within::Nothing => self.between(byte),
            }
            rest = &rest[1..];
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        if self.deeper > 0 || self.cut {
            return;
        }
        self.cut = self.token.len() + bytes.len() > TOKEN_BYTES;
        if !self.cut {
            self.token.extend_from_slice(bytes);
        }
    }

    fn begin(&mut self, within: Within) {
        self.token.clear();
        self.cut = false;
        self.within = within;
    }

    fn between(&mut self, byte: u8) {
        match byte {
            b'{' | b'[' if self.deeper > 0 || self.open.len() == DEPTH => self.deeper += 1,
            b'{' => self.open.push(Container::Object(String::new(), true)),
            b'[' => self.open.push(Container::Array),
            b'}' | b']' if self.deeper > 0 => self.deeper -= 1,
            b'}' | b']' => drop(self.open.pop()),
            b',' if self.deeper == 0 => {
                if let Some(Container::Object(_, key_comes)) = self.open.last_mut() {
                    *key_comes = true;
                }
            }
            b'"' => self.begin(Within::Text { escaped: false }),
            b',' | b':' | b' ' | b'\t' | b'\r' | b'\n' => {}
            other => {
                self.begin(Within::Word);
                self.keep(&[other]);
            }
        }
    }

    fn end_text(&mut self, found: &mut dyn FnMut(&[&str], Scalar<'_>)) {
        self.within = Within::Nothing;
        if self.deeper > 0 {
            return;
        }
        let text = if self.cut { None } else { unescaped(&self.token) };
        if let Some(Container::Object(key, key_comes @ true)) = self.open.last_mut() {
            *key = text.unwrap_or_default();
            *key_comes = false;
            return;
        }
        let scalar = text.as_deref().map_or(Scalar::Other, Scalar::Text);
        tell(&self.open, scalar, found);
    }

    fn end_word(&mut self, found: &mut dyn FnMut(&[&str], Scalar<'_>)) {
        self.within = Within::Nothing;
        if self.deeper == 0 {
            let scalar = if self.cut { Scalar::Other } else { word(&self.token) };
            tell(&self.open, scalar, found);
        }
    }
}

fn ends_word(byte: u8) -> bool {
    matches!(byte, b',' | b':' | b'{' | b'}' | b'[' | b']' | b'"' | b' ' | b'\t' | b'\r' | b'\n')
}

fn tell(open: &[Container], scalar: Scalar<'_>, found: &mut dyn FnMut(&[&str], Scalar<'_>)) {
    let mut path = [""; DEPTH];
    for (at, container) in path.iter_mut().zip(open) {
        match container {
            Container::Object(key, _) => *at = key,
            Container::Array => return,
        }
    }
    if !open.is_empty() {
        found(&path[..open.len()], scalar);
    }
}

fn unescaped(raw: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(raw).ok()?;
    match text.contains('\\') {
        false => Some(text.to_owned()),
        true => serde_json::from_str(&format!("\"{text}\"")).ok(),
    }
}

fn word(raw: &[u8]) -> Scalar<'static> {
    let text = std::str::from_utf8(raw).unwrap_or_default();
    match text {
        "true" => Scalar::True,
        _ => match (text.parse(), text.parse::<f64>()) {
            (Ok(number), _) => Scalar::Number(number),
            // As some gateways write them: 12.0, 1e3. The cast saturates.
            (_, Ok(number)) if number >= 0.0 => Scalar::Number(number as u64),
            _ => Scalar::Other,
        },
    }
}
