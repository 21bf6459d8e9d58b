//! Prefers the endpoint whose cache holds most of the prompt.
//!
//! Score: `cached tokens / tokens of the prompt`; neutral for a request without a prompt. The Go router's arguments are
//! checked and have no effect: the table of each endpoint has its own bounds (docs/scheduling.md).

use super::arguments::{Arguments, BadArgument};
use crate::scheduling::endpoint::{Candidate, PoolFacts};
use crate::scheduling::picker::Score;
use crate::scheduling::request::PickRequest;

/// The prefix-cache score.
pub struct PrefixCache;

impl PrefixCache {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// Returns a [`BadArgument`] for a number that is not above 0.
    pub fn of(arguments: &mut Arguments) -> Result<Self, BadArgument> {
        for name in ["blockSizeToHash", "maxBlocksToMatch", "maxHashCacheSize", "topKMatches"] {
            arguments.count(name, 1)?;
        }
        Ok(Self)
    }
}

impl Score for PrefixCache {
    fn name(&self) -> &'static str {
        "prefix-cache"
    }

    #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than seven digits")]
    fn rate(&self, request: &PickRequest<'_>, _: &PoolFacts, candidates: &[Candidate<'_>], rates: &mut [f32]) {
        if request.tokens == 0 {
            return;
        }
        for (candidate, rate) in candidates.iter().zip(rates) {
            *rate = (candidate.cached as f32 / request.tokens as f32).min(1.0);
        }
    }
}
