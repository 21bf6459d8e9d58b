//! The decisions of kthena-router, an inference router for Kubernetes: a pure library.
//!
//! ```text
//!  objects ──> World ──plan()──> Plan { table, binds, pools, reports } ──Upkeep::writes()──> Writes
//!                                   │
//!  request ──> RequestHead ─────────┴─ RouteTable::decide() ──> Forward ──> Picker::pick() ──> Candidate
//! ```
//!
//! Nothing here knows a clock, a source of randomness, a socket or an actor: times, random draws and bytes are passed in,
//! values come out. Everything that acts on them is in the crate `kthena-router-actors`.

pub mod config;
#[cfg(test)]
mod fixtures;
pub mod gateway;
pub mod inference;
pub mod kinds;
pub mod manifest;
pub mod native;
pub mod object;
pub mod plan;
pub mod routing;
pub mod selector;
pub mod upkeep;
pub mod world;
