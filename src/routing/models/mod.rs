//! ModelRoutes: which one serves a model, and where it sends the requests.

mod contenders;
pub mod entry;
pub mod route;
pub mod table;
