//! The request path: from a request's head to the last byte of its answer, on one worker thread.
//!
//! `handle` is the only file that knows the order of the steps. Values that several steps share are below them:
//! `call`, `way`.

mod call;
mod deliver;
mod early_answer;
mod find_way;
mod handle;
mod hint;
mod holder;
mod inference;
mod mirrors;
mod models;
mod pick;
mod service;
mod turn;
mod way;
mod worker;

pub use service::InferenceService;
pub use worker::{Door, Serving, Worker};
