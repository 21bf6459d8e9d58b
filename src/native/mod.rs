//! The native API: ModelRoutes and ModelServers.

pub mod route;
