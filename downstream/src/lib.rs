//! The HTTP server that faces the router's clients.
//!
//! Clients are strangers: each connection is bounded in time, bytes and turns on its thread, whatever it sends, and says
//! what it is about in one way only.

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
