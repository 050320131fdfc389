//! A server as one writes it in an afternoon: every line that looks like the beginning of a request is answered with 200 and
//! with what was asked, for every site to read; nothing is bounded, nothing ends.

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Its address, and what runs it.
pub(super) async fn start() -> (String, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address").to_string();
    let server = tokio::spawn(async move {
        let mut callers = JoinSet::new();
        while let Ok((socket, _)) = listener.accept().await {
            callers.spawn(serve(socket));
        }
    });
    (address, AbortOnDropHandle::new(server))
}

async fn serve(socket: TcpStream) {
    let (from, mut to) = socket.into_split();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    while from.read_until(b'\n', &mut line).await.is_ok_and(|n| n > 0) {
        let text = String::from_utf8_lossy(&line).into_owned();
        line.clear();
        let status = if text.to_ascii_lowercase().starts_with("upgrade:") {
            "101 Switching Protocols"
        } else if text.contains(" HTTP/") {
            "200 OK"
        } else {
            continue;
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\ncontent-type: text/html\r\naccess-control-allow-origin: *\r\ncontent-length: {}\r\n\r\n{text}",
            text.len()
        );
        if to.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
    // It never hangs up.
    let mut rest = [0; 1024];
    while from.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    std::future::pending::<()>().await;
}
