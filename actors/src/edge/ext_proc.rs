//! Asks endpoint pickers in the cluster where requests go.
//!
//! Source: Inference Extension, endpoint picker protocol 1.0: Envoy's `ext_proc` over gRPC, with this router in the
//! place of Envoy. The picker is told of a request's headers and body, decides, and is told in the end which endpoint
//! has answered; the stream stays open for as long as the answer does, so that the picker knows what is in flight. The
//! bodies of answers are not shown to it.

mod channels;
mod consultation;
mod edits;
mod fault;
mod gathering;
pub mod messages;
mod translation;

pub(crate) use channels::Channels;
pub(crate) use consultation::{Consultation, Question, Served};
pub(crate) use edits::apply;
pub use fault::Fault;
pub(crate) use gathering::Verdict;
pub(crate) use translation::{headers, response};
