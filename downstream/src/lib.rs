//! The HTTP server that faces the router's clients.
//!
//! Clients are strangers: each connection is bounded in time, bytes and turns on its thread, whatever it sends, and says
//! what it is about in one way only.
//!
//! # Decision: HTTP/1 by hyper, HTTP/2 by h2
//!
//! - **HTTP/1 is read and written by hyper 1.** It serves one request at a time, so that each has its own framing; its
//!   connection is a future without spawned tasks, and its service need not be `Send`. A codec of the house would be the part
//!   that hostile bytes meet first, and hyper's is read by many. What it leaves to its user is here: time, turns, memory,
//!   lingering, refusals, and protocol changes on connections that stay on their thread.
//! - **HTTP/2 is h2 0.4 itself, from 0.4.20 on**: windows, resets, GOAWAY and the order of work are decided per stream. The
//!   version bounds empty and small DATA frames (0.4.16), credits padding (0.4.14) and refuses lengths that differ (0.4.20).
//! - While a request of HTTP/1 waits for long, its connection has no hyper: its buffers are most of what such a connection takes.
//! - One thing is left to hyper: where a client's offer to change the protocol was not taken up, and what it sends next is
//!   malformed, the end of the last answer may be lost when the client reads slowly.
//! - hyper 1.12 needs care in three places, each with a test or a round of `examples/fuzz_requests` that finds it: with vectored
//!   writes its 400 stands in front of the rest of the answer before it; where an earlier request has asked to change the
//!   protocol it does not wait for its last bytes; and it takes a `Content-Length` beside chunks out without a word.

mod answer;
mod budget;
mod clock;
mod connection;
mod head;
mod http1;
mod http2;
mod incoming;
mod limits;
mod linger;
mod progress;
mod rest;
mod server;
mod service;
mod stream;
mod tls;
mod upgraded;

pub use budget::{Budget, Charge, Exhausted};
pub use connection::Connection;
pub use incoming::{Incoming, ReadError, Upgrade};
pub use limits::Limits;
pub use server::Server;
pub use service::{BoxError, Refusal, Refused, Service};
pub use tls::{ChooseTls, Chosen, Tls, TlsIdentity};
pub use tokio_util::sync::CancellationToken;
pub use upgraded::Upgraded;
