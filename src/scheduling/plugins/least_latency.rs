//! Prefers the endpoint that was fastest between the last two scrapes.
//!
//! Score: `w x least TTFT / TTFT + (1 - w) x least TPOT / TPOT` with `w = TTFTTPOTWeightFactor`, 0.5 unless given. It compares
//! proportions, so that small differences stay small. An endpoint without requests between the scrapes is neutral: who was
//! slow once gets another chance.

use super::arguments::{Arguments, BadArgument};
use crate::scheduling::endpoint::{Candidate, Observation, PoolFacts};
use crate::scheduling::picker::{NEUTRAL, Score};
use crate::scheduling::request::PickRequest;

/// The least-latency score.
pub struct LeastLatency {
    weight: f64,
}

impl LeastLatency {
    /// Makes it.
    ///
    /// # Errors
    ///
    /// Returns a [`BadArgument`] for a factor that is not between 0 and 1.
    pub fn of(arguments: &mut Arguments) -> Result<Self, BadArgument> {
        Ok(Self { weight: arguments.part("TTFTTPOTWeightFactor", 0.5)? })
    }
}

impl Score for LeastLatency {
    fn name(&self) -> &'static str {
        "least-latency"
    }

    #[expect(clippy::cast_possible_truncation, reason = "a rate needs no more than seven digits")]
    fn rate(&self, _: &PickRequest<'_>, _: &PoolFacts, candidates: &[Candidate<'_>], rates: &mut [f32]) {
        let first = Least::of(candidates, |observation| observation.first_token);
        let inter = Least::of(candidates, |observation| observation.inter_token);
        for (candidate, rate) in candidates.iter().zip(rates) {
            let observation = candidate.observation;
            *rate = (self.weight * first.rate(observation) + (1.0 - self.weight) * inter.rate(observation)) as f32;
        }
    }
}

/// The least of a figure among candidates.
struct Least<F> {
    figure: F,
    least: f64,
}

impl<F: Fn(&Observation) -> Option<f64>> Least<F> {
    fn of(candidates: &[Candidate<'_>], figure: F) -> Self {
        let least =
            candidates.iter().filter_map(|candidate| figure(candidate.observation)).fold(f64::INFINITY, f64::min);
        Self { figure, least }
    }

    fn rate(&self, observation: &Observation) -> f64 {
        match (self.figure)(observation) {
            Some(value) if value > 0.0 => self.least / value,
            Some(_) => 1.0,
            None => f64::from(NEUTRAL),
        }
    }
}
