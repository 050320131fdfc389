//! Bytes to a server as they are, and what it said to them.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout_at};

/// More of an answer is not kept.
const KEPT_BYTES: usize = 1 << 20;

/// What came back.
pub(super) struct Heard {
    pub(super) bytes: Vec<u8>,
    /// The server ended the connection in time.
    pub(super) ended: bool,
}

impl Heard {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The status of each answer.
    pub(super) fn statuses(&self) -> Vec<u16> {
        let text = self.text();
        let after = text.match_indices("HTTP/1.").filter_map(|(at, _)| text.get(at + 9..at + 12)?.parse().ok());
        after.collect()
    }
}

/// How a request is sent.
#[derive(Clone, Copy, Default)]
pub(super) enum Pace {
    /// All at once.
    #[default]
    AtOnce,
    /// So many bytes at a time, with a pause between.
    Drip(usize, Duration),
}

/// Sends while it listens, until the server ends the connection or the time is over.
pub(super) async fn say(address: &str, bytes: &[u8], pace: Pace, limit: Duration) -> Heard {
    let until = Instant::now() + limit;
    let (mut from, mut to) = TcpStream::connect(address).await.expect("connect").into_split();
    let sending = async {
        let (size, pause) = match pace {
            Pace::AtOnce => (bytes.len().max(1), Duration::ZERO),
            Pace::Drip(size, pause) => (size, pause),
        };
        for piece in bytes.chunks(size) {
            // A server that has ended it says so to the reader.
            if to.write_all(piece).await.is_err() {
                break;
            }
            if !pause.is_zero() {
                sleep(pause).await;
            }
        }
        std::future::pending::<()>().await;
    };
    let mut heard = Heard { bytes: Vec::new(), ended: false };
    let listening = async {
        let mut buffer = vec![0; 64 << 10];
        loop {
            match from.read(&mut buffer).await {
                Ok(0) | Err(_) => return heard.ended = true,
                Ok(n) => heard.bytes.extend(&buffer[..n.min(KEPT_BYTES.saturating_sub(heard.bytes.len()))]),
            }
        }
    };
    let both = async {
        tokio::select! { () = sending => {}, () = listening => {} }
    };
    let _ = timeout_at(until, both).await;
    heard
}
