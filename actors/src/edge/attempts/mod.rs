//! One attempt to have a request answered, by one endpoint or by a pair of which one computes the prompt.
//!
//! What came of it is told, and what follows is not decided here.

mod engine_ids;
mod first_token;
pub(super) mod legs;

pub(super) use engine_ids::EngineIds;
pub(super) use first_token::FirstToken;
