//! The native API: ModelRoutes and ModelServers.

pub mod attach;
pub mod route;
