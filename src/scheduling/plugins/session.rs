//! Keeps a session at one endpoint, as long as that one has room.
//!
//! No configuration of the scheduler names it: it is asked where a ModelServer has `trafficPolicy.sessionSticky` and the
//! request has a session. A session belongs to the endpoint that ranks highest for its key, which all replicas of the
//! router calculate alike; nothing is stored. An endpoint that has twice the requests of the others on average, and more
//! than [`FEW`], is full: its sessions go to the next in their order (consistent hashing with bounded loads).

use crate::inference::prompt::BlockHash;
use crate::scheduling::endpoint::Candidate;

/// Requests that fill no endpoint.
pub const FEW: u32 = 8;

/// The name in explanations.
pub const NAME: &str = "session";

/// Returns the place of the candidate that a session belongs to; `None` where there is no candidate.
pub fn home(session: &str, candidates: &[Candidate<'_>]) -> Option<usize> {
    let total: u64 = candidates.iter().map(|candidate| u64::from(candidate.load())).sum();
    let count = candidates.len() as u64;
    // What the others have on average, so that one session alone does not fill its endpoint by itself.
    let is_full = |candidate: &Candidate<'_>| {
        let load = u64::from(candidate.load());
        candidate.load() > FEW && load * count.saturating_sub(1) > 2 * (total - load)
    };
    let key = BlockHash(0).followed_by(session.as_bytes());
    let places = || candidates.iter().enumerate();
    let best = |full: bool| {
        places()
            .filter(|(_, candidate)| full || !is_full(candidate))
            .max_by_key(|(_, candidate)| candidate.endpoint.rank_for(key))
            .map(|(place, _)| place)
    };
    best(false).or_else(|| best(true))
}
