//! What connections to the outside carry, and how many there are: bounds for each connection, turn and generation.

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use contract::{Generation, TurnId, UnitId};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Generations that are remembered; beyond that those without a connection are forgotten.
const MOST_GENERATIONS: usize = 4096;
/// How often within its time an idle connection is looked at.
const LOOKS: u32 = 4;

/// Why one more connection is not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    /// The generation has as many as it may.
    Connections,
    /// The turn has moved as many bytes as it may.
    Bytes,
}

/// What all generations have open through this gateway. A relay keeps all of a generation's connections on one gateway.
#[derive(Debug)]
pub(super) struct Meters {
    generations: Mutex<HashMap<(UnitId, Generation), Moved>>,
    connections: usize,
    connection_bytes: u64,
    turn_bytes: u64,
}

#[derive(Debug, Default)]
struct Moved {
    connections: usize,
    turn: Option<TurnId>,
    bytes: Arc<AtomicU64>,
}

impl Meters {
    pub(super) fn new(bounds: &settings::Egress) -> Self {
        Self {
            generations: Mutex::default(),
            connections: bounds.connections_per_unit,
            connection_bytes: bounds.connection_mb.saturating_mul(1 << 20),
            turn_bytes: bounds.turn_mb.saturating_mul(1 << 20),
        }
    }

    /// A meter for one more connection.
    pub(super) fn open(
        self: &Arc<Self>,
        uid: &UnitId,
        generation: Generation,
        turn: Option<&TurnId>,
    ) -> Result<Arc<Meter>, Full> {
        let key = (uid.clone(), generation);
        let mut generations = self.lock();
        if generations.len() >= MOST_GENERATIONS {
            generations.retain(|_, moved| moved.connections > 0);
        }
        let moved = generations.entry(key.clone()).or_default();
        if moved.turn.as_ref() != turn {
            moved.turn = turn.cloned();
            // What the last turn has open still counts for that one.
            moved.bytes = Arc::default();
        }
        if moved.connections >= self.connections {
            return Err(Full::Connections);
        }
        if moved.bytes.load(Ordering::Relaxed) >= self.turn_bytes {
            return Err(Full::Bytes);
        }
        moved.connections += 1;
        let of_turn = moved.bytes.clone();
        Ok(Arc::new(Meter { meters: self.clone(), key, bytes: AtomicU64::new(0), of_turn }))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(UnitId, Generation), Moved>> {
        // A panic elsewhere cannot leave the map half changed.
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counts one connection; its place is given up with it.
#[derive(Debug)]
pub(super) struct Meter {
    meters: Arc<Meters>,
    key: (UnitId, Generation),
    bytes: AtomicU64,
    of_turn: Arc<AtomicU64>,
}

impl Meter {
    /// Bytes that were carried, both ways together.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Resolves when nothing was carried for about so long, a quarter more at most.
    pub(super) async fn idle(&self, time: Duration) {
        let (mut seen, mut still) = (self.bytes(), 0);
        while still < LOOKS {
            tokio::time::sleep(time / LOOKS).await;
            let now = self.bytes();
            still = if now == seen { still + 1 } else { 0 };
            seen = now;
        }
    }

    fn count(&self, bytes: usize) -> io::Result<()> {
        let bytes = bytes as u64;
        let here = self.bytes.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        let all = self.of_turn.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
        match here > self.meters.connection_bytes || all > self.meters.turn_bytes {
            true => Err(io::Error::other("it carries more than egress.connection_mb or egress.turn_mb allow")),
            false => Ok(()),
        }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        if let Some(moved) = self.meters.lock().get_mut(&self.key) {
            moved.connections -= 1;
        }
    }
}

/// A connection that is counted; it fails when it has carried too much.
#[derive(Debug)]
pub(super) struct Metered<S> {
    pub(super) io: S,
    pub(super) meter: Arc<Meter>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.io).poll_read(cx, buf);
        if let Poll::Ready(Ok(())) = polled {
            this.meter.count(buf.filled().len() - before)?;
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.io).poll_write(cx, buf);
        if let Poll::Ready(Ok(written)) = polled {
            this.meter.count(written)?;
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker_port::testing;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    fn meters(connections_per_unit: usize, connection_mb: u64, turn_mb: u64) -> Arc<Meters> {
        let bounds = settings::Egress { connections_per_unit, connection_mb, turn_mb, ..Default::default() };
        Arc::new(Meters::new(&bounds))
    }

    #[test]
    fn connections_are_bounded_for_each_generation_and_given_back() {
        let meters = meters(2, 1, 1);
        let (a, b) = (testing::uid("a"), testing::uid("b"));
        let first = meters.open(&a, Generation(1), None).unwrap();
        let _second = meters.open(&a, Generation(1), None).unwrap();
        assert_eq!(meters.open(&a, Generation(1), None).unwrap_err(), Full::Connections);
        assert!(meters.open(&b, Generation(1), None).is_ok() && meters.open(&a, Generation(2), None).is_ok());
        drop(first);
        assert!(meters.open(&a, Generation(1), None).is_ok());
    }

    #[tokio::test]
    async fn a_connection_ends_at_its_bound_and_the_turn_at_its_own() {
        const MIB: usize = 1 << 20;
        let meters = meters(8, 1, 2);
        let uid = testing::uid("a");
        let (one, two) = (testing::turn_id(1), testing::turn_id(2));
        let carry = async |turn, bytes: usize| {
            let meter = meters.open(&uid, Generation(1), Some(turn))?;
            let (near, mut far) = tokio::io::duplex(2 * MIB);
            let mut near = Metered { io: near, meter };
            far.write_all(&vec![0; bytes]).await.unwrap();
            Ok::<_, Full>(near.read_exact(&mut vec![0; bytes]).await.is_ok())
        };
        assert_eq!(carry(&one, MIB).await, Ok(true));
        assert_eq!(carry(&one, MIB + 1).await, Ok(false), "one byte too many");
        assert_eq!(carry(&one, 1).await, Err(Full::Bytes));
        assert_eq!(carry(&two, MIB).await, Ok(true), "another turn");
        let (near, mut far) = tokio::io::duplex(2 * MIB);
        let mut near = Metered { io: near, meter: meters.open(&uid, Generation(1), Some(&two)).unwrap() };
        assert!(near.write_all(&vec![0; MIB]).await.is_ok());
        assert!(near.write_all(b"x").await.is_err(), "what is sent counts as well");
        assert!(far.read_exact(&mut vec![0; MIB]).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_carries_nothing_is_idle_and_a_byte_begins_anew() {
        let meter = meters(1, 1, 1).open(&testing::uid("a"), Generation(1), None).unwrap();
        let begun = tokio::time::Instant::now();
        let busy = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(3)).await;
                meter.count(1).unwrap();
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = meter.idle(Duration::from_secs(4)) => {}
            () = busy => {}
        }
        let took = begun.elapsed().as_secs();
        assert!((19..=20).contains(&took), "{took} s");
    }
}
