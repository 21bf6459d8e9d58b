//! What is said of requests at their end: in metrics, and in a line of the access log.

pub(crate) mod access_log;
pub(crate) mod decisions;
pub(crate) mod facts;
mod log_fields;
pub(crate) mod names;
pub(crate) mod observer;
pub(crate) mod series;
