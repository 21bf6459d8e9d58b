//! Prefers the endpoint with the fewest requests to work on.
//!
//! Score: `1 - load / highest load`, and 1 for all when none has any; the load is [`Candidate::load`].

use crate::scheduling::endpoint::{Candidate, PoolFacts};
use crate::scheduling::picker::Score;
use crate::scheduling::request::PickRequest;

/// The least-request score.
pub struct LeastRequest;

impl Score for LeastRequest {
    fn name(&self) -> &'static str {
        "least-request"
    }

    #[expect(clippy::cast_precision_loss, reason = "loads are far below 2^24")]
    fn rate(&self, _: &PickRequest<'_>, _: &PoolFacts, candidates: &[Candidate<'_>], rates: &mut [f32]) {
        let highest = candidates.iter().map(Candidate::load).max().unwrap_or(0).max(1) as f32;
        for (candidate, rate) in candidates.iter().zip(rates) {
            *rate = 1.0 - candidate.load() as f32 / highest;
        }
    }
}
