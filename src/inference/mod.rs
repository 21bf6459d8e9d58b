//! What the router knows of inference: the API's paths and bodies, the engines' metrics and health.

pub mod adapters;
pub mod api;
pub mod coding;
pub mod disaggregation;
pub mod error_body;
pub mod exposition;
mod field_values;
pub mod form;
pub mod health;
pub mod heartbeat;
pub mod kv_events;
pub mod management;
pub mod model_names;
pub mod model_rewrite;
pub mod model_watch;
mod parameters;
pub mod prompt;
mod query;
pub mod request;
pub mod response_id;
pub mod tap;
pub mod understood;
pub mod usage;
