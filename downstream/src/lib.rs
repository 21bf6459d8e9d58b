//! The HTTP server that faces the router's clients.
//!
//! Clients are strangers: each connection is bounded in time, bytes and turns on its thread, whatever it sends, and says
//! what it is about in one way only.
//!
//! # Decision: HTTP/1 of the house, HTTP/2 by h2
//!
//! - **HTTP/1 is read and written here**; why, and what it cost and gained, says docs/decisions/0012-http1-of-the-house.md.
//!   httparse parses heads; what frames messages is shared with the client (`kthena-router-wire`).
//! - **HTTP/2 is h2 0.4 itself, from 0.4.20 on**: windows, resets, GOAWAY and the order of work are decided per stream. The
//!   version bounds empty and small DATA frames (0.4.16), credits padding (0.4.14) and refuses lengths that differ (0.4.20).

mod answers;
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
