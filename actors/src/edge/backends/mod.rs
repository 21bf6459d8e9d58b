//! Backends, and requests as they leave for them: the one place that sends a client's request.
//!
//! A request is changed here as the filters of its route say, and its body stays as far as somebody else may get it.

mod backend;
mod outbound;

pub(super) use backend::{Backend, To};
pub(super) use outbound::Outbound;
