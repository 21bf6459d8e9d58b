//! The request path: from a request's head to the last byte of its answer, on one worker thread.
//!
//! `handle` is the only file that knows the order of the steps. Values that several steps share are below them:
//! `exchange`, `call`, `outbound`, `held`, `reply`.

mod access_log;
mod admission;
mod answer;
mod backend;
mod body;
mod call;
mod deliver;
mod early_answer;
mod error;
mod exchange;
mod facts;
mod handle;
mod headers;
mod held;
mod inference;
mod log_fields;
mod mirrors;
mod models;
mod names;
mod observer;
mod outbound;
mod pick;
mod reply;
mod response_filters;
mod segments;
mod series;
mod service;
mod tunnel;
mod worker;

pub use error::ProxyError;
pub use service::InferenceService;
pub use worker::{Door, Serving, Worker};
