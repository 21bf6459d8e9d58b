//! The router as its users meet it: real sockets on loopback, simulated engines, manifests in a directory,
//! or objects of a cluster whose API server is a fake.
//!
//! Each test has a network of its own, `127.p.n.0/24`, so that all of them run at once with the ports that users see.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod api_server;
mod black_holes;
mod calls;
mod capacity;
mod changes;
mod checks;
mod cluster;
mod codings;
mod disaggregation;
mod disturbances;
mod edge;
mod explanations;
mod failover;
mod failures;
mod field_cases;
mod flow;
mod harness;
mod hints;
mod http2;
mod http_routes;
mod inference_pools;
mod kv_events;
mod kvcache_aware;
mod limits;
mod messages;
mod model_cors;
mod one_road;
mod pages;
mod pickers;
mod process;
mod profiles;
mod rate_limits;
mod redis_cluster;
mod redis_server;
mod responses;
mod routing;
mod scaler;
mod scrapes;
mod signals;
mod static_endpoints;
mod streaming;
mod timeouts;
mod wire;
