//! The edge: sockets, certificates, and the way of requests to the endpoints that serve them.

mod answers;
mod attempts;
mod backends;
mod bodies;
mod errors;
mod exchange;
pub mod ext_proc;
mod heads;
mod limits;
pub mod listener;
mod lookups;
pub mod proxy;
pub mod tls;
pub mod workers;
