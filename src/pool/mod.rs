//! How a pool's requests are treated, and what routing asks of a pool: what a ModelServer's `trafficPolicy` says, and its
//! like of InferencePools and Services.

pub mod availability;
pub mod connections;
pub mod data_parallel;
pub mod disaggregation;
pub mod kv_events;
pub mod model_server;
pub mod policy;
pub mod response_holders;
pub mod retry;
pub mod session;
pub mod time_limits;
pub mod told;
