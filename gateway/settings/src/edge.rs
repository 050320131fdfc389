//! `[edge]`: what one connection may take of the gateway before anybody knows who it is.

use serde::{Deserialize, Serialize};

/// `[edge]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Edge {
    /// Connections that may be open at once; fewer where the process may not have as many files.
    pub connections: usize,
    /// Connections that may be open at once from one address (of IPv6: one /64); 0 for no bound of its own, as behind a proxy
    /// from which all callers come.
    pub connections_per_address: usize,
    /// Bytes that the head of a request may have: request line and headers. At least 8192.
    pub head_bytes: usize,
    /// Headers that a request may have.
    pub headers: usize,
    /// Seconds that the head of a request may take, and that a connection may be idle before the next.
    pub head_sec: u64,
    /// Seconds that a body may take, besides those that `body_bytes_per_sec` allows for what came of it.
    pub body_sec: u64,
    /// Bytes of a body that must come in a second, in the long run.
    pub body_bytes_per_sec: u64,
    /// Seconds that a reader may take nothing of an answer that waits for it.
    pub stall_sec: u64,
    /// Requests that one HTTP/2 connection may have open at once.
    pub streams: u32,
}

impl Default for Edge {
    fn default() -> Self {
        Self {
            connections: 8_192,
            connections_per_address: 2_048,
            head_bytes: 32 << 10,
            headers: 64,
            head_sec: 20,
            body_sec: 10,
            body_bytes_per_sec: 16 << 10,
            stall_sec: 30,
            streams: 100,
        }
    }
}
