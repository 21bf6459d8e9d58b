//! The choice of an endpoint: filters narrow the candidates, scores rate them, the best one wins.
//!
//! A score lies between 0 (worst) and 1 (best); the scores of an endpoint are added up by their weights. Endpoints that
//! are equally good share the traffic at random, because a fixed order would send all of it to one of them whenever
//! the pool is idle.

use std::fmt;

use rand::{Rng, RngExt};
use thiserror::Error;

use super::endpoint::{Candidate, PoolFacts};
use super::plugins::kv_cache_source::KvCacheSource;
use super::plugins::kvcache_aware::KvcacheAware;
use super::plugins::remote_prefill::RemotePrefill;
use super::plugins::serving::Serving;
use super::plugins::session;
use super::request::PickRequest;
use super::witness::Witness;

/// The rate of a candidate of which a score has nothing to say.
pub const NEUTRAL: f32 = 0.5;

/// Removes candidates that should not serve a request.
pub trait Filter: Send + Sync {
    /// The filter's name in errors, metrics and explanations.
    fn name(&self) -> &'static str;
    /// Returns whether the candidate may serve the request.
    fn keeps(&self, request: &PickRequest<'_>, pool: &PoolFacts, candidate: &Candidate<'_>) -> bool;
}

/// Rates candidates against each other.
pub trait Score: Send + Sync {
    /// The score's name in metrics and explanations.
    fn name(&self) -> &'static str;
    /// Rates each candidate from 0 (worst) to 1 (best), in the order of `candidates`.
    ///
    /// Both slices have the same length. Every rate is [`NEUTRAL`] before, and stays so where the score has nothing to say.
    fn rate(&self, request: &PickRequest<'_>, pool: &PoolFacts, candidates: &[Candidate<'_>], rates: &mut [f32]);
}

/// What happens when a filter would leave no candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenNoneIsLeft {
    /// The filter gives way: it is a preference.
    KeepAll,
    /// No endpoint is picked.
    Refuse,
}

/// The endpoints that work on one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Legs<L> {
    /// One endpoint does all of it.
    One(L),
    /// Two endpoints do.
    Two {
        /// The one that computes the prompt.
        prefill: L,
        /// The one that answers.
        decode: L,
    },
}

impl<L> Legs<L> {
    /// Returns the one that answers.
    pub fn answering(&self) -> &L {
        match self {
            Self::One(leg) | Self::Two { decode: leg, .. } => leg,
        }
    }

    /// Returns the one that computes the prompt.
    pub fn computing(&self) -> &L {
        match self {
            Self::One(leg) | Self::Two { prefill: leg, .. } => leg,
        }
    }

    /// Returns the one that answers.
    pub fn into_answering(self) -> L {
        match self {
            Self::One(leg) | Self::Two { decode: leg, .. } => leg,
        }
    }
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
    /// No endpoint that answers has one that computes prompts for it, and it cannot do without.
    #[error("no endpoint that decodes has one that prefills for it")]
    NoPair,
    /// A filter removed the last candidate.
    #[error("the filter `{filter}` removed every endpoint")]
    Filtered {
        /// The filter's name.
        filter: &'static str,
    },
}

/// The filters and scores that a scheduler applies, in order. It remembers nothing, so that threads share it.
pub struct Picker {
    filters: Vec<(Box<dyn Filter>, WhenNoneIsLeft)>,
    scores: Vec<(Box<dyn Score>, f32)>,
    /// How blocks are looked up before a pick, if a score goes by what is found.
    lookups: Option<KvcacheAware>,
    /// When a prompt is computed by another endpoint than the one that answers.
    remote: RemotePrefill,
    /// When an endpoint is named from which another one can pull the beginning of a prompt.
    sources: Option<KvCacheSource>,
}

impl Picker {
    /// Makes a picker of filters, and of scores with their weights, which must not be negative.
    ///
    /// Endpoints that are ejected are always a last resort.
    pub fn new(filters: Vec<(Box<dyn Filter>, WhenNoneIsLeft)>, scores: Vec<(Box<dyn Score>, f32)>) -> Self {
        let serving: (Box<dyn Filter>, _) = (Box::new(Serving), WhenNoneIsLeft::KeepAll);
        Self {
            filters: std::iter::once(serving).chain(filters).collect(),
            scores,
            lookups: None,
            remote: RemotePrefill::default(),
            sources: None,
        }
    }

    /// Has blocks looked up before each pick, for the score kvcache-aware.
    #[must_use]
    pub fn with_lookups(self, lookups: Option<KvcacheAware>) -> Self {
        Self { lookups, ..self }
    }

    /// Decides in this way whether a prompt is computed by another endpoint than the one that answers.
    #[must_use]
    pub fn with_remote_prefill(self, remote: RemotePrefill) -> Self {
        Self { remote, ..self }
    }

    /// Names endpoints in this way from which others can pull.
    #[must_use]
    pub fn with_sources(self, sources: Option<KvCacheSource>) -> Self {
        Self { sources, ..self }
    }

    /// Returns whether [`source`](Self::source) ever names an endpoint.
    pub fn names_sources(&self) -> bool {
        self.sources.is_some()
    }

    /// Returns the endpoint among `all` from which the one that computes the prompt can pull its beginning, if that is worth it.
    pub fn source<'e>(
        &self,
        legs: &Legs<Candidate<'e>>,
        all: &[Candidate<'e>],
        witness: &mut impl Witness,
    ) -> Option<Candidate<'e>> {
        let source = self.sources?.find(legs.computing(), all)?;
        witness.pulls_from(source);
        Some(*source)
    }

    /// Returns how blocks are looked up before a pick, if they are.
    pub fn lookups(&self) -> Option<&KvcacheAware> {
        self.lookups.as_ref()
    }

    /// Picks among `candidates` those that work on the request; `candidates` is left with those that were in the final
    /// round. Whoever asks opens an entry in the [`Ledger`](super::ledger::Ledger) of what was picked, in the same step.
    ///
    /// # Errors
    ///
    /// Returns a [`PickError`] when no candidate is left.
    pub fn pick<'e>(
        &self,
        request: &PickRequest<'_>,
        pool: &PoolFacts,
        candidates: &mut Vec<Candidate<'e>>,
        rng: &mut impl Rng,
        witness: &mut impl Witness,
    ) -> Result<Legs<Candidate<'e>>, PickError> {
        if pool.has_roles {
            return self.pick_by_roles(request, pool, candidates, rng, witness);
        }
        self.narrow(request, pool, candidates, witness)?;
        if let Some(session) = request.session {
            keep_session(session, candidates, witness);
        }
        let totals = self.totals(request, pool, candidates, witness);
        let (best, ties) = best(&totals, rng);
        let picked = candidates[best];
        witness.picked(&picked, totals[best], ties);
        Ok(Legs::One(picked))
    }

    fn narrow(
        &self,
        request: &PickRequest<'_>,
        pool: &PoolFacts,
        candidates: &mut Vec<Candidate<'_>>,
        witness: &mut impl Witness,
    ) -> Result<(), PickError> {
        if candidates.is_empty() {
            return Err(PickError::NoEndpoints);
        }
        if !request.tried.is_empty() {
            let untried = |candidate: &Candidate<'_>| !request.tried.contains(&candidate.endpoint.socket());
            retain(candidates, "tried", untried, witness);
            if candidates.is_empty() {
                return Err(PickError::AllTried);
            }
        }
        for (filter, when_none_is_left) in &self.filters {
            witness.begins();
            let keeps = |candidate: &Candidate<'_>| filter.keeps(request, pool, candidate);
            match when_none_is_left {
                WhenNoneIsLeft::KeepAll if !candidates.iter().any(keeps) => witness.gave_way(filter.name()),
                WhenNoneIsLeft::KeepAll | WhenNoneIsLeft::Refuse => retain(candidates, filter.name(), keeps, witness),
            }
            witness.ended(filter.name(), "filter");
            if candidates.is_empty() {
                return Err(PickError::Filtered { filter: filter.name() });
            }
        }
        Ok(())
    }

    fn totals(
        &self,
        request: &PickRequest<'_>,
        pool: &PoolFacts,
        candidates: &[Candidate<'_>],
        witness: &mut impl Witness,
    ) -> Vec<f32> {
        // One piece of memory for both.
        let mut figures = vec![0.0; 2 * candidates.len()];
        let (totals, rates) = figures.split_at_mut(candidates.len());
        for (score, weight) in &self.scores {
            rates.fill(NEUTRAL);
            witness.begins();
            score.rate(request, pool, candidates, rates);
            witness.ended(score.name(), "score");
            for ((candidate, rate), total) in candidates.iter().zip(&*rates).zip(&mut *totals) {
                witness.rated(candidate, score.name(), *rate, *weight);
                *total += rate * weight;
            }
        }
        figures.truncate(candidates.len());
        figures
    }
}

impl Default for Picker {
    /// Makes a picker without any score, which picks at random.
    fn default() -> Self {
        Self::new(Vec::new(), Vec::new())
    }
}

impl fmt::Debug for Picker {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let filters: Vec<_> = self.filters.iter().map(|(filter, _)| filter.name()).collect();
        let scores: Vec<_> = self.scores.iter().map(|(score, weight)| (score.name(), weight)).collect();
        let mut words = formatter.debug_struct("Picker");
        words.field("filters", &filters).field("scores", &scores);
        if self.remote != RemotePrefill::default() {
            words.field("remote_prefill", &self.remote);
        }
        if let Some(sources) = &self.sources {
            words.field("kv_cache_source", sources);
        }
        words.finish()
    }
}

/// Removes candidates, and tells of each of them.
fn retain(
    candidates: &mut Vec<Candidate<'_>>,
    filter: &'static str,
    keeps: impl Fn(&Candidate<'_>) -> bool,
    witness: &mut impl Witness,
) {
    candidates.retain(|candidate| {
        let kept = keeps(candidate);
        if !kept {
            witness.passed_over(candidate, filter);
        }
        kept
    });
}

/// Leaves the endpoint that a session belongs to.
fn keep_session(session: &str, candidates: &mut Vec<Candidate<'_>>, witness: &mut impl Witness) {
    let Some(home) = session::home(session, candidates) else { return };
    let position = candidates[home].position;
    retain(candidates, session::NAME, |candidate| candidate.position == position, witness);
}

/// Returns the place of the highest total, and how many are as high; each of them is as likely as the others (reservoir
/// sampling).
fn best(totals: &[f32], rng: &mut impl Rng) -> (usize, u32) {
    let (mut best, mut ties) = (0, 1_u32);
    for (position, total) in totals.iter().enumerate().skip(1) {
        if *total > totals[best] {
            (best, ties) = (position, 1);
        } else if *total == totals[best] {
            ties += 1;
            if rng.random_range(0..ties) == 0 {
                best = position;
            }
        }
    }
    (best, ties)
}

mod pairs;

#[cfg(test)]
mod tests;
