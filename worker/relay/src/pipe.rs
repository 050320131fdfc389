//! Bytes both ways between a sandbox's connection and the gateway's.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy, split};
use tokio::net::UnixStream;

/// Pipes until both directions have ended. Either side may close only its own direction: the other goes on. A client that is
/// gone altogether, though, ends both at once, so that a gateway which waits for nothing in particular holds no slot for it.
pub(crate) async fn pipe<G>(mut client: UnixStream, gateway: G) -> io::Result<()>
where
    G: AsyncRead + AsyncWrite + Unpin,
{
    let (mut from_client, mut to_client) = client.split();
    let (mut from_gateway, mut to_gateway) = split(gateway);
    let up = async {
        copy(&mut from_client, &mut to_gateway).await?;
        if is_gone(from_client.as_ref())? {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        to_gateway.shutdown().await
    };
    let down = async {
        copy(&mut from_gateway, &mut to_client).await?;
        to_client.shutdown().await
    };
    tokio::try_join!(up, down).map(|_| ())
}

/// On a Unix socket `POLLHUP` tells a closed peer from one that has only shut down its writing half (unix(7), poll(2)).
fn is_gone(client: &UnixStream) -> io::Result<bool> {
    let mut fds = [PollFd::new(client, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec::default()))?;
    Ok(fds[0].revents().contains(PollFlags::HUP))
}
