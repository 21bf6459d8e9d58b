//! What people and machines learn of the router while it runs: pages, metrics, logs.

pub mod access_logger;
pub mod admin;
pub mod metrics;
pub mod observe;
pub(crate) mod requests;
pub mod telemetry;
pub mod vitals;
