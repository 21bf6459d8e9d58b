//! Keeps endpoints that are neither ejected nor asleep.
//!
//! No configuration names it: it is the first filter of every picker, and gives way when it would keep no endpoint.

use crate::scheduling::endpoint::{Candidate, PoolFacts};
use crate::scheduling::picker::Filter;
use crate::scheduling::request::PickRequest;

/// The filter of endpoints that are neither ejected nor asleep.
pub struct Serving;

impl Filter for Serving {
    fn name(&self) -> &'static str {
        "serving"
    }

    fn keeps(&self, _: &PickRequest<'_>, _: &PoolFacts, candidate: &Candidate<'_>) -> bool {
        let is_asleep = candidate.observation.metrics.is_some_and(|metrics| metrics.is_asleep);
        candidate.observation.standing.admits(candidate.in_flight) && !is_asleep
    }
}
