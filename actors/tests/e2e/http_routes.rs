//! HTTPRoutes as clients see them: the traffic tables of the Gateway API's conformance tests, on loopback.

pub(crate) mod backends;
mod bodies;
mod cors;
mod faults;
mod filters;
mod hostnames;
mod https;
mod matches;
mod models;
mod paths;
mod redirects;
mod retries;
pub(crate) mod scene;
mod tunnels;
