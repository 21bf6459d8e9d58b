//! Pools: what is known of endpoints, and which of them serves a request.

pub mod kv_events;
pub mod lease;
pub mod load;
pub mod meters;
pub mod pool_keeper;
pub mod published;
pub(crate) mod redis_link;
pub mod scheduler;
pub mod scraper;
pub mod throughput;
pub mod turnstile;
