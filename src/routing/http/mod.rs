//! Stub.
pub mod route;
