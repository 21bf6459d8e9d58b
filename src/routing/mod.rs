//! From a request's head to a pool.

pub mod backend;
pub mod http;
pub mod request;
pub mod table;
