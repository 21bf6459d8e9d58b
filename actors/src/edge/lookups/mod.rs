//! What is found out before an endpoint is picked: which engine has a response, which Pods hold a prompt.
//!
//! Engines and Redis are asked for that; what is known of a prompt's tokens is known without asking anybody.

mod holders;
mod shared_cache;
pub(super) mod tokens;

pub(super) use holders::{Holder, Lookups};
pub(super) use shared_cache::SharedCache;
