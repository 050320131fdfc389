//! Frames of HTTP/2 (RFC 9113), by hand.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

pub(super) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short payload").to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

/// What a client begins with: the preface and its settings.
pub(super) fn hello() -> Vec<u8> {
    [PREFACE.to_vec(), frame(4, 0, 0, &[])].concat()
}

/// A header that stays in the table, in plain text.
pub(super) fn header(name: &str, value: &str) -> Vec<u8> {
    let length = |n: usize| match n {
        0..127 => vec![u8::try_from(n).expect("short")],
        n => {
            let mut rest = n - 127;
            let mut bytes = vec![127];
            while rest >= 128 {
                bytes.push(u8::try_from(rest % 128 + 128).expect("a byte"));
                rest /= 128;
            }
            bytes.push(u8::try_from(rest).expect("a byte"));
            bytes
        }
    };
    [&[0x40][..], &length(name.len()), name.as_bytes(), &length(value.len()), value.as_bytes()].concat()
}

/// A header block for this path.
pub(super) fn get(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let mut block = vec![0x82, 0x86];
    block.extend(header(":path", path));
    block.extend(header(":authority", "gateway"));
    for (name, value) in more {
        block.extend(header(name, value));
    }
    block
}

pub(super) fn request(stream: u32, block: &[u8]) -> Vec<u8> {
    frame(1, END_STREAM | END_HEADERS, stream, block)
}

fn with_hello(frames: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
    std::iter::once(hello()).chain(frames).flatten().collect()
}

/// Requests that are taken back at once (CVE-2023-44487).
pub(super) fn rapid_reset() -> Vec<u8> {
    let block = get("/healthz", &[]);
    with_hello((0..4000).map(|n| [request(2 * n + 1, &block), frame(3, 0, 2 * n + 1, &[0, 0, 0, 8])].concat()))
}

/// A header block without end (CVE-2024-27316).
pub(super) fn continuation_flood() -> Vec<u8> {
    let piece = header("x", &"y".repeat(16_000));
    let first = frame(1, END_STREAM, 1, &get("/healthz", &[]));
    with_hello(std::iter::once(first).chain((0..1000).map(|_| frame(9, 0, 1, &piece))))
}

/// A header of 3,500 bytes, said once and meant 10,000 times (CVE-2016-6581).
pub(super) fn header_bomb() -> Vec<u8> {
    let mut block = get("/healthz", &[("x-bomb", &"b".repeat(3500))]);
    block.extend([0xbe; 10_000]);
    with_hello(std::iter::once(request(1, &block)))
}

/// Settings without end.
pub(super) fn oversized_frame() -> Vec<u8> {
    with_hello(std::iter::once(frame(0, 0, 1, &vec![0; 1 << 20])))
}

/// Pings without end, of which no answer is read.
pub(super) fn ping() -> Vec<u8> {
    frame(6, 0, 0, &[7; 8])
}

/// Answers pings and opens no window, until the server ends the connection; how many pings there were.
pub(super) async fn stay_alive(mut socket: TcpStream) -> usize {
    let mut pings = 0;
    let mut head = [0; 9];
    while socket.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if socket.read_exact(&mut payload).await.is_err() {
            break;
        }
        if head[3] == 6 && head[4] & 1 == 0 {
            pings += 1;
            if socket.write_all(&frame(6, 1, 0, &payload)).await.is_err() {
                break;
            }
        }
    }
    pings
}
