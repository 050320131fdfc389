//! Carries a sandbox's two sockets to the gateway's worker port, parsing nothing that the sandbox says.
//!
//! The relay is outside the sandbox. It alone knows the generation's dispatch token; for every connection that the
//! sandbox makes it opens one to the worker port, says who it is in one line, and then moves bytes both ways.

mod pace;
mod pipe;
mod port;
#[cfg(test)]
mod tests;

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::fs::{Mode, OFlags};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

pub use pace::Pace;
pub use port::{WorkerPort, WorkerPortError};

/// File name of the socket that speaks RESP.
pub const REDIS_SOCK: &str = "redis.sock";
/// File name of the socket that speaks HTTP.
pub const GATEWAY_SOCK: &str = "gateway.sock";

/// The worker port refuses longer preambles.
const PREAMBLE_MAX_BYTES: usize = 4096;

/// What one sandbox may ask of its relay.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at a time, of both sockets together; more are closed at once.
    pub max_connections: usize,
    /// Connections in a second in the long run; twice as many may come at once. More wait to be accepted.
    pub connections_per_sec: u64,
    /// Bytes in a second in the long run, of all connections and both directions; four seconds' worth may come at once. More
    /// wait.
    pub bytes_per_sec: u64,
    /// How long the worker port may take to accept a connection.
    pub connect_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 64,
            connections_per_sec: 100,
            bytes_per_sec: 64 << 20,
            connect_timeout: Duration::from_secs(5),
        }
    }
}

/// Both listeners of one generation.
#[derive(Debug)]
pub struct Relay {
    redis: UnixListener,
    gateway: UnixListener,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// At least one, and none is [`WorkerPort::Several`].
    worker_ports: Vec<WorkerPort>,
    /// Which of them answered last: a generation's connections stay together.
    answered: AtomicUsize,
    redis_preamble: String,
    http_preamble: String,
    connect_timeout: Duration,
    permits: Arc<Semaphore>,
    connections_per_sec: u64,
    bytes: Mutex<Pace>,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Redis,
    Http,
}

impl Relay {
    /// Makes `redis.sock` and `gateway.sock` in `sock_dir`, in the place of any that are there, for every uid to use: who
    /// may reach them is decided by who has the folder mounted. Needs a tokio runtime with I/O around it.
    ///
    /// # Errors
    /// `InvalidInput` when the token cannot be said in one preamble line, else what the kernel says of the sockets. An
    /// earlier relay's sockets that were not replaced yet stay as they are.
    pub fn listen(sock_dir: &Path, token: String, worker_port: WorkerPort, limits: Limits) -> io::Result<Self> {
        let token = token.trim();
        if token.is_empty() || token.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "a dispatch token is one word"));
        }
        let redis_preamble = format!("REKINDLE/1 redis {token}\n");
        let http_preamble = format!("REKINDLE/1 http {token}\n");
        if redis_preamble.len() > PREAMBLE_MAX_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the dispatch token is too long for a preamble"));
        }
        let worker_ports = match worker_port {
            WorkerPort::Several(ports) => ports,
            one => vec![one],
        };
        let shared = Shared {
            worker_ports,
            answered: AtomicUsize::new(0),
            redis_preamble,
            http_preamble,
            connect_timeout: limits.connect_timeout,
            permits: Arc::new(Semaphore::new(limits.max_connections)),
            connections_per_sec: limits.connections_per_sec,
            bytes: Mutex::new(Pace::new(limits.bytes_per_sec, Duration::from_secs(4))),
        };
        let told = |e: io::Error| io::Error::new(e.kind(), format!("cannot listen in {}: {e}", sock_dir.display()));
        let short = ShortPath::of(sock_dir).map_err(told)?;
        Ok(Self {
            redis: bind(&short.to(REDIS_SOCK)).map_err(told)?,
            gateway: bind(&short.to(GATEWAY_SOCK)).map_err(told)?,
            shared: Arc::new(shared),
        })
    }

    /// Serves until cancelled; then all connections are closed. The socket files stay: a successor may have replaced them
    /// already, and a worker that finds a dead one tries again.
    pub async fn run(self, cancel: CancellationToken) {
        let mut connections = JoinSet::new();
        let mut pace = Pace::new(self.shared.connections_per_sec, Duration::from_secs(2));
        let mut not_before = Instant::now();
        loop {
            // Those that are open go on meanwhile, and the kernel keeps what comes.
            tokio::select! {
                () = cancel.cancelled() => break,
                () = tokio::time::sleep_until(not_before) => {}
            }
            let (accepted, kind) = tokio::select! {
                () = cancel.cancelled() => break,
                accepted = self.redis.accept() => (accepted, Kind::Redis),
                accepted = self.gateway.accept() => (accepted, Kind::Http),
                Some(_) = connections.join_next() => continue,
            };
            not_before = Instant::now() + pace.take(1);
            match accepted {
                Ok((client, _)) => match Arc::clone(&self.shared.permits).try_acquire_owned() {
                    Ok(permit) => {
                        connections.spawn(serve(Arc::clone(&self.shared), client, kind, permit));
                    }
                    Err(_) => debug!("too many connections from a sandbox, one is closed"),
                },
                Err(error) => {
                    // Out of descriptors, mostly: accepting again at once would spin.
                    warn!(%error, "cannot accept a sandbox's connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        connections.shutdown().await;
    }
}

/// A folder by its descriptor. An address of a Unix socket has room for 107 bytes (unix(7)), and a store may lie deeper.
struct ShortPath(OwnedFd);

impl ShortPath {
    fn of(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(folder, flags, Mode::empty())?))
    }

    fn to(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.0.as_raw_fd()))
    }
}

/// Binds beside the final name and renames, so that the socket is never absent and never there with a narrower mode.
fn bind(path: &Path) -> io::Result<UnixListener> {
    let fresh = path.with_extension("new");
    match std::fs::remove_file(&fresh) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh)?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o666))?;
    std::fs::rename(&fresh, path)?;
    Ok(listener)
}

/// Failing means closing the client's connection, which dropping it does: the client retries with back-off.
async fn serve(shared: Arc<Shared>, client: UnixStream, kind: Kind, _permit: OwnedSemaphorePermit) {
    let carried = match shared.reach().await {
        Ok(Gateway::Unix(gateway)) => shared.carry(client, gateway, kind).await,
        Ok(Gateway::Tcp(gateway)) => shared.carry(client, gateway, kind).await,
        Err(error) => Err(error),
    };
    if let Err(error) = carried {
        debug!(%error, ?kind, "a sandbox's connection ended");
    }
}

/// A connection to a worker port.
enum Gateway {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Shared {
    /// Connects to the gateway that answered last, or else to the next one that does.
    async fn reach(&self) -> io::Result<Gateway> {
        let (first, all) = (self.answered.load(Ordering::Relaxed), self.worker_ports.len());
        let mut last = io::Error::from(io::ErrorKind::NotConnected);
        for index in (first..first + all).map(|i| i % all) {
            match self.reach_one(&self.worker_ports[index]).await {
                Ok(gateway) => {
                    self.answered.store(index, Ordering::Relaxed);
                    return Ok(gateway);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn reach_one(&self, port: &WorkerPort) -> io::Result<Gateway> {
        match port {
            WorkerPort::Unix(path) => Ok(Gateway::Unix(self.connect(UnixStream::connect(path)).await?)),
            WorkerPort::Tcp(address) => {
                let gateway = self.connect(TcpStream::connect(address)).await?;
                // A RESP command is small and waits for its answer: Nagle would add a delayed ACK to each.
                gateway.set_nodelay(true)?;
                Ok(Gateway::Tcp(gateway))
            }
            WorkerPort::Several(_) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    async fn connect<S>(&self, connecting: impl Future<Output = io::Result<S>>) -> io::Result<S> {
        tokio::time::timeout(self.connect_timeout, connecting)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the worker port does not accept")))
    }

    async fn carry<G>(&self, client: UnixStream, mut gateway: G, kind: Kind) -> io::Result<()>
    where
        G: AsyncRead + AsyncWrite + Unpin,
    {
        let preamble = match kind {
            Kind::Redis => &self.redis_preamble,
            Kind::Http => &self.http_preamble,
        };
        gateway.write_all(preamble.as_bytes()).await?;
        pipe::pipe(client, gateway, &self.bytes).await
    }
}
