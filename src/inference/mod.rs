//! What the router knows of inference: the API's paths and bodies, the engines' metrics, the choice of an endpoint.

pub mod api;
pub mod exposition;
pub mod health;
pub mod model_names;
pub mod model_rewrite;
pub mod objective;
pub mod picker;
pub mod pool;
pub mod request;
pub mod scheduling;
pub mod usage;
