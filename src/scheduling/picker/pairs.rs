//! The pick in a pool whose endpoints have roles: one endpoint for all of a request, or a pair for its two parts.
//!
//! Both are chosen in one step, by the filters and scores that choose in every pool:
//!
//! 1. Those that only prefill are set apart; the others are candidates to answer. Filters narrow both sides, and a session
//!    keeps its own endpoint among those that answer.
//! 2. Where one endpoint may do all of the request, the best one for that is found, and
//!    [`RemotePrefill`](super::super::plugins::remote_prefill::RemotePrefill) says whether the prompt stays with it. A short
//!    prompt that would stay anyway may go to those that prefill as well, where the connector lets them answer.
//! 3. Else those that prefill are rated with the request as it is: by what waits there and by what of the prompt is cached.
//!    Those that answer are rated as if the prompt were computed but for its transfer, which leaves their load, after those
//!    without room for the prompt were left out. Of all pairs within one group the one with the highest sum wins: a
//!    group counts by the best that both of its sides have to offer.
//!
//! Where no endpoint that prefills is left, the request goes to one alone, if that may be.

use std::sync::Arc;

use rand::{Rng, RngExt};

use super::{Legs, PickError, Picker, best, keep_session, retain};
use crate::scheduling::endpoint::{Candidate, PoolFacts, Role};
use crate::scheduling::request::{PickRequest, Split};
use crate::scheduling::witness::{Course, Witness};

/// No endpoint that prefills is ready in the groups of those that decode.
const NO_PREFILL: &str = "no_prefill";
/// The part of the cost of a token that remains where its KV cache comes from elsewhere.
const TRANSFERRED: u32 = 16;
/// The part of a KV cache that may be in use once the prompt has been transferred.
const FULL: f64 = 0.95;
/// The name of the preference for those that have room for the prompt.
const ROOM: &str = "kv-room";
/// The name of what leaves out those of groups in which nobody prefills.
const PAIR: &str = "pair";

/// The best endpoint of a group for computing a prompt.
struct Best {
    /// Its place among those that prefill.
    place: usize,
    total: f32,
    ties: u32,
}

impl Picker {
    /// Picks in a pool whose endpoints have roles; `candidates` is left with those that may answer.
    pub(super) fn pick_by_roles<'e>(
        &self,
        request: &PickRequest<'_>,
        pool: &PoolFacts,
        candidates: &mut Vec<Candidate<'e>>,
        rng: &mut impl Rng,
        witness: &mut impl Witness,
    ) -> Result<Legs<Candidate<'e>>, PickError> {
        let prefills = |candidate: &Candidate<'_>| candidate.endpoint.role == Role::Prefill;
        let mut others: Vec<_> = candidates.iter().copied().filter(prefills).collect();
        candidates.retain(|candidate| !prefills(candidate));
        self.narrow(request, pool, candidates, witness)?;
        let mut why = match request.split {
            Split::Never(why) => Some(why),
            Split::Allowed { alone, .. } => match self.find_others(request, pool, (candidates, &mut others), witness) {
                Ok(()) => None,
                Err(error) if !alone => return Err(error),
                Err(PickError::AllTried) => Some("prefill_failed"),
                Err(_) => Some(NO_PREFILL),
            },
        };
        if let Some(session) = request.session {
            keep_session(session, candidates, witness);
            others.retain(|other| candidates.iter().any(|candidate| works_with(candidate, other)));
            why = why.or_else(|| others.is_empty().then_some(NO_PREFILL));
        }
        if why.is_none() && needs_pair(request) {
            witness.split(&Course { why: Course::REMOTE, ..Course::default() });
            return Ok(self.pick_pair(request, pool, (candidates, &others), rng, witness));
        }
        if why.is_none() && request.session.is_none() && self.remote.leaves_anywhere(request) {
            candidates.extend_from_slice(&others);
        }
        let totals = self.totals(request, pool, candidates, witness);
        let (place, ties) = best(&totals, rng);
        let here = candidates[place];
        let course = match why {
            Some(why) => Course { why, ..Course::default() },
            None => self.remote.decide(request, pool, &here, &others),
        };
        witness.split(&course);
        if course.why == Course::REMOTE {
            return Ok(self.pick_pair(request, pool, (candidates, &others), rng, witness));
        }
        witness.picked(&here, totals[place], ties);
        Ok(Legs::One(here))
    }

    /// Narrows those that prefill, and leaves those that work with one that answers; where nobody answers alone, also the
    /// other way round.
    fn find_others<'e>(
        &self,
        request: &PickRequest<'_>,
        pool: &PoolFacts,
        (candidates, others): (&mut Vec<Candidate<'e>>, &mut Vec<Candidate<'e>>),
        witness: &mut impl Witness,
    ) -> Result<(), PickError> {
        if others.is_empty() {
            return Err(PickError::NoPair);
        }
        self.narrow(request, pool, others, witness)?;
        others.retain(|other| candidates.iter().any(|candidate| works_with(candidate, other)));
        if others.is_empty() {
            return Err(PickError::NoPair);
        }
        if needs_pair(request) {
            leave_paired(candidates, others, witness);
        }
        Ok(())
    }

    /// Picks the best pair; there is one at least.
    fn pick_pair<'e>(
        &self,
        request: &PickRequest<'_>,
        pool: &PoolFacts,
        (candidates, others): (&mut Vec<Candidate<'e>>, &[Candidate<'e>]),
        rng: &mut impl Rng,
        witness: &mut impl Witness,
    ) -> Legs<Candidate<'e>> {
        leave_paired(candidates, others, witness);
        if candidates.iter().any(|candidate| has_room(candidate, request)) {
            retain(candidates, ROOM, |candidate| has_room(candidate, request), witness);
        }
        let totals = self.totals(request, pool, others, witness);
        let bests = bests(others, &totals, rng);
        let best_for = |candidate: &Candidate<'_>| bests.iter().find(|best| works_with(candidate, &others[best.place]));
        let computed = |candidate: &Candidate<'e>| Candidate {
            cached: request.tokens,
            counted: request.tokens - candidate.uncached(request) / TRANSFERRED,
            ..*candidate
        };
        let computed: Vec<_> = candidates.iter().map(computed).collect();
        let own = self.totals(request, pool, &computed, witness);
        let sums: Vec<_> = candidates
            .iter()
            .zip(&own)
            .map(|(candidate, own)| best_for(candidate).map_or(f32::NEG_INFINITY, |best| own + best.total))
            .collect();
        let (place, ties) = best(&sums, rng);
        let decode = candidates[place];
        let Some(best) = best_for(&decode) else { return Legs::One(decode) };
        let prefill = others[best.place];
        witness.prefills(&prefill, best.total, best.ties);
        witness.picked(&decode, own[place], ties);
        Legs::Two { prefill, decode }
    }
}

/// Returns the best endpoint of each group; those that are equally good are drawn from.
fn bests(others: &[Candidate<'_>], totals: &[f32], rng: &mut impl Rng) -> Vec<Best> {
    let mut bests: Vec<Best> = Vec::new();
    for (place, (other, total)) in others.iter().zip(totals).enumerate() {
        match bests.iter_mut().find(|best| works_with(&others[best.place], other)) {
            None => bests.push(Best { place, total: *total, ties: 1 }),
            Some(best) if *total > best.total => *best = Best { place, total: *total, ties: 1 },
            Some(best) if *total == best.total => {
                best.ties += 1;
                if rng.random_range(0..best.ties) == 0 {
                    best.place = place;
                }
            }
            Some(_) => {}
        }
    }
    bests
}

fn leave_paired<'e>(candidates: &mut Vec<Candidate<'e>>, others: &[Candidate<'e>], witness: &mut impl Witness) {
    retain(candidates, PAIR, |candidate| others.iter().any(|other| works_with(candidate, other)), witness);
}

/// Returns whether nobody can do all of a request.
fn needs_pair(request: &PickRequest<'_>) -> bool {
    matches!(request.split, Split::Allowed { alone: false, .. })
}

/// Returns whether two endpoints are of one group.
fn works_with(one: &Candidate<'_>, other: &Candidate<'_>) -> bool {
    match (&one.endpoint.group, &other.endpoint.group) {
        (Some(one), Some(other)) => Arc::ptr_eq(one, other) || one == other,
        (one, other) => one.is_none() && other.is_none(),
    }
}

/// Returns whether the KV cache of an endpoint has room for the prompt, as far as it tells.
fn has_room(candidate: &Candidate<'_>, request: &PickRequest<'_>) -> bool {
    let Some(metrics) = &candidate.observation.metrics else { return true };
    let (Some(usage), Some(tokens)) = (metrics.kv_cache_usage, metrics.cache_tokens) else { return true };
    #[expect(clippy::cast_precision_loss, reason = "a part needs no more than fifteen digits")]
    let tokens = tokens as f64;
    usage * tokens + f64::from(candidate.uncached(request)) <= FULL * tokens
}

#[cfg(test)]
mod tests;
