//! The decisions of kthena-router, an inference router for Kubernetes: a pure library.
//!
//! ```text
//!  objects ──> World ──plan()──> Plan { table, binds, pools, reports } ──Reconciler::writes()──> Writes
//!                                   │
//!  request ──> RequestHead ─────────┴─ RouteTable::decide() ──> Forward ──> Picker::pick() ──> Legs
//! ```
//!
//! Nothing here knows a clock, a source of randomness, a socket or an actor: times, random draws and bytes are passed in,
//! values come out. Everything that acts on them is in the crate `kthena-router-actors`.

pub mod addresses;
pub mod advice;
pub mod certificate;
pub mod conditions;
pub mod config;
pub mod controller;
pub mod desired;
pub mod explain;
#[cfg(test)]
mod fixtures;
pub mod flow;
pub mod gateway;
pub mod hostname;
pub mod inference;
pub mod kinds;
pub mod manifest;
pub mod object;
pub mod plan;
pub mod pool;
pub mod rate_limit;
pub mod record;
pub mod request_head;
pub mod routing;
pub mod scheduling;
pub mod selector;
pub mod world;
