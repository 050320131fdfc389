//! From a target to a connection: resolved once, judged, and connected to exactly what was judged.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use settings::{EgressHost, EgressTarget};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};

use crate::public_address::{Guard, NotPublic};

/// Addresses of one name that are looked at.
const MOST_ADDRESSES: usize = 16;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum DialError {
    /// The name has no address.
    #[error("it has no address")]
    Unknown(#[source] io::Error),
    /// None of its addresses may be connected to.
    #[error("{address} is {why}")]
    NotPublic {
        /// The first of them.
        address: SocketAddr,
        /// What it is.
        why: NotPublic,
    },
    /// It does not take the connection.
    #[error("it does not take connections")]
    Unreachable(#[source] io::Error),
    /// It took too long.
    #[error("it did not answer in time")]
    Late,
}

/// Who knows names' addresses.
#[derive(Debug)]
pub(super) enum Names {
    /// The system's resolver.
    System,
    /// Answers in order, one for each question.
    #[cfg(test)]
    Scripted(std::sync::Mutex<std::collections::VecDeque<Vec<std::net::IpAddr>>>),
}

impl Names {
    async fn addresses(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self {
            Self::System => Ok(tokio::net::lookup_host((name, port)).await?.take(MOST_ADDRESSES).collect()),
            #[cfg(test)]
            Self::Scripted(answers) => {
                let answer = answers.lock().unwrap().pop_front().expect("nobody asks more often than is scripted");
                Ok(answer.into_iter().map(|ip| SocketAddr::new(ip, port)).collect())
            }
        }
    }
}

/// Makes connections.
#[derive(Debug)]
pub(super) struct Dialer {
    pub(super) names: Names,
    pub(super) guard: Guard,
    /// For the name and the connection together.
    pub(super) time: Duration,
}

impl Dialer {
    /// Whether a literal address may be connected to; names are judged when they are resolved.
    pub(super) fn check_literal(&self, target: &EgressTarget) -> Result<(), DialError> {
        match &target.host {
            EgressHost::Name(_) => Ok(()),
            EgressHost::Address(ip) => {
                let address = SocketAddr::new(*ip, target.port);
                self.guard.check(address).map_err(|why| DialError::NotPublic { address, why })
            }
        }
    }

    /// Connects to the first address that may be, and can be, connected to.
    pub(super) async fn dial(&self, target: &EgressTarget) -> Result<TcpStream, DialError> {
        let deadline = Instant::now() + self.time;
        let found = match &target.host {
            EgressHost::Address(ip) => vec![SocketAddr::new(*ip, target.port)],
            EgressHost::Name(name) => timeout_at(deadline, self.names.addresses(name, target.port))
                .await
                .map_err(|_| DialError::Late)?
                .map_err(DialError::Unknown)?,
        };
        let mut why_not = None;
        let mut good = Vec::new();
        for address in found.into_iter().take(MOST_ADDRESSES) {
            match self.guard.check(address) {
                Ok(()) => good.push(address),
                Err(why) => why_not = why_not.or(Some(DialError::NotPublic { address, why })),
            }
        }
        let mut failure = why_not.unwrap_or_else(|| DialError::Unknown(io::ErrorKind::NotFound.into()));
        let count = good.len();
        for (tried, address) in good.into_iter().enumerate() {
            // One that swallows packets leaves the others their share of the time.
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(count - tried).unwrap_or(1);
            failure = match timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(stream)) => {
                    // Small messages of a TLS handshake wait for nobody.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Ok(Err(error)) => DialError::Unreachable(error),
                Err(_) => DialError::Late,
            };
        }
        Err(failure)
    }
}
