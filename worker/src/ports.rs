//! Loopback ports towards the relay's sockets, for programs that speak TCP only.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

/// The relay allows no more than this in all.
const MAX_CONNECTIONS: usize = 64;

/// One `127.0.0.1` port, piped to one Unix socket.
#[derive(Debug)]
pub struct Forward {
    listener: TcpListener,
    socket: PathBuf,
    closer: Closer,
}

/// Closes a port's connections.
#[derive(Debug, Clone)]
pub struct Closer(watch::Sender<()>);

impl Closer {
    /// Closes all that are open now. A program that was killed has its end closed by the kernel, but over TCP that looks as if
    /// it only had no more to say; what is at the other end, a model that goes on being billed, shall not have to guess.
    pub fn close_all(&self) {
        self.0.send_replace(());
    }
}

impl Forward {
    /// Listens on the wanted port of `127.0.0.1`, or on any when that is taken.
    ///
    /// # Errors
    /// When there is no loopback interface that is up.
    pub async fn listen(wanted: u16, socket: PathBuf) -> io::Result<Self> {
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, wanted)).await {
            Ok(listener) => listener,
            Err(_) => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?,
        };
        Ok(Self { listener, socket, closer: Closer(watch::channel(()).0) })
    }

    /// The port.
    ///
    /// # Errors
    /// When the kernel does not say.
    pub fn port(&self) -> io::Result<u16> {
        Ok(self.listener.local_addr()?.port())
    }

    /// What closes its connections.
    pub fn closer(&self) -> Closer {
        self.closer.clone()
    }

    /// Serves until dropped; its connections end with it.
    pub async fn run(self) {
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                Some(_) = connections.join_next() => continue,
            };
            let Ok((client, _)) = accepted else {
                // Out of descriptors, mostly: accepting again at once would spin.
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
                let socket = self.socket.clone();
                let mut closing = self.closer.0.subscribe();
                connections.spawn(async move {
                    // A failure closes the client's connection, and it tries again as it does with any server.
                    tokio::select! {
                        _ = carry(client, socket) => {}
                        _ = closing.changed() => {}
                    }
                    drop(permit);
                });
            }
        }
    }
}

async fn carry(mut client: TcpStream, socket: PathBuf) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut server = UnixStream::connect(socket).await?;
    copy_bidirectional(&mut client, &mut server).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn pipes_and_closes_when_there_is_nobody() {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("s");
        let forward = Forward::listen(0, socket.clone()).await.unwrap();
        let port = forward.port().unwrap();
        let second = Forward::listen(port, socket.clone()).await.unwrap();
        assert_ne!(second.port().unwrap(), port, "a taken port is replaced by another");
        let closer = forward.closer();
        let serving = tokio::spawn(forward.run());

        let mut refused = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        assert_eq!(refused.read_to_end(&mut Vec::new()).await.unwrap(), 0);

        let listener = UnixListener::bind(&socket).unwrap();
        let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        let mut got = String::new();
        server.read_to_string(&mut got).await.unwrap();
        server.write_all(b"bye").await.unwrap();
        drop(server);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert_eq!((got.as_str(), answer.as_str()), ("hello", "bye"));

        let mut client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        closer.close_all();
        assert_eq!(client.read_to_end(&mut Vec::new()).await.unwrap(), 0);
        assert_eq!(server.read_to_end(&mut Vec::new()).await.unwrap(), 0);
        assert!(server.write_all(b"more").await.is_err(), "closed, and not only half");
        serving.abort();
    }
}
