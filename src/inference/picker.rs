//! The choice of one endpoint of a pool: filters narrow the candidates, scores rate them, the best one wins.
//!
//! A score lies between 0 (worst) and 1 (best); the scores of an endpoint are added up by their weights. Endpoints that
//! are equally good share the traffic at random, because a fixed order would send all of it to one of them whenever
//! the pool is idle.

use rand::{Rng, RngExt};
use thiserror::Error;

use super::pool::Candidate;

pub mod least_request;

/// Removes candidates that must not serve a request.
pub trait Filter: Send {
    /// The filter's name in errors and metrics.
    fn name(&self) -> &'static str;
    /// Returns whether the candidate may serve.
    fn keeps(&self, candidate: &Candidate<'_>) -> bool;
    /// Returns whether the filter gives way when it would leave no candidate.
    fn is_preference(&self) -> bool;
}

/// Rates candidates against each other.
pub trait Score: Send {
    /// The score's name in metrics.
    fn name(&self) -> &'static str;
    /// Adds `weight` times each candidate's score, 0 to 1, to its total; both slices have the same length.
    fn add(&self, candidates: &[Candidate<'_>], weight: f32, totals: &mut [f32]);
}

/// Why no endpoint was picked.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PickError {
    /// The pool has no endpoint.
    #[error("no endpoint is ready")]
    NoEndpoints,
    /// Every endpoint failed this request already.
    #[error("every ready endpoint was tried")]
    AllTried,
    /// A filter removed the last candidate.
    #[error("the filter `{filter}` removed every endpoint")]
    Filtered {
        /// The filter's name.
        filter: &'static str,
    },
}

/// The filters and scores that a scheduler applies, in order.
pub struct Picker {
    filters: Vec<Box<dyn Filter>>,
    scores: Vec<(Box<dyn Score>, f32)>,
}

/// Keeps endpoints that are not ejected, as long as there is one.
struct Serving;

impl Picker {
    /// Makes a picker of scores with their weights, which must not be negative.
    ///
    /// Endpoints that are ejected are always a last resort.
    pub fn new(scores: Vec<(Box<dyn Score>, f32)>) -> Self {
        Self { filters: vec![Box::new(Serving)], scores }
    }

    /// Picks one of `candidates` that was not tried yet; `candidates` is left with those that were in the final round.
    ///
    /// # Errors
    ///
    /// Returns a [`PickError`] when no candidate is left.
    pub fn pick<'e>(
        &self,
        candidates: &mut Vec<Candidate<'e>>,
        rng: &mut impl Rng,
    ) -> Result<Candidate<'e>, PickError> {
        if candidates.is_empty() {
            return Err(PickError::NoEndpoints);
        }
        candidates.retain(|candidate| !candidate.tried);
        if candidates.is_empty() {
            return Err(PickError::AllTried);
        }
        for filter in &self.filters {
            narrow(filter.as_ref(), candidates)?;
        }
        let mut totals = vec![0.0; candidates.len()];
        for (score, weight) in &self.scores {
            score.add(candidates, *weight, &mut totals);
        }
        Ok(candidates[best(&totals, rng)])
    }
}

impl Filter for Serving {
    fn name(&self) -> &'static str {
        "serving"
    }

    fn keeps(&self, candidate: &Candidate<'_>) -> bool {
        candidate.observation.standing.admits(candidate.in_flight)
    }

    fn is_preference(&self) -> bool {
        true
    }
}

fn narrow(filter: &dyn Filter, candidates: &mut Vec<Candidate<'_>>) -> Result<(), PickError> {
    if candidates.iter().any(|candidate| filter.keeps(candidate)) {
        candidates.retain(|candidate| filter.keeps(candidate));
        Ok(())
    } else if filter.is_preference() {
        Ok(())
    } else {
        Err(PickError::Filtered { filter: filter.name() })
    }
}

/// Returns the place of the highest total; among equal ones each is as likely as the others (reservoir sampling).
fn best(totals: &[f32], rng: &mut impl Rng) -> usize {
    let mut best = 0;
    let mut ties = 1_u32;
    for (position, total) in totals.iter().enumerate().skip(1) {
        if *total > totals[best] {
            best = position;
            ties = 1;
        } else if *total == totals[best] {
            ties += 1;
            if rng.random_range(0..ties) == 0 {
                best = position;
            }
        }
    }
    best
}

#[cfg(test)]
mod tests;
