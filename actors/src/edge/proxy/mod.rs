//! The request path: from a request's head to the last byte of its answer, on one worker thread.
//!
//! `handle` and `find_way` are the only files that know the order of the steps. Values that several steps share are
//! below them, `call` and `way`; what the steps stand on is in the other rooms of `edge`, which know nothing of them.

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
mod understand;
mod way;
mod worker;

pub use service::InferenceService;
pub use worker::{Door, Serving, Worker};
