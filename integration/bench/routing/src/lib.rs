//! A proving ground for routing policies: simulated engines, workloads and rivals, in virtual time or behind HTTP.
//!
//! The router's own picker and ledgers decide, the same code as in production; only engines and clients are models. A run
//! is a pure function of its seed.

pub mod cache;
pub mod engine;
pub mod fleet;
pub mod governed;
pub mod jobs;
pub mod policies;
pub mod report;
pub mod served;
pub mod slots;
pub mod trace;
pub mod workloads;
