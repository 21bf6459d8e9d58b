//! The server, as its clients see it: over pipes in memory, and over loopback where sockets matter.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod broken;
mod closing;
mod fairness;
mod frames;
mod http1;
mod http2;
mod memory;
mod site;
mod time;
mod tls;
mod waiting;
