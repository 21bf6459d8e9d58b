//! Prefers the endpoint where a request costs the least time: sticky until saturated. The default.
//!
//! ```text
//! cost = (backlog + uncached x harm + 100 tokens x requests) / rate + adapter x harm        score = least cost / cost
//! harm = 1 + 0.07 x requests, 16 at most; where others send to the pool as well, 1 + requests, 50 at most
//! ```
//!
//! - `backlog`: prompt tokens to be computed there for requests whose answers have not begun. This router's own are known
//!   exactly; requests that wait from elsewhere count as a tenth of this one, because most of their prompts are cached.
//! - `uncached`: tokens of this prompt that are not in the endpoint's cache. With several replicas of the router, the home
//!   of a prompt counts as one that has it ([`homes`](crate::scheduling::homes)).
//! - `harm`: while an engine computes a prompt, all its answers stand still, and those that wait wait longer. So a token
//!   that need not be computed is worth more where many are at work, and an idle endpoint may compute a prompt anew. What
//!   a prompt evicts from a cache has to be computed again as well; where others share the caches, that harms them too.
//! - `requests`: those that the endpoint has to work on. Of prompts of which nothing is known, it is they that count.
//! - `rate`: prompt tokens a second, measured where answers stream; an endpoint of which little is known is taken to be like
//!   the others of its pool, and so are those that differ from the mean by less than a factor of 1.25: waiting for others
//!   looks like a slow engine. Where others send as well there is more of that, and the factor is 4.
//! - `adapter`: for a request with a LoRA adapter, 0.3 s where the adapter has to be loaded, and a second more where all slots
//!   are in use and it has to wait for one. The engine's metrics and what was sent last tell. All answers stand still while
//!   an adapter is loaded, and the one that makes room for it has to be loaded again.
//!
//! The figures were found in the proving ground, `integration/bench/routing`; twice or half of them change little.

use crate::inference::adapters::Adapters;
use crate::scheduling::endpoint::{Candidate, PoolFacts};
use crate::scheduling::ledger::Pace;
use crate::scheduling::picker::Score;
use crate::scheduling::request::PickRequest;

/// What each request at an endpoint adds to the weight of a token that it has to compute, and the largest such weight.
const HARM: (f32, f32) = (0.07, 16.0);
/// The same where others send to the pool as well.
const SHARED_HARM: (f32, f32) = (1.0, 50.0);
/// What a request's answer is worth in tokens of a prompt.
const ANSWER: f32 = 100.0;
/// The part of a prompt that is thought to be computed of a request that waits from elsewhere.
const FOREIGN: f32 = 0.1;
/// What is assumed of an engine's rate before anything was measured. Only where rates differ does it matter.
const ASSUMED: Pace = Pace { tokens: 8_000.0, seconds: 1.0 };
/// Seconds of measurements that the mean of a pool counts as for each of its endpoints.
const TRUST: f32 = 1.0;
/// By which factor rates must differ to be told from waiting for others.
const TELLING: f32 = 1.25;
/// The same where others send to the pool as well.
const SHARED_TELLING: f32 = 4.0;
/// Seconds that are added to every cost, so that tiny differences between idle endpoints do not look large.
const FLOOR: f32 = 0.001;

/// Seconds that an engine needs to load an adapter.
const LOAD: f32 = 0.3;
/// Seconds until a slot is free where all are in use.
const QUEUE: f32 = 1.0;
/// Slots of an engine that does not say how many it has: vLLM's default is 1, and few leave it so.
const SLOTS: usize = 4;

/// The expected-wait score.
pub struct ExpectedWait;

impl Score for ExpectedWait {
    fn name(&self) -> &'static str {
        "expected-wait"
    }

    fn rate(&self, request: &PickRequest<'_>, pool: &PoolFacts, candidates: &[Candidate<'_>], rates: &mut [f32]) {
        let mean = mean_pace(candidates);
        let mut least = f32::INFINITY;
        for (candidate, rate) in candidates.iter().zip(rates.iter_mut()) {
            let harm = harm(pool, candidate);
            let seconds = work(request, candidate, harm) / rate_of(candidate, mean, pool.is_shared);
            *rate = FLOOR + seconds + request.adapter.map_or(0.0, |adapter| harm * loading(adapter, candidate));
            least = least.min(*rate);
        }
        for rate in rates {
            *rate = least / *rate;
        }
    }
}

/// Returns by how much more than itself a second counts in which an endpoint's answers stand still.
#[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than seven digits")]
fn harm(pool: &PoolFacts, candidate: &Candidate<'_>) -> f32 {
    let (each, most) = if pool.is_shared { SHARED_HARM } else { HARM };
    (1.0 + each * candidate.load() as f32).min(most)
}

/// Returns the cost of a request in prompt tokens.
#[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than seven digits")]
fn work(request: &PickRequest<'_>, candidate: &Candidate<'_>, harm: f32) -> f32 {
    let load = candidate.load() as f32;
    let metrics = candidate.observation.metrics.as_ref();
    let foreign = metrics.map_or(0, |metrics| metrics.waiting.min(candidate.elsewhere)) as f32;
    let backlog = candidate.ledger.backlog() as f32 + FOREIGN * foreign * request.tokens as f32;
    backlog + harm * candidate.uncached(request) as f32 + ANSWER * load
}

/// Returns how many seconds it takes until an endpoint can use an adapter.
fn loading(adapter: &str, candidate: &Candidate<'_>) -> f32 {
    let adapters = candidate.observation.adapters.as_deref();
    let slots = adapters.and_then(|adapters| adapters.slots).unwrap_or(SLOTS);
    let is_used = adapters.is_some_and(|adapters| adapters.used.contains(adapter));
    if is_used || candidate.ledger.holds_adapter(adapter, slots) {
        0.0
    } else if adapters.is_some_and(Adapters::is_full) {
        LOAD + QUEUE
    } else {
        LOAD
    }
}

/// Returns what is known of the rate of a pool's endpoints on average, as [`TRUST`] seconds of measurements.
pub(super) fn mean_pace(candidates: &[Candidate<'_>]) -> Pace {
    let sum = candidates
        .iter()
        .map(|candidate| candidate.ledger.pace())
        .fold(ASSUMED, |sum, pace| Pace { tokens: sum.tokens + pace.tokens, seconds: sum.seconds + pace.seconds });
    Pace { tokens: sum.tokens * TRUST / sum.seconds, seconds: TRUST }
}

/// Returns how many prompt tokens a second an endpoint computes.
pub(super) fn rate_of(candidate: &Candidate<'_>, mean: Pace, is_shared: bool) -> f32 {
    let own = candidate.ledger.pace();
    let own = (own.tokens + mean.tokens) / (own.seconds + mean.seconds);
    let mean = mean.tokens / mean.seconds;
    let telling = if is_shared { SHARED_TELLING } else { TELLING };
    let is_alike = own * telling > mean && own < mean * telling;
    if is_alike { mean } else { own }
}
