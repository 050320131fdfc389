//! Where relays connect: a Unix socket or a TCP port.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

/// A bound worker port.
#[derive(Debug)]
pub enum Listener {
    /// On a socket file.
    Unix(UnixListener),
    /// On a TCP address.
    Tcp(TcpListener),
}

/// Why the worker port cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address has another form.
    #[error("`{0}` is not a worker port; write unix:///path or tcp://host:port")]
    Address(String),
    /// Another process serves it.
    #[error("{0} is in use: another gateway answers there")]
    InUse(PathBuf),
    /// The system refused.
    #[error("cannot listen on {address}")]
    Bind {
        /// Where.
        address: String,
        /// What the system said.
        source: io::Error,
    },
}

impl Listener {
    /// Binds `unix:///path` (made with mode 0600; a dead socket in its place is removed) or `tcp://host:port`.
    ///
    /// # Errors
    /// [`ListenError`]; nothing is left behind.
    pub async fn bind(address: &str) -> Result<Self, ListenError> {
        let bind = |source| ListenError::Bind { address: address.into(), source };
        if let Some(path) = address.strip_prefix("unix://").filter(|p| p.starts_with('/')) {
            let path = Path::new(path);
            if UnixStream::connect(path).await.is_ok() {
                return Err(ListenError::InUse(path.into()));
            }
            remove_dead(path).map_err(bind)?;
            let listener = UnixListener::bind(path).map_err(bind)?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(path, mode).map_err(bind)?;
            return Ok(Self::Unix(listener));
        }
        match address.strip_prefix("tcp://") {
            Some(host) => Ok(Self::Tcp(TcpListener::bind(host).await.map_err(bind)?)),
            None => Err(ListenError::Address(address.into())),
        }
    }

    /// Its address as relays write it; with the real port where 0 was asked for.
    ///
    /// # Errors
    /// What the system said.
    pub fn address(&self) -> io::Result<String> {
        Ok(match self {
            Self::Unix(listener) => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().unwrap_or(Path::new(""));
                format!("unix://{}", path.display())
            }
            Self::Tcp(listener) => format!("tcp://{}", listener.local_addr()?),
        })
    }

    pub(super) async fn accept(&self) -> io::Result<Wire> {
        Ok(match self {
            Self::Unix(listener) => Wire::Unix(listener.accept().await?.0),
            Self::Tcp(listener) => {
                let stream = listener.accept().await?.0;
                stream.set_nodelay(true)?;
                Wire::Tcp(stream)
            }
        })
    }
}

/// Removes a socket file that nobody listens on; leaves any other kind of file, so that the bind fails and says so.
fn remove_dead(path: &Path) -> io::Result<()> {
    match std::fs::symlink_metadata(path) {
        Ok(meta) if std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type()) => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

/// One relay connection.
#[derive(Debug)]
pub(super) enum Wire {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tcp(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tcp(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(s) => Pin::new(s).poll_flush(cx),
            Self::Tcp(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tcp(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}

/// A connection of which more was read than asked for: gives that first.
#[derive(Debug)]
pub(super) struct Rewound<S> {
    pub(super) first: BytesMut,
    pub(super) rest: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Rewound<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.first.is_empty() {
            return Pin::new(&mut this.rest).poll_read(cx, buf);
        }
        let length = this.first.len().min(buf.remaining());
        buf.put_slice(&this.first[..length]);
        this.first.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Rewound<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().rest).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().rest).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().rest).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_dead_socket_is_replaced_a_live_one_and_a_file_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.sock");
        let address = format!("unix://{}", path.display());
        let first = Listener::bind(&address).await.unwrap();
        assert_eq!(first.address().unwrap(), address);
        assert!(matches!(Listener::bind(&address).await, Err(ListenError::InUse(_))));
        drop(first);
        drop(Listener::bind(&address).await.unwrap());

        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Listener::bind(&address).await, Err(ListenError::Bind { .. })));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn other_addresses_are_refused_with_the_form() {
        for wrong in ["", "w.sock", "unix://relative", "http://127.0.0.1:1"] {
            let error = Listener::bind(wrong).await.unwrap_err().to_string();
            assert!(error.contains("tcp://host:port"), "{error}");
        }
        let tcp = Listener::bind("tcp://127.0.0.1:0").await.unwrap();
        assert!(!tcp.address().unwrap().ends_with(":0"));
    }
}
