//! What clients are allowed.

use std::time::Duration;

/// What one connection of a client, and one request, may cost.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes of a request's head. In HTTP/2 each field counts 32 bytes more (RFC 9113, section 6.5.2).
    pub head_bytes: usize,
    /// Fields of a request's head. More than 128 are never read from HTTP/1, which has room for so many on its stack.
    pub head_fields: usize,
    /// Time in which a client must do its TLS handshake, and send a request's head from its first byte to its last.
    pub head_time: Duration,
    /// Time that a connection may stay open between two requests.
    pub keep_alive: Duration,
    /// The longest pause between two pieces of a request's body, from when the next is wanted.
    pub body_pause: Duration,
    /// The longest time in which nothing of an answer that is ready can be sent.
    pub write_stall: Duration,
    /// Time that a client which is still sending when it has its answer gets to find that answer.
    pub linger_time: Duration,
    /// Bytes that are read in this time, and thrown away.
    pub linger_bytes: usize,
    /// Requests that an HTTP/2 connection may have in flight.
    pub streams: u32,
    /// Bytes of a request's body that an HTTP/2 client may send ahead.
    pub stream_window: u32,
    /// Bytes of all request bodies of an HTTP/2 connection that its client may send ahead.
    pub connection_window: u32,
    /// Bytes that all requests of a connection may hold together.
    pub connection_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            head_bytes: 128 << 10,
            head_fields: 96,
            head_time: Duration::from_secs(30),
            keep_alive: Duration::from_secs(75),
            body_pause: Duration::from_secs(30),
            write_stall: Duration::from_secs(30),
            linger_time: Duration::from_secs(10),
            linger_bytes: 256 << 20,
            streams: 256,
            stream_window: 128 << 10,
            connection_window: 8 << 20,
            connection_bytes: 256 << 20,
        }
    }
}
