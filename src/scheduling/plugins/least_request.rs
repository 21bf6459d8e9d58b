//! Prefers the endpoint with the fewest requests to work on, and passes over those with long queues.
//!
//! Score: `1 - load / highest load`, and 1 for all when none has any; the load is [`Candidate::load`].
//! Filter: keeps endpoints whose engine has fewer than `maxWaitingRequests` that wait, 10 unless given.

use super::arguments::{Arguments, BadArgument};
use crate::scheduling::endpoint::{Candidate, PoolFacts};
use crate::scheduling::picker::{Filter, Score};
use crate::scheduling::request::PickRequest;

/// What waits at most, unless the configuration says otherwise.
const MOST_WAITING: u32 = 10;

/// The least-request score.
pub struct LeastRequest;

/// The least-request filter.
pub struct FewWaiting {
    most: u32,
}

impl LeastRequest {
    /// Makes it. The argument of the filter of the same name is the filter's.
    ///
    /// # Errors
    ///
    /// Returns a [`BadArgument`] if that one cannot be used.
    pub fn of(arguments: &mut Arguments) -> Result<Self, BadArgument> {
        FewWaiting::of(arguments).map(|_| Self)
    }
}

impl FewWaiting {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// Returns a [`BadArgument`] for a number that is not above 0.
    pub fn of(arguments: &mut Arguments) -> Result<Self, BadArgument> {
        Ok(Self { most: arguments.count("maxWaitingRequests", MOST_WAITING)? })
    }
}

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

impl Filter for FewWaiting {
    fn name(&self) -> &'static str {
        "least-request"
    }

    fn keeps(&self, _: &PickRequest<'_>, _: &PoolFacts, candidate: &Candidate<'_>) -> bool {
        candidate.observation.metrics.is_none_or(|metrics| metrics.waiting < self.most)
    }
}
