//! The bodies of requests: read into memory, within the budget and up to a limit, decoded, or passed on as they arrive.
//!
//! One that passes unread is looked through, where its model or a form's is to be known.

mod body;
mod decoding;
mod forms;
mod gzip;
mod segments;

pub(super) use body::{Inbound, fault};
pub(super) use forms::replace;
