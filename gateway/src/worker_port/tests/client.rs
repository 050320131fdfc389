//! A Redis client of plain bytes.

use bytes::{Bytes, BytesMut};
use redis_protocol::resp2::decode::decode_bytes_mut;
use redis_protocol::resp2::types::BytesFrame;
use redis_protocol::resp3;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::worker_port::testing::{SOON, uid};

pub(crate) struct Client {
    stream: UnixStream,
    buf: BytesMut,
}

pub(crate) fn command(words: &[&str]) -> Vec<u8> {
    let mut out = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        out.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
    }
    out
}

impl Client {
    pub(crate) fn new(stream: UnixStream) -> Self {
        Self { stream, buf: BytesMut::new() }
    }

    pub(crate) async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    pub(crate) async fn send(&mut self, words: &[&str]) {
        self.send_raw(&command(words)).await;
    }

    /// The next answer; `None` when the server closed the connection.
    pub(crate) async fn answer(&mut self) -> Option<BytesFrame> {
        loop {
            if self.buf.starts_with(b"*-1\r\n") {
                let _ = self.buf.split_to(5);
                return Some(BytesFrame::Null);
            }
            if let Some((frame, _, _)) = decode_bytes_mut(&mut self.buf).unwrap() {
                return Some(frame);
            }
            if !self.more().await {
                return None;
            }
        }
    }

    /// The next answer, after `HELLO 3`.
    pub(crate) async fn answer3(&mut self) -> resp3::types::BytesFrame {
        use resp3::decode::complete::decode_bytes_mut as decode;
        loop {
            if let Some((frame, _, _)) = decode(&mut self.buf).unwrap() {
                return frame;
            }
            assert!(self.more().await, "the connection ended");
        }
    }

    async fn more(&mut self) -> bool {
        let read = self.stream.read_buf(&mut self.buf);
        match tokio::time::timeout(SOON, read).await.expect("an answer") {
            Ok(n) => n > 0,
            // The other side closed while we still wrote.
            Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => false,
            Err(e) => panic!("{e}"),
        }
    }

    pub(crate) async fn call(&mut self, words: &[&str]) -> BytesFrame {
        self.send(words).await;
        self.answer().await.expect("an answer")
    }

    /// Calls on a connection that may be closed at any moment; `None` when it is.
    pub(crate) async fn try_call(&mut self, words: &[&str]) -> Option<BytesFrame> {
        match self.stream.write_all(&command(words)).await {
            Ok(()) => self.answer().await,
            Err(_) => None,
        }
    }

    /// Calls, and wants an error; gives its text.
    pub(crate) async fn refused(&mut self, words: &[&str]) -> String {
        error(self.call(words).await)
    }

    /// Sends a blocking group read.
    pub(crate) async fn send_read(&mut self, block_ms: u64) {
        let inbox = uid("demo").in_stream();
        let block = block_ms.to_string();
        self.send(&["XREADGROUP", "GROUP", "g", "c", "COUNT", "1", "BLOCK", &block, "STREAMS", &inbox, ">"]).await;
    }

    pub(crate) async fn read(&mut self, block_ms: u64) -> Option<Value> {
        self.send_read(block_ms).await;
        entry(self.answer().await.expect("an answer"))
    }

    /// Writes an event.
    pub(crate) async fn add(&mut self, event: &Value) -> BytesFrame {
        let out = uid("demo").out_stream();
        self.call(&["XADD", &out, "*", "event", &event.to_string()]).await
    }

    /// Writes an event and gives its id.
    pub(crate) async fn added(&mut self, event: &Value) -> String {
        match self.add(event).await {
            BytesFrame::BulkString(id) => text(&id),
            other => panic!("not written: {other:?}"),
        }
    }

    /// Everything until the server closes the connection.
    pub(crate) async fn all(&mut self) -> String {
        while self.more().await {}
        String::from_utf8(self.buf.split().to_vec()).unwrap()
    }

    /// Whether the server closes the connection, saying nothing more.
    pub(crate) async fn ends(&mut self) -> bool {
        self.answer().await.is_none()
    }
}

pub(crate) fn error(frame: BytesFrame) -> String {
    match frame {
        BytesFrame::Error(text) => text.to_string(),
        other => panic!("no error: {other:?}"),
    }
}

pub(crate) fn text(bytes: &Bytes) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The JSON of the one entry of a read's RESP2 answer, whose whole form is checked.
pub(crate) fn entry(frame: BytesFrame) -> Option<Value> {
    let items = |frame: &BytesFrame| match frame {
        BytesFrame::Array(items) => items.clone(),
        other => panic!("no array: {other:?}"),
    };
    if frame == BytesFrame::Null {
        return None;
    }
    let streams = items(&frame);
    assert_eq!(streams.len(), 1);
    let stream = items(&streams[0]);
    assert_eq!(stream[0], BytesFrame::BulkString(uid("demo").in_stream().into()));
    let entries = items(&stream[1]);
    assert_eq!(entries.len(), 1);
    let entry = items(&entries[0]);
    let BytesFrame::BulkString(id) = &entry[0] else {
        panic!("no id: {entry:?}");
    };
    assert!(text(id).ends_with("-0"));
    let fields = items(&entry[1]);
    assert_eq!(fields[0], BytesFrame::BulkString("turn".into()));
    let BytesFrame::BulkString(json) = &fields[1] else {
        panic!("no turn: {fields:?}");
    };
    Some(serde_json::from_slice(json).unwrap())
}
