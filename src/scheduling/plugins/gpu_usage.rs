//! Prefers the endpoint with the most room in its KV cache.
//!
//! Score: `1 - part of the cache that is in use`; neutral where the engine does not say.

use crate::scheduling::endpoint::{Candidate, PoolFacts};
use crate::scheduling::picker::Score;
use crate::scheduling::request::PickRequest;

/// The gpu-usage score.
pub struct GpuUsage;

impl Score for GpuUsage {
    fn name(&self) -> &'static str {
        "gpu-usage"
    }

    #[expect(clippy::cast_possible_truncation, reason = "a rate needs no more than seven digits")]
    fn rate(&self, _: &PickRequest<'_>, _: &PoolFacts, candidates: &[Candidate<'_>], rates: &mut [f32]) {
        for (candidate, rate) in candidates.iter().zip(rates) {
            if let Some(usage) = candidate.observation.metrics.and_then(|metrics| metrics.kv_cache_usage) {
                *rate = 1.0 - usage.clamp(0.0, 1.0) as f32;
            }
        }
    }
}
