//! Where replicas of the router send what none of them has sent before, so that they agree without talking to each other.
//!
//! Every mark has a *home*: the endpoint that ranks highest for it, by a hash that all replicas calculate alike (rendezvous
//! hashing). Hashes alone give some endpoints more marks than others, and where the caches of a pool have just enough room
//! for one copy of each prompt, that is too many. So the marks of the last minutes are shared out evenly: each endpoint
//! takes those that rank highest at it, as many as its share, and the others go to the next one in their order. Who gets
//! what depends on the set of marks alone and not on the order in which a replica saw them (Gale and Shapley's deferred
//! acceptance).
//!
//! A home that is never left would leave some endpoints with twice the requests of others: in a closed loop, those that are
//! behind get no fewer requests and never catch up. So an endpoint that has had more requests than others of late takes
//! fewer marks. All replicas see that in the same scrapes, and a few marks are enough.
//!
//! A home counts as an endpoint that has the prompt, by as much as others send to the pool: see [`Homes::presume`]. A lone
//! router presumes nothing.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use super::commons::Commons;
use super::endpoint::{Candidate, Endpoint, Observation, rank};
use super::ledger::Ledger;
use super::request::PickRequest;
use crate::inference::prompt::BlockHash;

/// What a scrape leaves of the older ones in the share of others.
const FADE: f32 = 0.9;
/// The share of others from which on a home counts as an endpoint that has the prompt.
const ENOUGH: f32 = 0.25;
/// As many replicas are no more than an error of measurement.
const ALONE: f32 = 1.1;
/// Replicas of a router that are thought of at most.
const MOST_REPLICAS: f32 = 16.0;
/// Requests that stand for what is not known before the first scrapes.
const UNKNOWN: f32 = 16.0;
/// Marks that may be unseen, as a part of those that were seen, where these are shared out. While there are more, replicas
/// have seen different ones, and each would share them out its own way.
const MOST_UNSEEN: f32 = 1.5;
/// Marks times endpoints that are shared out evenly; hashes spread more of them well enough.
const MOST: usize = 1 << 18;
/// An endpoint may have this part of its share of marks more than others: where prompts just fit into the caches of a pool,
/// a few more at one of them have it compute what another one would have had room for.
const SLACK: f32 = 0.01;
/// The part of a prompt that does not count as cached where other replicas would not look for it, so that all of them come
/// back to its home and its other copies are forgotten.
const STRAY: f32 = 0.2;
/// What a scrape leaves of the older ones in the load of an endpoint: of some five seconds, so that a burst moves nothing.
const FADE_LOAD: f32 = 0.8;
/// By which part of its share of marks an endpoint takes fewer that has had twice the requests of the mean. More would move
/// marks to and fro, and each of them that moves has its prompts computed once more.
const RELIEF: f32 = 0.03;
/// The part of its share that an endpoint takes at least.
const LEAST_SHARE: f32 = 0.5;
/// Requests at an endpoint that say nothing yet of its load.
const FEW: f32 = 8.0;
/// Prompt tokens that are thought to be used again before anything is known.
const HOPE: f32 = 20_000.0;

/// What a survey of a pool says about homes.
#[derive(Clone, Debug, PartialEq)]
pub struct Homes {
    /// The endpoints of marks whose home is not the one that ranks highest, by their rank.
    moved: Arc<HashMap<BlockHash, u64>>,
    /// What they were found from: nothing is shared out anew while nothing comes.
    basis: u64,
    /// Weighted sums of the requests at the endpoints: those from elsewhere, and all.
    elsewhere: f32,
    all: f32,
    /// The part of the prompts that was sent to the same endpoint before.
    reuse: f32,
    /// The part of the requests whose mark was seen before.
    familiarity: f32,
    /// How likely it is that a mark which is new comes back.
    returning: f32,
    /// The requests at each endpoint of late, in the order of the last survey.
    loads: Vec<(BlockHash, f32)>,
}

/// An endpoint in a [`Homes::survey`].
#[derive(Clone, Copy, Debug)]
pub struct Surveyed<'e> {
    /// The endpoint.
    pub endpoint: &'e Endpoint,
    /// What was observed of it.
    pub observation: &'e Observation,
    /// What this router has sent there.
    pub ledger: &'e Ledger,
}

impl Default for Homes {
    fn default() -> Self {
        Self::among(1)
    }
}

impl Homes {
    /// Says where to send before scrapes have told how many others send to the pool, in one of so many replicas.
    pub fn among(replicas: u32) -> Self {
        let others = 1.0 - 1.0 / replicas.max(1) as f32;
        Self {
            moved: Arc::default(),
            basis: 0,
            elsewhere: UNKNOWN * others,
            all: UNKNOWN,
            reuse: 1.0,
            familiarity: 1.0,
            returning: 1.0,
            loads: Vec::new(),
        }
    }

    /// Looks at a pool after its endpoints were scraped; done about once a second, and not for each request.
    #[must_use]
    pub fn survey(&self, commons: &Commons, endpoints: &[Surveyed<'_>]) -> Self {
        let (mut elsewhere, mut all) = (self.elsewhere * FADE, self.all * FADE);
        let (mut cached, mut tokens) = (HOPE, HOPE);
        for Surveyed { observation, ledger, .. } in endpoints {
            elsewhere += observation.elsewhere() as f32;
            all += observation.elsewhere().max(observation.requests()) as f32;
            let reuse = ledger.reuse();
            cached += reuse.cached;
            tokens += reuse.tokens;
        }
        let mut homes = Self {
            moved: Arc::default(),
            basis: 0,
            elsewhere,
            all,
            reuse: cached / tokens,
            familiarity: commons.familiarity(),
            returning: 1.0,
            loads: Vec::new(),
        };
        if homes.chance() == 0.0 {
            return homes;
        }
        homes.returning = commons.return_chance();
        homes.loads = endpoints.iter().map(|surveyed| self.load_of(surveyed)).collect();
        let identities: Vec<_> = endpoints.iter().map(|surveyed| surveyed.endpoint.identity()).collect();
        let basis =
            identities.iter().fold(commons.requests().into(), |sum: u64, identity| sum.wrapping_add(identity.0));
        homes.basis = basis;
        if basis == self.basis {
            homes.moved = Arc::clone(&self.moved);
            return homes;
        }
        let marks = commons.marks();
        let is_known = commons.unseen() <= MOST_UNSEEN * marks.len() as f32;
        if is_known && marks.len() * endpoints.len() <= MOST {
            homes.moved = Arc::new(share_out(&marks, &homes.loads));
        }
        homes
    }

    /// Returns the requests that an endpoint has had of late, with its identity.
    fn load_of(&self, Surveyed { endpoint, observation, .. }: &Surveyed<'_>) -> (BlockHash, f32) {
        let (identity, now) = (endpoint.identity(), observation.requests() as f32);
        let before = self.loads.iter().find(|(known, _)| *known == identity).map_or(now, |(_, load)| *load);
        (identity, before * FADE_LOAD + now * (1.0 - FADE_LOAD))
    }

    /// Returns how many requests from elsewhere an endpoint has, where this router has so many in flight: those of the last
    /// scrape, and, because replicas of the router see the same and do the same, what this one has added since for each of
    /// the others. Without that all of them would send to the endpoint that a scrape found idle, until the next one.
    pub fn elsewhere(&self, observation: &Observation, in_flight: u32) -> u32 {
        let scraped = observation.elsewhere();
        if observation.metrics.is_none() || self.elsewhere == 0.0 {
            return scraped;
        }
        let since = in_flight as f32 - observation.in_flight_at_scrape as f32;
        (scraped as f32 + since * (self.replicas() - 1.0)).round().max(0.0) as u32
    }

    /// Returns whether others send to the pool as well.
    pub fn is_shared(&self) -> bool {
        self.replicas() > ALONE
    }

    /// Returns how many replicas there seem to be, if all of them are alike.
    fn replicas(&self) -> f32 {
        (self.all / (self.all - self.elsewhere).max(f32::MIN_POSITIVE)).clamp(1.0, MOST_REPLICAS)
    }

    /// Returns how likely it is that another replica has sent a prompt to its home that this one has not.
    fn chance(&self) -> f32 {
        if self.all > 0.0 { (self.elsewhere / self.all / ENOUGH).min(1.0) } else { 0.0 }
    }

    /// Counts a request, and notes at its home what others are presumed to have sent there.
    pub fn presume(&self, commons: &Commons, request: &PickRequest<'_>, candidates: &mut [Candidate<'_>]) {
        let mark = commons.note(request, candidates.len());
        let chance = self.chance();
        let Some(mark) = mark.filter(|_| chance > 0.0) else { return };
        for candidate in candidates.iter_mut() {
            candidate.counted = (candidate.cached as f32 * (1.0 - chance * STRAY)) as u32;
        }
        let rank_of = |candidate: &Candidate<'_>| candidate.endpoint.rank_for(mark.block);
        let home = match self.moved.get(&mark.block) {
            Some(moved) => candidates.iter_mut().find(|candidate| rank_of(candidate) == *moved),
            None => candidates.iter_mut().max_by_key(|candidate| rank_of(candidate)),
        };
        let Some(home) = home else { return };
        let familiarity = if mark.is_familiar { 1.0 } else { 1.0 - (1.0 - self.familiarity).powf(self.replicas()) };
        let presumed = (request.tokens as f32 * chance * self.reuse * familiarity) as u32;
        home.cached = home.cached.max(presumed);
        // A prompt that is new may have been seen by nobody. It goes home all the same where it comes back: others will
        // look for it there.
        let hoped = if mark.is_familiar { 0.0 } else { self.returning };
        home.counted = home.cached.max((request.tokens as f32 * chance * self.reuse * hoped) as u32);
    }
}

/// Shares marks out among endpoints of these loads; returns those that do not get the one that ranks highest.
fn share_out(marks: &[BlockHash], endpoints: &[(BlockHash, f32)]) -> HashMap<BlockHash, u64> {
    let ranks = |mark: &BlockHash| endpoints.iter().map(|(endpoint, _)| rank(*endpoint, *mark)).collect::<Vec<_>>();
    let ranks: Vec<_> = marks.iter().map(ranks).collect();
    let mut taken = vec![BinaryHeap::new(); endpoints.len()];
    let left = propose(&ranks, (0..marks.len()).collect(), &mut taken, &shares(marks.len(), endpoints));
    let mut more = vec![BinaryHeap::new(); endpoints.len()];
    propose(&ranks, left, &mut more, &vec![1; endpoints.len()]);
    let taken = taken.into_iter().chain(more).flatten().map(|Reverse((rank, mark))| (mark, rank));
    let is_moved = |(mark, rank): &(usize, u64)| ranks[*mark].iter().any(|other| other > rank);
    taken.filter(is_moved).map(|(mark, rank)| (marks[mark], rank)).collect()
}

/// Returns how many of so many marks each endpoint may take: fewer where it has had more requests than others.
fn shares(marks: usize, endpoints: &[(BlockHash, f32)]) -> Vec<usize> {
    let count = endpoints.len().max(1) as f32;
    let mean = endpoints.iter().map(|(_, load)| load).sum::<f32>() / count + FEW;
    let weight = |(_, load): &(BlockHash, f32)| (1.0 - RELIEF * ((load + FEW) / mean - 1.0)).max(LEAST_SHARE);
    let weights: f32 = endpoints.iter().map(weight).sum();
    let share = |endpoint| (marks as f32 * weight(endpoint) / weights * (1.0 + SLACK)) as usize;
    endpoints.iter().map(share).collect()
}

/// Has marks ask endpoints in their order; an endpoint keeps those that rank highest, as many as it may. Returns those that nobody kept.
fn propose(
    ranks: &[Vec<u64>],
    mut asking: Vec<usize>,
    taken: &mut [BinaryHeap<Reverse<(u64, usize)>>],
    most: &[usize],
) -> Vec<usize> {
    let mut refused = vec![u64::MAX; ranks.len()];
    let mut left = Vec::new();
    while let Some(mark) = asking.pop() {
        let next =
            ranks[mark].iter().enumerate().filter(|(_, rank)| **rank < refused[mark]).max_by_key(|(_, rank)| **rank);
        let Some((place, rank)) = next else {
            left.push(mark);
            continue;
        };
        refused[mark] = *rank;
        taken[place].push(Reverse((*rank, mark)));
        if taken[place].len() > most[place]
            && let Some(Reverse((_, lowest))) = taken[place].pop()
        {
            asking.push(lowest);
        }
    }
    left
}

#[cfg(test)]
mod tests;
