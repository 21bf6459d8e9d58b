//! From a request's head to a pool.

pub mod backend;
pub mod contender;
pub mod contenders;
pub mod decision;
pub mod host_index;
pub mod http;
pub mod model_list;
pub mod models;
pub mod priority;
pub mod table;
mod text_matcher;
