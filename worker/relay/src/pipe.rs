//! Bytes both ways between a sandbox's connection and the gateway's.

use std::io;
use std::sync::{Mutex, PoisonError};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::net::UnixStream;

use crate::pace::Pace;

/// Bytes that are carried at a time, in each direction of each connection.
const PIECE: usize = 16 << 10;

/// Pipes until both directions have ended. Either side may close only its own direction: the other goes on. A client that is
/// gone altogether, though, ends both at once, so that a gateway which waits for nothing in particular holds no slot for it.
pub(crate) async fn pipe<G>(mut client: UnixStream, gateway: G, pace: &Mutex<Pace>) -> io::Result<()>
where
    G: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = client.split();
    let (mut from_gateway, mut to_gateway) = split(gateway);
    let up = async {
        copy(&mut from_client, &mut to_gateway, pace).await?;
        if is_gone(from_client.as_ref())? {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        to_gateway.shutdown().await
    };
    let down = async {
        copy(&mut from_gateway, &mut to_client, pace).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(up, down).map(|_| ())
}

/// Until the reader ends. What is beyond the pace is not read: whoever sends it waits.
async fn copy<R, W>(reader: &mut R, writer: &mut W, pace: &Mutex<Pace>) -> io::Result<()>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let mut piece = vec![0; PIECE];
    loop {
        let n = reader.read(&mut piece).await?;
        if n == 0 {
            return Ok(());
        }
        writer.write_all(&piece[..n]).await?;
        writer.flush().await?;
        // A panic elsewhere cannot leave it half changed.
        let wait = pace.lock().unwrap_or_else(PoisonError::into_inner).take(n as u64);
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

/// On a Unix socket `POLLHUP` tells a closed peer from one that has only shut down its writing half (unix(7), poll(2)).
fn is_gone(client: &UnixStream) -> io::Result<bool> {
    let mut fds = [PollFd::new(client, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec::default()))?;
    Ok(fds[0].revents().contains(PollFlags::HUP))
}
