//! Keeps endpoints that can serve the LoRA adapter that a request names.
//!
//! An endpoint that has not told which adapters it serves is kept: if it does not know the adapter it says so, and the
//! request goes to another one (`pool::retry`). The filter gives way when it would leave none.

use crate::scheduling::endpoint::{Candidate, PoolFacts};
use crate::scheduling::picker::Filter;
use crate::scheduling::request::PickRequest;

/// The lora-affinity filter.
pub struct LoraAffinity;

impl Filter for LoraAffinity {
    fn name(&self) -> &'static str {
        "lora-affinity"
    }

    fn keeps(&self, request: &PickRequest<'_>, _: &PoolFacts, candidate: &Candidate<'_>) -> bool {
        let adapters = candidate.observation.adapters.as_deref();
        request.adapter.is_none_or(|adapter| adapters.is_none_or(|adapters| adapters.serves(adapter)))
    }
}
