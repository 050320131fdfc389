//! The link to the gateway: what this worker reads of its in-stream and writes to its out-stream, through the relay.
//!
//! Two connections, so that a read that waits never holds up an event. The reading one is also the first there is: it claims
//! the generation before any runner exists and gets the nonce that all later ones show.

mod connection;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;

use crate::settings::Settings;
use connection::{Connection, Failed};
pub use reader::Delivery;
pub use writer::Events;

/// Why a link is over for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkEnd {
    /// The gateway says that this generation may do nothing any more.
    #[error("fenced: {0}")]
    Fenced(String),
    /// No gateway could be reached for the time that this takes.
    #[error("no gateway could be reached for {0:?}")]
    Orphaned(Duration),
}

#[derive(Debug)]
struct Address {
    redis_sock: PathBuf,
    in_stream: String,
    out_stream: String,
    consumer: String,
    orphan_after: Duration,
}

/// A claimed generation.
#[derive(Debug)]
pub struct Link {
    address: Arc<Address>,
    nonce: Arc<str>,
    first: Connection,
}

/// The two sides of a running link, and its two halves to run beside the turn.
pub struct Running<R, W> {
    /// What the gateway delivers.
    pub deliveries: mpsc::Receiver<Delivery>,
    /// Where events go.
    pub events: Events,
    /// Reads until the link is over.
    pub reader: R,
    /// Makes the reading connection anew, and with it its buffers.
    pub renew: Arc<Notify>,
    /// Writes until the link is over.
    pub writer: W,
}

impl Link {
    /// Claims the generation. Tries until a gateway answers.
    ///
    /// # Errors
    /// [`LinkEnd`] when the gateway refuses, e.g. because somebody has claimed the generation, or cannot be reached.
    pub async fn claim(settings: &Settings, boot_ms: impl Fn() -> u64) -> Result<Self, LinkEnd> {
        let address = Arc::new(Address {
            redis_sock: settings.redis_sock.clone(),
            in_stream: settings.in_stream.clone(),
            out_stream: settings.out_stream.clone(),
            consumer: settings.generation.to_string(),
            orphan_after: settings.orphan_after,
        });
        let mut backoff = Backoff::new(address.orphan_after);
        loop {
            match Connection::claim(&address, boot_ms()).await {
                Ok((first, nonce)) => return Ok(Self { address, nonce: nonce.into(), first }),
                Err(Failed::Fenced(why)) => return Err(LinkEnd::Fenced(why)),
                Err(Failed::Lost(why)) => backoff.pause(&why).await?,
            }
        }
    }

    /// Splits the link into what has to run and what is used meanwhile.
    pub fn run(
        self,
    ) -> Running<impl Future<Output = LinkEnd> + Send + 'static, impl Future<Output = LinkEnd> + Send + 'static> {
        let (delivered, deliveries) = mpsc::channel(16);
        let (events, queued) = writer::channel();
        let again = delivered.clone();
        let renew = Arc::new(Notify::new());
        let (address, nonce) = (Arc::clone(&self.address), Arc::clone(&self.nonce));
        Running {
            deliveries,
            events,
            reader: reader::read(address, nonce, self.first, delivered, Arc::clone(&renew)),
            renew,
            writer: writer::write(self.address, self.nonce, queued, again),
        }
    }
}

/// 100 ms doubling to 2 s, until no gateway was reached for too long.
#[derive(Debug)]
struct Backoff {
    reached: Instant,
    give_up: Duration,
    next: Duration,
    told: bool,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const MOST: Duration = Duration::from_secs(2);

    fn new(give_up: Duration) -> Self {
        Self { reached: Instant::now(), give_up, next: Self::FIRST, told: false }
    }

    fn reached(&mut self) {
        *self = Self::new(self.give_up);
    }

    async fn pause(&mut self, why: &str) -> Result<(), LinkEnd> {
        if !self.told {
            tracing::info!(why, "no gateway, trying again");
            self.told = true;
        }
        if self.reached.elapsed() + self.next > self.give_up {
            return Err(LinkEnd::Orphaned(self.give_up));
        }
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(Self::MOST);
        Ok(())
    }
}
