//! A connection that does not wait for ever for its peer to take what was written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// Who takes less than this in the whole of its time takes nothing: a peer that opens its window by single bytes.
const LEAST_BYTES: usize = 4 << 10;

/// A socket, and what was read from it already.
#[derive(Debug)]
pub struct Patient<S> {
    read: Bytes,
    socket: S,
    patience: Duration,
    blocked: Option<Blocked>,
}

/// The peer has not taken all that it was offered.
#[derive(Debug)]
struct Blocked {
    until: Pin<Box<Sleep>>,
    taken: usize,
}

impl<S> Patient<S> {
    /// Reads `read` before anything else; a peer that takes nothing for as long as `patience` is an error.
    pub fn new(read: Bytes, socket: S, patience: Duration) -> Self {
        Self { read, socket, patience, blocked: None }
    }

    /// What a write came to, of so many bytes that were offered.
    fn written(
        &mut self,
        context: &mut Context<'_>,
        write: Poll<io::Result<usize>>,
        offered: usize,
    ) -> Poll<io::Result<usize>> {
        match write {
            Poll::Ready(Ok(taken)) => {
                let enough = |blocked: &mut Blocked| {
                    blocked.taken += taken;
                    taken == offered || blocked.taken >= LEAST_BYTES
                };
                if self.blocked.as_mut().is_some_and(enough) {
                    self.blocked = None;
                }
                Poll::Ready(Ok(taken))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                let patience = self.patience;
                let fresh = || Blocked { until: Box::pin(sleep(patience)), taken: 0 };
                ready!(self.blocked.get_or_insert_with(fresh).until.as_mut().poll(context));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes nothing of its answer")))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.read.is_empty() {
            return Pin::new(&mut self.socket).poll_read(context, into);
        }
        let length = self.read.len().min(into.remaining());
        into.put_slice(&self.read[..length]);
        self.read.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.written(context, write, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let write = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.written(context, write, slices.iter().map(|slice| slice.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn what_was_read_already_comes_first() {
        let (mut far, near) = tokio::io::duplex(64);
        far.write_all(b" world").await.unwrap();
        drop(far);
        let mut text = String::new();
        Patient::new("hello".into(), near, PATIENCE).read_to_string(&mut text).await.unwrap();
        assert_eq!(text, "hello world");
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_an_error_in_time() {
        let (_far, near) = tokio::io::duplex(1024);
        let before = Instant::now();
        let error = Patient::new(Bytes::new(), near, PATIENCE).write_all(&[0; 4096]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!((PATIENCE..PATIENCE * 2).contains(&before.elapsed()));
    }

    #[tokio::test(start_paused = true)]
    async fn single_bytes_are_nothing_and_a_slow_reader_is_served() {
        for (step, served) in [(1, false), (2048, true)] {
            let (mut far, near) = tokio::io::duplex(1024);
            let reading = tokio::spawn(async move {
                let mut buffer = vec![0; step];
                while far.read(&mut buffer).await.is_ok_and(|n| n > 0) {
                    tokio::time::sleep(PATIENCE / 8).await;
                }
            });
            let mut near = Patient::new(Bytes::new(), near, PATIENCE);
            let written = near.write_all(&vec![0; 64 << 10]).await;
            assert_eq!(written.is_ok(), served, "{step} bytes at a time: {written:?}");
            drop(near);
            reading.await.unwrap();
        }
    }
}
