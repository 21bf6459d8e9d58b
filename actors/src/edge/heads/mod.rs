//! The heads of messages: what is read of them, and what the router itself and the filters of routes make of them.
//!
//! Filters may also leave nothing to a backend; the answers that they then give are made here.

pub(super) mod detach;
mod early_answer;
mod headers;
pub(super) mod response_filters;

pub(super) use early_answer::{made, preflight, redirect};
pub(super) use headers::{Edited, Received, decoded, purge, set_forwarded, text};
