//! Keeps endpoints that are not ejected.
//!
//! No configuration names it: it is the first filter of every picker, and gives way when every endpoint is ejected.

use crate::scheduling::endpoint::{Candidate, PoolFacts};
use crate::scheduling::picker::Filter;
use crate::scheduling::request::PickRequest;

/// The filter of endpoints that are not ejected.
pub struct Serving;

impl Filter for Serving {
    fn name(&self) -> &'static str {
        "serving"
    }

    fn keeps(&self, _: &PickRequest<'_>, _: &PoolFacts, candidate: &Candidate<'_>) -> bool {
        candidate.observation.standing.admits(candidate.in_flight)
    }
}
