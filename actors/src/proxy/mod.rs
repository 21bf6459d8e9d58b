//! The request path: from a request's head to the last byte of its answer, on one worker thread.

mod access_log;
mod answer;
mod body;
mod error;
mod exchange;
mod forward;
mod handle;
mod headers;
mod http_route;
mod models;
mod native;
mod series;
mod tunnel;
mod wellformed;
mod worker;

pub use error::ProxyError;
pub use handle::{handle, refuse};
pub use wellformed::Malformed;
pub use worker::{Door, Serving, Worker};
