//! The policies that are compared: the router's own picker, and rivals.

use std::collections::HashMap;

use kthena_router::scheduling::config::SchedulerConfig;
use kthena_router::scheduling::endpoint::{Candidate, PoolFacts, Role};
use kthena_router::scheduling::picker::{Legs, Picker, Score};
use kthena_router::scheduling::plugins::least_request::LeastRequest;
use kthena_router::scheduling::plugins::predicted_latency::PredictedLatency;
use kthena_router::scheduling::request::{PickRequest, RequestFacts};
use rand::RngExt;
use rand::rngs::SmallRng;

/// Chooses engines.
pub trait Policy {
    /// Returns the places of the engines that get a request.
    fn pick(
        &mut self,
        request: &PickRequest<'_>,
        pool: &PoolFacts,
        candidates: Vec<Candidate<'_>>,
        rng: &mut SmallRng,
    ) -> Legs<usize>;
    /// Takes note of the end of an answer.
    fn done(&mut self, engine: usize, facts: &RequestFacts) {
        let _ = (engine, facts);
    }
}

/// One of the policies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rival {
    /// Any engine.
    Random,
    /// One after the other.
    RoundRobin,
    /// The fewest requests in flight.
    LeastRequest,
    /// The Go router's chart default without its latency part: least-request, and the part of a prompt that is known to be
    /// cached, which is noted when an answer has ended.
    PrefixCache,
    /// A hash ring with bounded loads by the first block.
    BoundedHash,
    /// The router's score predicted-latency.
    PredictedLatency,
    /// The router's default.
    Default,
}

/// All of them, the router's default last.
pub const ALL: [Rival; 7] = [
    Rival::Random,
    Rival::RoundRobin,
    Rival::LeastRequest,
    Rival::PrefixCache,
    Rival::BoundedHash,
    Rival::PredictedLatency,
    Rival::Default,
];

struct Production(Picker);
struct Random;
struct RoundRobin(usize);
struct BoundedHash;

/// The Go router's prefix-cache plugin beside least-request.
#[derive(Default)]
struct PrefixCache {
    /// Blocks that each engine is known to have; the Go router's own size is of no use here, its default is 50,000.
    known: Vec<HashMap<u64, ()>>,
}

impl Rival {
    /// Returns its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::RoundRobin => "round robin",
            Self::LeastRequest => "least request",
            Self::PrefixCache => "prefix-cache (Go)",
            Self::BoundedHash => "bounded hash",
            Self::PredictedLatency => "predicted latency",
            Self::Default => "default",
        }
    }

    /// Returns whether it knows of engines that have roles.
    pub fn knows_roles(self) -> bool {
        matches!(self, Self::Random | Self::Default)
    }

    /// Makes it.
    pub fn policy(self) -> Box<dyn Policy> {
        match self {
            Self::Random => Box::new(Random),
            Self::RoundRobin => Box::new(RoundRobin(0)),
            Self::LeastRequest => by_score(LeastRequest),
            Self::PredictedLatency => by_score(PredictedLatency::default()),
            Self::PrefixCache => Box::new(PrefixCache::default()),
            Self::BoundedHash => Box::new(BoundedHash),
            Self::Default => Box::new(Production(SchedulerConfig::default().picker())),
        }
    }
}

/// Returns the production picker with one score.
fn by_score(score: impl Score + 'static) -> Box<dyn Policy> {
    Box::new(Production(Picker::new(Vec::new(), vec![(Box::new(score), 1.0)])))
}

impl Policy for Production {
    fn pick(
        &mut self,
        request: &PickRequest<'_>,
        pool: &PoolFacts,
        mut candidates: Vec<Candidate<'_>>,
        rng: &mut SmallRng,
    ) -> Legs<usize> {
        let picked = self.0.pick(request, pool, &mut candidates, rng, &mut ());
        match picked.expect("no engine is ejected and none was tried") {
            Legs::One(engine) => Legs::One(engine.position),
            Legs::Two { prefill, decode } => Legs::Two { prefill: prefill.position, decode: decode.position },
        }
    }
}

impl Policy for Random {
    fn pick(
        &mut self,
        _: &PickRequest<'_>,
        _: &PoolFacts,
        candidates: Vec<Candidate<'_>>,
        rng: &mut SmallRng,
    ) -> Legs<usize> {
        let (prefills, others): (Vec<_>, Vec<_>) =
            candidates.iter().partition(|candidate| candidate.endpoint.role == Role::Prefill);
        let mut any = |engines: &[&Candidate<'_>]| engines[rng.random_range(0..engines.len())].position;
        if prefills.is_empty() {
            return Legs::One(any(&others));
        }
        Legs::Two { prefill: any(&prefills), decode: any(&others) }
    }
}

impl Policy for RoundRobin {
    fn pick(
        &mut self,
        _: &PickRequest<'_>,
        _: &PoolFacts,
        candidates: Vec<Candidate<'_>>,
        _: &mut SmallRng,
    ) -> Legs<usize> {
        self.0 += 1;
        Legs::One(candidates[self.0 % candidates.len()].position)
    }
}

impl Policy for BoundedHash {
    fn pick(
        &mut self,
        request: &PickRequest<'_>,
        _: &PoolFacts,
        candidates: Vec<Candidate<'_>>,
        rng: &mut SmallRng,
    ) -> Legs<usize> {
        let Some(first) = request.prefix.first() else {
            return Legs::One(candidates[rng.random_range(0..candidates.len())].position);
        };
        let total: u32 = candidates.iter().map(|candidate| candidate.in_flight).sum();
        let bound = (f64::from(total + 1) * 1.25 / candidates.len() as f64).ceil();
        let mut ring: Vec<_> = candidates
            .iter()
            .map(|candidate| (first.followed_by(&candidate.position.to_le_bytes()), candidate))
            .collect();
        ring.sort_by_key(|(hash, _)| *hash);
        let free = ring.iter().find(|(_, candidate)| f64::from(candidate.in_flight) < bound);
        Legs::One(free.map_or(candidates[0].position, |(_, candidate)| candidate.position))
    }
}

impl Policy for PrefixCache {
    fn pick(
        &mut self,
        request: &PickRequest<'_>,
        _: &PoolFacts,
        candidates: Vec<Candidate<'_>>,
        rng: &mut SmallRng,
    ) -> Legs<usize> {
        let most = candidates.iter().map(|candidate| candidate.position + 1).max().unwrap_or(0).max(self.known.len());
        self.known.resize_with(most, HashMap::new);
        let highest = candidates.iter().map(|candidate| candidate.in_flight).max().unwrap_or(0);
        let blocks = &request.prefix[..request.prefix.len().min(32)];
        let score = |candidate: &Candidate<'_>| {
            let known = &self.known[candidate.position];
            let held = blocks.iter().take_while(|block| known.contains_key(&block.0)).count();
            let prefix = (held * 100).checked_div(blocks.len()).unwrap_or(0);
            let load = ((highest - candidate.in_flight) * 100).checked_div(highest).unwrap_or(100);
            prefix + load as usize
        };
        let scores: Vec<_> = candidates.iter().map(score).collect();
        let best = scores.iter().max().copied().unwrap_or(0);
        let ties: Vec<_> = (0..scores.len()).filter(|place| scores[*place] == best).collect();
        Legs::One(candidates[ties[rng.random_range(0..ties.len())]].position)
    }

    fn done(&mut self, engine: usize, facts: &RequestFacts) {
        if self.known[engine].len() > 50_000 {
            self.known[engine].clear();
        }
        self.known[engine].extend(facts.prefix.iter().take(32).map(|block| (block.0, ())));
    }
}
