//! Where an endpoint can pull the beginning of a prompt from, instead of computing it.
//!
//! The request goes where it would go anyway. If another endpoint holds at least `minCachedTokens` tokens more of its prompt than
//! the one that computes it, that one is named in the header [`HEADER`], and llm-d's routing sidecar has the engine
//! pull them (vLLM's `OffloadingConnector` with its tier `p2p`). Of those that hold the most, up to a block, the one with the least
//! load is named: the hottest prefix would else be pulled from one endpoint by all others.
//!
//! | argument | default | |
//! |---|---|---|
//! | `minCachedTokens` | 0 | from how many tokens more on an endpoint is named; 0: never |
//!
//! It is neither filter nor score, and is configured like one: `pluginConfig: [{name: kv-cache-source, args: {…}}]`.
//!
//! Source: llm-d router, `p2p-source-producer` and "P2P KV-Cache Sharing".

use std::num::NonZeroU32;

use super::arguments::{Arguments, BadArgument};
use crate::inference::health::Standing;
use crate::scheduling::endpoint::Candidate;

/// The header that names a host and a port.
pub const HEADER: &str = "x-kv-cache-source-host-port";

/// How many tokens those may hold less that are as good as the one that holds the most: a block of the prefix table.
const BLOCK: u32 = 64;

/// When an endpoint is named from which another one can pull.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvCacheSource {
    /// How many tokens more it must hold at least.
    min_cached: NonZeroU32,
}

impl KvCacheSource {
    /// The name in configuration files.
    pub const NAME: &'static str = "kv-cache-source";

    /// Reads arguments; `None` where nobody is to be named.
    ///
    /// # Errors
    ///
    /// Returns a [`BadArgument`] for a number out of bounds.
    pub fn of(arguments: &mut Arguments) -> Result<Option<Self>, BadArgument> {
        let min_cached = NonZeroU32::new(arguments.count_or_none("minCachedTokens", 0)?);
        Ok(min_cached.map(|min_cached| Self { min_cached }))
    }

    /// Returns the endpoint from which `computing` can pull, if it is worth it; endpoints that are ejected are not asked for
    /// more work.
    pub fn find<'c, 'e>(self, computing: &Candidate<'e>, candidates: &'c [Candidate<'e>]) -> Option<&'c Candidate<'e>> {
        let at_least = computing.cached.saturating_add(self.min_cached.get());
        let may = |candidate: &&Candidate<'_>| {
            candidate.position != computing.position
                && candidate.cached >= at_least
                && candidate.observation.standing == Standing::Serving
        };
        let most = candidates.iter().filter(may).map(|candidate| candidate.cached).max()?;
        let near = |candidate: &&Candidate<'_>| candidate.cached >= most.saturating_sub(BLOCK);
        candidates.iter().filter(may).filter(near).min_by_key(|candidate| candidate.load())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::health::Cause;
    use crate::object::ObjectKey;
    use crate::scheduling::endpoint::{Endpoint, Observation};
    use crate::scheduling::ledger::Ledger;

    /// Returns whose place is named for the first of these: tokens in the cache, requests, and whether it is ejected.
    fn named(min: f64, endpoints: &[(u32, u32, bool)]) -> Option<usize> {
        let mut arguments = Arguments::default();
        arguments.add("minCachedTokens", min);
        let sources = KvCacheSource::of(&mut arguments).unwrap()?;
        let endpoint = Endpoint::new(ObjectKey::new("default", "p"), [127, 0, 0, 1].into(), 8000);
        let (ledger, serving) = (Ledger::default(), Observation::default());
        let ejected = Observation { standing: Standing::Ejected(Cause::Refused), ..Observation::default() };
        let candidate = |(position, (cached, in_flight, is_ejected)): (usize, &(u32, u32, bool))| Candidate {
            endpoint: &endpoint,
            position,
            in_flight: *in_flight,
            elsewhere: 0,
            observation: if *is_ejected { &ejected } else { &serving },
            penalty: 0,
            ledger: &ledger,
            cached: *cached,
            counted: *cached,
        };
        let candidates: Vec<_> = endpoints.iter().enumerate().map(candidate).collect();
        sources.find(&candidates[0], &candidates).map(|source| source.position)
    }

    #[test]
    fn the_endpoint_is_named_that_holds_the_most_and_has_the_least_to_do() {
        for (case, min, endpoints, expected) in [
            ("off", 0.0, &[(0, 0, false), (4096, 0, false)][..], None),
            ("nobody holds more", 1.0, &[(64, 0, false), (64, 0, false)], None),
            ("too little more", 256.0, &[(64, 0, false), (319, 0, false)], None),
            ("just enough", 256.0, &[(64, 0, false), (320, 0, false)], Some(1)),
            ("the most", 1.0, &[(0, 0, false), (512, 0, false), (1024, 9, false)], Some(2)),
            ("as good but for a block", 1.0, &[(0, 0, false), (960, 1, false), (1024, 9, false)], Some(1)),
            ("not an ejected one", 1.0, &[(0, 0, false), (512, 0, false), (1024, 0, true)], Some(1)),
            ("nobody else", 1.0, &[(0, 0, false)], None),
        ] {
            assert_eq!(named(min, endpoints), expected, "{case}");
        }
    }

    #[test]
    fn a_part_of_a_token_is_refused() {
        let mut arguments = Arguments::default();
        arguments.add("minCachedTokens", 0.5);
        assert!(KvCacheSource::of(&mut arguments).is_err());
    }
}
