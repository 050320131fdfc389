//! Tells requests to the gateway itself from those that take it for a proxy, by the first request's target: a path, or a host.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use super::listener::Rewound;

/// Time for a connection's first word to come.
const FIRST_TIME: Duration = Duration::from_secs(60);
/// No method that anybody means is longer.
const MOST_METHOD: usize = 32;

/// Whether the first request is one to a proxy. What was read for that stays to be read.
pub(super) async fn is_proxied<S: AsyncRead + Unpin>(io: &mut Rewound<S>) -> io::Result<bool> {
    timeout(FIRST_TIME, async {
        loop {
            let space = io.first.iter().take(MOST_METHOD).position(|byte| *byte == b' ');
            match space.and_then(|at| io.first.get(at + 1).copied()) {
                // A path, or the `*` of OPTIONS.
                Some(target) => return Ok(!matches!(target, b'/' | b'*')),
                None if space.is_none() && io.first.len() >= MOST_METHOD => return Ok(false),
                None if io.rest.read_buf(&mut io.first).await? == 0 => return Ok(false),
                None => {}
            }
        }
    })
    .await?
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn the_target_decides_and_nothing_is_lost() {
        for (request, proxied) in [
            ("POST /broker/anthropic/v1/messages HTTP/1.1\r\n\r\n", false),
            ("OPTIONS * HTTP/1.1\r\n\r\n", false),
            ("CONNECT a.example:443 HTTP/1.1\r\n\r\n", true),
            ("GET http://a.example/ HTTP/1.1\r\n\r\n", true),
            ("POST http://a.example/ HTTP/1.1\r\n\r\n", true),
            ("GET  /two-spaces HTTP/1.1\r\n\r\n", true),
            ("GET", false),
            ("GET ", false),
            ("", false),
            ("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", false),
        ] {
            for first in [0, 3.min(request.len()), request.len()] {
                let (rest, mut far) = tokio::io::duplex(256);
                let sent = &request.as_bytes()[first..];
                let mut io = Rewound { first: BytesMut::from(&request.as_bytes()[..first]), rest };
                let send = async {
                    // Byte by byte, as slow clients do.
                    for byte in sent {
                        far.write_all(&[*byte]).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                    far.shutdown().await.unwrap();
                };
                let (decided, ()) = tokio::join!(is_proxied(&mut io), send);
                assert_eq!(decided.unwrap(), proxied, "{request}");
                let mut all = String::new();
                io.read_to_string(&mut all).await.unwrap();
                assert_eq!(all, request);
            }
        }
    }
}
