//! The commands beside the router itself, for those who try it out or check their manifests.

pub mod check;
pub mod cli;
#[cfg(feature = "demo")]
pub mod demo;
#[cfg(feature = "demo")]
pub mod engine;
pub mod explain;
