//! Prefers the endpoint whose answer is expected to end first, by what it has shown.
//!
//! ```text
//! latency = (backlog + uncached) / rate + answerTokens x time per token        score = least latency / latency
//! time per token = fresh x what the last scrape showed + (1 - fresh) x the least of the pool
//! fresh = 5 s / (5 s + age of the scrape)
//! ```
//!
//! - `backlog`, `uncached` and `rate` are those of [`expected_wait`](super::expected_wait): the rate is measured by the time
//!   to the first token of answers, and where little is known, it is the pool's.
//! - `time per token` is the mean between the last two scrapes. It fades, and an endpoint that had no requests between them
//!   counts as the best: whoever was slow gets another chance, and who is new is tried.
//! - `answerTokens`, 256 unless given: how long answers are; nobody knows before they end.
//!
//! It helps where engines write at different speeds: unlike accelerators, or some that answer long batches. The default
//! has no part of it: where engines are alike, it follows a figure that is a scrape old, and several routers follow it at once.

use std::time::Duration;

use super::arguments::{Arguments, BadArgument};
use super::expected_wait::{mean_pace, rate_of};
use crate::scheduling::endpoint::{Candidate, PoolFacts};
use crate::scheduling::picker::Score;
use crate::scheduling::request::PickRequest;

/// The age at which what a scrape showed counts half.
const HALF: Duration = Duration::from_secs(5);
/// The length of an answer of which nobody knows how long it is.
const ANSWER_TOKENS: u16 = 256;
/// Seconds that are added to every latency, so that tiny differences between idle endpoints do not look large.
const FLOOR: f32 = 0.001;

/// The predicted-latency score.
pub struct PredictedLatency {
    answer_tokens: f32,
}

impl Default for PredictedLatency {
    fn default() -> Self {
        Self { answer_tokens: ANSWER_TOKENS.into() }
    }
}

impl PredictedLatency {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// Returns a [`BadArgument`] for a number of tokens that is not a whole number above 0.
    #[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than seven digits")]
    pub fn of(arguments: &mut Arguments) -> Result<Self, BadArgument> {
        Ok(Self { answer_tokens: arguments.count("answerTokens", ANSWER_TOKENS.into())? as f32 })
    }
}

impl Score for PredictedLatency {
    fn name(&self) -> &'static str {
        "predicted-latency"
    }

    fn rate(&self, request: &PickRequest<'_>, pool: &PoolFacts, candidates: &[Candidate<'_>], rates: &mut [f32]) {
        let mean = mean_pace(candidates);
        let fastest = candidates.iter().filter_map(shown).fold(f32::INFINITY, f32::min);
        let fastest = if fastest.is_finite() { fastest } else { 0.0 };
        let mut least = f32::INFINITY;
        for (candidate, rate) in candidates.iter().zip(rates.iter_mut()) {
            let prompt = prompt_tokens(request, candidate) / rate_of(candidate, mean, pool.is_shared);
            *rate = FLOOR + prompt + self.answer_tokens * time_per_token(pool, candidate, fastest);
            least = least.min(*rate);
        }
        for rate in rates {
            *rate = least / *rate;
        }
    }
}

/// Returns how many prompt tokens an endpoint has to compute before the answer begins.
#[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than seven digits")]
fn prompt_tokens(request: &PickRequest<'_>, candidate: &Candidate<'_>) -> f32 {
    candidate.ledger.backlog() as f32 + candidate.uncached(request) as f32
}

/// Returns the seconds between two tokens that the last scrape showed.
#[expect(clippy::cast_possible_truncation, reason = "an estimate needs no more than seven digits")]
fn shown(candidate: &Candidate<'_>) -> Option<f32> {
    candidate.observation.inter_token.map(|seconds| seconds as f32)
}

/// Returns the seconds between two tokens that are to be expected.
fn time_per_token(pool: &PoolFacts, candidate: &Candidate<'_>, fastest: f32) -> f32 {
    let Some((shown, scraped)) = shown(candidate).zip(candidate.observation.scraped) else { return fastest };
    let age = pool.now.saturating_duration_since(scraped);
    let fresh = HALF.as_secs_f32() / (HALF + age).as_secs_f32();
    fastest + fresh * (shown - fastest)
}
