//! Cuts a stream of bytes into lines of bounded length.

/// A part of a program's output.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    /// A whole line, without its end.
    Line(&'a [u8]),
    /// A part of a line that is longer than allowed, or that never ended. What follows may belong to the same line.
    Part(&'a [u8]),
    /// Everything that has come so far was given out.
    Pause,
}

/// The bytes of a line that has not ended yet.
#[derive(Debug)]
pub(super) struct Splitter {
    max_bytes: usize,
    held: Vec<u8>,
    in_long_line: bool,
}

impl Splitter {
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes, held: Vec::new(), in_long_line: false }
    }

    /// Takes bytes, gives out what is complete.
    pub async fn push(&mut self, mut bytes: &[u8], take: &mut impl AsyncFnMut(Piece<'_>)) {
        while let Some(end) = bytes.iter().position(|&b| b == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = &rest[1..];
            self.hold(line, take).await;
            let held = std::mem::take(&mut self.held);
            if self.in_long_line {
                take(Piece::Part(&held)).await;
                take(Piece::Part(b"\n")).await;
            } else {
                take(Piece::Line(&held)).await;
            }
            self.held = held;
            self.held.clear();
            self.in_long_line = false;
        }
        self.hold(bytes, take).await;
        // One long line shall not keep its memory for the rest of the turn.
        self.held.shrink_to(64 * 1024);
    }

    /// Says that nothing more comes.
    pub async fn finish(mut self, take: &mut impl AsyncFnMut(Piece<'_>)) {
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            take(if self.in_long_line { Piece::Part(&held) } else { Piece::Line(&held) }).await;
        }
        take(Piece::Pause).await;
    }

    async fn hold(&mut self, mut bytes: &[u8], take: &mut impl AsyncFnMut(Piece<'_>)) {
        while self.held.len() + bytes.len() > self.max_bytes {
            let (now, later) = bytes.split_at(self.max_bytes - self.held.len());
            self.held.extend_from_slice(now);
            bytes = later;
            let kept = self.held.split_off(self.held.len() - incomplete_tail(&self.held));
            take(Piece::Part(&self.held)).await;
            self.held = kept;
            self.in_long_line = true;
        }
        self.held.extend_from_slice(bytes);
    }
}

/// How many bytes at the end are the beginning of a UTF-8 character of which the rest is to come.
fn incomplete_tail(bytes: &[u8]) -> usize {
    let window = &bytes[bytes.len().saturating_sub(3)..];
    for (i, &b) in window.iter().enumerate() {
        let needs = match b {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            _ => continue,
        };
        let has = window.len() - i;
        if has < needs && window[i + 1..].iter().all(|b| b & 0xC0 == 0x80) {
            return has;
        }
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn split(max: usize, pushes: &[&[u8]]) -> Vec<String> {
        let mut seen = Vec::new();
        let mut take = async |piece: Piece<'_>| match piece {
            Piece::Line(bytes) => seen.push(format!("L:{}", String::from_utf8_lossy(bytes))),
            Piece::Part(bytes) => seen.push(format!("P:{}", String::from_utf8_lossy(bytes))),
            Piece::Pause => {}
        };
        let mut splitter = Splitter::new(max);
        for bytes in pushes {
            splitter.push(bytes, &mut take).await;
        }
        splitter.finish(&mut take).await;
        seen
    }

    #[tokio::test]
    async fn lines_may_come_in_any_parts() {
        assert_eq!(split(10, &[b"a\n\nb", b"c\nd"]).await, ["L:a", "L:", "L:bc", "L:d"]);
    }

    #[tokio::test]
    async fn long_lines_are_given_out_in_parts() {
        assert_eq!(split(3, &[b"abcdefg\nx\n"]).await, ["P:abc", "P:def", "P:g", "P:\n", "L:x"]);
        assert_eq!(split(3, &[b"abc\n"]).await, ["L:abc"], "as long as allowed");
    }

    #[tokio::test]
    async fn characters_stay_whole() {
        assert_eq!(split(4, &["abcäöü".as_bytes()]).await, ["P:abc", "P:äö", "P:ü"]);
        assert_eq!(split(4, &[b"\xff\xff\xff\xff\xff"]).await.len(), 2, "what is no UTF-8 goes on all the same");
    }
}
