//! The worker port: where relays bring what sandboxes say.
//!
//! A connection opens with a preamble that shows its generation's dispatch token; behind it is RESP for the facade or HTTP
//! for the broker. Whoever is behind the relay is a stranger: every length, count and wait is bounded here, and what a
//! generation may do is decided by the ledger's scripts, never by what it says of itself.

mod admission;
mod allowance;
mod command;
mod event;
mod facade;
mod links;
mod listener;
mod nonce;
mod preamble;
mod proxied;
mod reply;
mod request;
mod revocation;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::broker::Broker;
use crate::egress::Egress;
use crate::metrics::Deliveries;
use crate::tokens::DispatchTokens;

pub use links::{CONNECTIONS_PER_GENERATION, Control, Links};
pub use listener::{ListenError, Listener};

/// Connections that may be between their accept and the end of their preamble; more wait in the system's queue.
const MOST_UNADMITTED: usize = 256;

/// Serves the worker port.
#[derive(Debug, Clone)]
pub struct WorkerPort {
    /// The ledger.
    pub ledger: ledger::Ledger,
    /// Checks dispatch tokens.
    pub tokens: Arc<DispatchTokens>,
    /// Registry of connections, shared with whoever delivers.
    pub links: Links,
    /// Answers `http` connections.
    pub broker: Arc<Broker>,
    /// Answers those that take the gateway for a proxy.
    pub egress: Arc<Egress>,
    /// Bounds; `event_bytes` is used here.
    pub limits: settings::Limits,
    /// How long model streams may go on after `serve` is told to end.
    pub drain: Duration,
    /// Counts what is handed over.
    pub deliveries: Deliveries,
}

impl WorkerPort {
    /// Accepts connections until cancelled; then ends facade connections between two commands, lets model streams go on
    /// for [`drain`](Self::drain), and returns when all connections are closed. Workers reconnect: nothing is lost.
    pub async fn serve(self, listener: Listener, cancel: CancellationToken) {
        let unadmitted = Arc::new(Semaphore::new(MOST_UNADMITTED));
        let port = Arc::new(self);
        let mut connections = JoinSet::new();
        let watch = revocation::watch(&port);
        tokio::pin!(watch);
        loop {
            let admit = async {
                // The semaphore is never closed.
                let permit = unadmitted.clone().acquire_owned().await.ok();
                (permit, listener.accept().await)
            };
            tokio::select! {
                () = cancel.cancelled() => break,
                () = &mut watch => {}
                Some(ended) = connections.join_next(), if !connections.is_empty() => log_panic(ended),
                (permit, accepted) = admit => match accepted {
                    Ok(wire) => {
                        let (port, cancel) = (port.clone(), cancel.clone());
                        connections.spawn(admission::serve(port, wire, permit, cancel));
                    }
                    Err(error) => {
                        // Out of file descriptors, mostly: accepting again at once would spin.
                        tracing::warn!(%error, "cannot accept a worker connection");
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                },
            }
        }
        drop(listener);
        loop {
            tokio::select! {
                () = &mut watch => {}
                ended = connections.join_next() => match ended {
                    Some(ended) => log_panic(ended),
                    None => break,
                },
            }
        }
    }
}

fn log_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a worker connection's task failed");
    }
}
