//! Commands out of a stranger's bytes.
//!
//! The codec is `redis-protocol`'s. It recurses into nested arrays and begins anew with every byte that arrives, which is
//! right towards a server that one trusts; so what reaches it here has been measured first: one flat array of bulk strings
//! (all that a Redis client sends), complete, and within bounds. Nothing is allocated for a length that was only announced.

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes;
use redis_protocol::resp2::types::BytesFrame;

/// Most words of one command; the longest that is served is an `XACK` of a few entries.
const MOST_WORDS: usize = 128;
/// Most bytes of a `*<n>` or `$<n>` line, its end included.
const MOST_HEAD: usize = 16;

/// A command: at least its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Command {
    words: Vec<Bytes>,
}

impl Command {
    /// Its name in capitals; a name that is no text is no name.
    pub(super) fn name(&self) -> String {
        upper(&self.words[0])
    }

    /// The first word as the client wrote it, cut and cleaned for an error.
    pub(super) fn shown(&self) -> String {
        let shown: String =
            String::from_utf8_lossy(&self.words[0]).chars().filter(|c| !c.is_control()).take(64).collect();
        shown.to_lowercase()
    }

    /// Its bytes, as a measure of what it costs.
    pub(super) fn bytes(&self) -> usize {
        self.words.iter().map(|word| word.len() + MOST_HEAD).sum()
    }

    /// What follows the name.
    pub(super) fn args(&self) -> &[Bytes] {
        &self.words[1..]
    }
}

/// A word in capitals, for comparison with keywords.
pub(super) fn upper(word: &[u8]) -> String {
    String::from_utf8_lossy(word).to_ascii_uppercase()
}

/// The stream is not one of commands; the connection ends after saying so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Protocol error: {0}")]
pub(super) struct Broken(&'static str);

/// Bytes as they come, and commands as they are complete.
#[derive(Debug)]
pub(super) struct Commands {
    buf: BytesMut,
    most_bytes: usize,
    scan: Scan,
}

/// How much of the first command in the buffer has been measured: bytes up to `at` are seen once and not again.
#[derive(Debug, Default)]
struct Scan {
    at: usize,
    /// Words that are still to come; `None` before the array's head.
    left: Option<usize>,
}

impl Commands {
    /// For commands of at most `most_bytes`; `first` is what was read already.
    pub(super) fn new(first: BytesMut, most_bytes: usize) -> Self {
        Self { buf: first, most_bytes, scan: Scan::default() }
    }

    /// Where the next bytes go.
    pub(super) fn space(&mut self) -> &mut BytesMut {
        self.buf.reserve(4096);
        &mut self.buf
    }

    /// Most bytes of one command.
    pub(super) fn most_bytes(&self) -> usize {
        self.most_bytes
    }

    /// Bytes that are kept and not taken out yet.
    pub(super) fn held(&self) -> usize {
        self.buf.len()
    }

    /// Whether the buffer holds the beginning of something.
    pub(super) fn has_begun(&self) -> bool {
        !self.buf.is_empty()
    }

    /// The next complete command.
    pub(super) fn next(&mut self) -> Result<Option<Command>, Broken> {
        let Some(length) = self.measure()? else {
            return Ok(None);
        };
        self.scan = Scan::default();
        let frame = self.buf.split_to(length).freeze();
        let Ok(Some((BytesFrame::Array(words), _))) = decode_bytes(&frame) else {
            return Err(Broken("expected an array of bulk strings"));
        };
        let words = words
            .into_iter()
            .map(|word| match word {
                BytesFrame::BulkString(word) => Ok(word),
                _ => Err(Broken("expected a bulk string")),
            })
            .collect::<Result<_, _>>()?;
        Ok(Some(Command { words }))
    }

    /// Bytes of the first command, once it is complete.
    fn measure(&mut self) -> Result<Option<usize>, Broken> {
        if self.scan.left.is_none() {
            let Some(words) = self.head(b'*', "expected '*': only arrays of bulk strings, no inline commands")? else {
                return Ok(None);
            };
            if words == 0 || words > MOST_WORDS {
                return Err(Broken("invalid multibulk length"));
            }
            self.scan.left = Some(words);
        }
        while let Some(left @ 1..) = self.scan.left {
            let at = self.scan.at;
            let Some(length) = self.head(b'$', "expected '$': only arrays of bulk strings")? else {
                return Ok(None);
            };
            let end = self.scan.at.saturating_add(length).saturating_add(2);
            if end > self.most_bytes {
                return Err(Broken("invalid bulk length: the command is too long"));
            }
            if self.buf.len() < end {
                self.scan.at = at;
                return Ok(None);
            }
            if &self.buf[end - 2..end] != b"\r\n" {
                return Err(Broken("a bulk string is longer than it said"));
            }
            self.scan = Scan { at: end, left: Some(left - 1) };
        }
        Ok(Some(self.scan.at))
    }

    /// Reads `<kind><digits>\r\n` at the scan and moves behind it; `None` while it is incomplete.
    fn head(&mut self, kind: u8, otherwise: &'static str) -> Result<Option<usize>, Broken> {
        let rest = &self.buf[self.scan.at..];
        let rest = &rest[..rest.len().min(MOST_HEAD)];
        if rest.first().is_some_and(|b| *b != kind) {
            return Err(Broken(otherwise));
        }
        let Some(end) = rest.windows(2).position(|two| two == b"\r\n") else {
            return match rest.len() {
                MOST_HEAD => Err(Broken("a length has too many digits")),
                _ => Ok(None),
            };
        };
        let digits = &rest[1..end];
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(Broken("a length is not a number"));
        }
        let number = digits.iter().fold(0usize, |n, d| n * 10 + usize::from(d - b'0'));
        self.scan.at += end + 2;
        Ok(Some(number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: usize = 4096;

    fn commands(bytes: &[u8]) -> Commands {
        Commands::new(BytesMut::from(bytes), MOST)
    }

    fn broken(bytes: &[u8]) -> &'static str {
        match commands(bytes).next() {
            Err(Broken(why)) => why,
            other => panic!("{bytes:?} gave {other:?}"),
        }
    }

    #[test]
    fn commands_come_out_whole_however_they_come_in() {
        let bytes = b"*2\r\n$4\r\nping\r\n$3\r\na\0b\r\n*1\r\n$4\r\nQUIT\r\n*1\r\n$0\r\n\r\n";
        let mut one_by_one = commands(b"");
        let mut got = Vec::new();
        for byte in bytes {
            one_by_one.space().extend_from_slice(&[*byte]);
            while let Some(command) = one_by_one.next().unwrap() {
                got.push(command);
            }
        }
        let mut at_once = commands(bytes);
        for command in &got {
            assert_eq!(at_once.next().unwrap().as_ref(), Some(command));
        }
        assert_eq!(got.len(), 3);
        assert_eq!(got[0].name(), "PING");
        assert_eq!(&got[0].args()[0][..], b"a\0b");
        assert_eq!(got[2].name(), "");
        assert!(!at_once.has_begun());
    }

    #[test]
    fn hostile_framing_is_refused_before_anything_is_allocated() {
        for inline in [&b"PING\r\n"[..], b"\r\n", b"\0\0\0\0", b"+OK\r\n", b"GET / HTTP/1.1\r\n"] {
            assert!(broken(inline).contains("inline"), "{inline:?}");
        }
        assert_eq!(broken(b"*1000000000\r\n"), "invalid multibulk length");
        assert_eq!(broken(b"*0\r\n"), "invalid multibulk length");
        assert_eq!(broken(b"*-1\r\n"), "a length is not a number");
        assert_eq!(broken(b"*\r\n"), "a length is not a number");
        assert_eq!(broken(b"*1 \r\n"), "a length is not a number");
        assert_eq!(broken(b"*99999999999999999999\r\n"), "a length has too many digits");
        assert_eq!(broken(b"*1\r\n$99999999999999999"), "a length has too many digits");
        assert_eq!(broken(b"*1\r\n$-1\r\n"), "a length is not a number");
        assert!(broken(b"*1\r\n$9999999999999\r\n").contains("too long"));
        assert!(broken(b"*1\r\n*1\r\n$4\r\nPING\r\n").contains("'$'"));
        assert!(broken(b"*1\r\n:1\r\n").contains("'$'"));
        assert!(broken(b"*1\r\n$4\r\nPINGPING\r\n").contains("longer"));
        let nested = b"*1\r\n".repeat(100_000);
        assert!(broken(&nested).contains("'$'"), "no recursion");
    }

    #[test]
    fn a_command_over_the_bound_is_refused_by_its_sum() {
        let word = format!("$1000\r\n{}\r\n", "x".repeat(1000));
        let mut four = commands(format!("*5\r\n{}", word.repeat(4)).as_bytes());
        assert_eq!(four.next(), Ok(None));
        assert!(four.has_begun());
        four.space().extend_from_slice(word.as_bytes());
        assert!(four.next().is_err());
    }

    #[test]
    fn half_a_command_is_waited_for() {
        for half in [&b""[..], b"*", b"*2", b"*2\r", b"*1\r\n", b"*1\r\n$4\r\nPI", b"*1\r\n$4\r\nPING\r"] {
            assert_eq!(commands(half).next(), Ok(None), "{half:?}");
        }
    }
}
