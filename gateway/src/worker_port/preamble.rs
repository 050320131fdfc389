//! The one line with which a relay opens a connection: `REKINDLE/1 <redis|http> <dispatch token>\n`.

use std::io;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Most bytes of the line, its end included.
const MOST_BYTES: usize = 4096;
/// Most of them that are not the token.
const MOST_BESIDES_TOKEN: usize = 512;
/// Time for the whole line.
const TIME: Duration = Duration::from_secs(5);

/// What the connection carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// RESP, answered by the facade.
    Redis,
    /// HTTP, answered by the broker.
    Http,
}

/// A preamble, with what was read behind it.
#[derive(Debug)]
pub(super) struct Preamble {
    pub(super) kind: Kind,
    pub(super) token: String,
    pub(super) behind: BytesMut,
}

/// Why there is none. The connection is closed without an answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum PreambleError {
    #[error("no preamble came in time")]
    Late,
    #[error("the connection ended before its preamble did")]
    Ended,
    #[error("the preamble is too long")]
    TooLong,
    #[error("the preamble is not `REKINDLE/1 <redis|http> <token>`")]
    Malformed,
    #[error("the connection broke")]
    Broken(#[from] io::Error),
}

/// Reads the line.
pub(super) async fn read<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Preamble, PreambleError> {
    tokio::time::timeout(TIME, read_line(stream)).await.map_err(|_| PreambleError::Late)?
}

async fn read_line<S: AsyncRead + Unpin>(stream: &mut S) -> Result<Preamble, PreambleError> {
    let mut buf = BytesMut::with_capacity(1024);
    loop {
        let looked_at = buf.len();
        if stream.read_buf(&mut buf).await? == 0 {
            return Err(PreambleError::Ended);
        }
        if let Some(at) = buf[looked_at..].iter().position(|b| *b == b'\n') {
            let line = buf.split_to(looked_at + at + 1);
            if line.len() > MOST_BYTES {
                return Err(PreambleError::TooLong);
            }
            let (kind, token) = parse(&line[..line.len() - 1])?;
            return Ok(Preamble { kind, token, behind: buf });
        }
        if buf.len() >= MOST_BYTES {
            return Err(PreambleError::TooLong);
        }
    }
}

fn parse(line: &[u8]) -> Result<(Kind, String), PreambleError> {
    let text = std::str::from_utf8(line).map_err(|_| PreambleError::Malformed)?;
    let mut words = text.splitn(3, ' ');
    let (Some("REKINDLE/1"), Some(kind), Some(token)) = (words.next(), words.next(), words.next()) else {
        return Err(PreambleError::Malformed);
    };
    let kind = match kind {
        "redis" => Kind::Redis,
        "http" => Kind::Http,
        _ => return Err(PreambleError::Malformed),
    };
    let is_token = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if token.is_empty() || !token.bytes().all(is_token) {
        return Err(PreambleError::Malformed);
    }
    if line.len() - token.len() > MOST_BESIDES_TOKEN {
        return Err(PreambleError::TooLong);
    }
    Ok((kind, token.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt;

    async fn read_all(bytes: &[u8]) -> Result<Preamble, PreambleError> {
        let mut bytes = bytes;
        read(&mut bytes).await
    }

    #[tokio::test]
    async fn what_comes_behind_the_line_is_kept() {
        let got = read_all(b"REKINDLE/1 redis a.b-c_d\n*1\r\n$4\r\nPING\r\n").await.unwrap();
        assert_eq!((got.kind, got.token.as_str()), (Kind::Redis, "a.b-c_d"));
        assert_eq!(&got.behind[..], b"*1\r\n$4\r\nPING\r\n");
    }

    #[tokio::test]
    async fn other_lines_are_refused() {
        for wrong in [
            &b"REKINDLE/2 redis t\n"[..],
            b"REKINDLE/1 ftp t\n",
            b"REKINDLE/1 redis \n",
            b"REKINDLE/1 redis\n",
            b"REKINDLE/1 redis a b\n",
            b"REKINDLE/1 redis t\r\n",
            b"REKINDLE/1 redis \xff\n",
            b"REKINDLE/1 redis t\0\n",
            b"\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        ] {
            assert!(matches!(read_all(wrong).await, Err(PreambleError::Malformed)), "{wrong:?}");
        }
        assert!(matches!(read_all(b"REKINDLE/1 redis t").await, Err(PreambleError::Ended)));
        let long = format!("REKINDLE/1 redis {}\n", "a".repeat(5000));
        assert!(matches!(read_all(long.as_bytes()).await, Err(PreambleError::TooLong)));
        assert!(matches!(read_all(&[b'x'; 100_000]).await, Err(PreambleError::TooLong)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_that_does_not_come_is_not_waited_for() {
        let (mut near, mut far) = tokio::io::duplex(64);
        near.write_all(b"REKINDLE/1 re").await.unwrap();
        assert!(matches!(read(&mut far).await, Err(PreambleError::Late)));
    }
}
