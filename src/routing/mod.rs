//! From a request's head to a pool.

pub mod admission;
pub mod backend;
pub mod connections;
pub mod contender;
pub mod contenders;
pub mod data_parallel;
pub mod decision;
pub mod disaggregation;
pub mod host_index;
pub mod http;
pub mod kv_events;
pub mod model_list;
pub mod models;
pub mod pool;
pub mod priority;
pub mod response_holders;
pub mod retry;
pub mod session;
pub mod table;
mod text_matcher;
pub mod time_limits;
pub mod told;
