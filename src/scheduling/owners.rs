//! Which Pods hold the blocks of a prompt, as the Go router's runtime sidecars write it into Redis.
//!
//! Source: the Go kthena-router's kvcache-aware plugin. A block's key is `matrix:kv:block:<model>@<hash>`, a hash whose
//! fields are `<pod>.<namespace>` and whose values are the seconds since 1970 when the sidecar noted it. The hash of a
//! block is of its tokens alone: the first 8 bytes of their SHA-256, each token written in 4 bytes, most significant
//! first, without the top bit. So only a run from the first block on means something.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

use super::endpoint::Endpoint;
use crate::object::ObjectKey;

/// The Pods that hold the beginning of a prompt.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Owners {
    /// The blocks of the prompt that were asked for.
    pub blocks: usize,
    /// How many leading blocks each Pod holds; those that hold none are absent.
    pub held: HashMap<ObjectKey, usize>,
}

/// What Redis has for a block: fields and values.
pub type Entries = Vec<(String, String)>;

impl Owners {
    /// Reads who of some endpoints holds the blocks of a prompt, in order.
    pub fn of<'e>(blocks: &[Entries], endpoints: impl IntoIterator<Item = &'e Endpoint>) -> Self {
        let is_held = |endpoint: &Endpoint, entries: &Entries| {
            let field = format!("{}.{}", endpoint.pod.name, endpoint.pod.namespace);
            // What was noted before the container started was in another one's memory.
            let is_fresh = |noted: &str| {
                endpoint.started().zip(noted.parse::<i64>().ok()).is_none_or(|(started, noted)| noted > started)
            };
            entries.iter().any(|(name, noted)| *name == field && is_fresh(noted))
        };
        let held = endpoints.into_iter().filter_map(|endpoint| {
            let run = blocks.iter().take_while(|entries| is_held(endpoint, entries)).count();
            (run > 0).then(|| (endpoint.pod.clone(), run))
        });
        Self { blocks: blocks.len(), held: held.collect() }
    }
}

/// Returns the keys of a prompt's blocks, each of so many tokens, the last one included if it is shorter.
pub fn keys(model: &str, tokens: &[u32], block_size: usize, most: usize) -> Vec<String> {
    let blocks = tokens.chunks(block_size.max(1)).take(most);
    blocks.map(|tokens| format!("matrix:kv:block:{model}@{}", hash(tokens))).collect()
}

/// Returns the hash of a block; 0 for one without tokens.
pub fn hash(tokens: &[u32]) -> u64 {
    if tokens.is_empty() {
        return 0;
    }
    let mut hasher = Sha256::new();
    for token in tokens {
        hasher.update(token.to_be_bytes());
    }
    let digest = hasher.finalize();
    digest.first_chunk().map_or(0, |first| u64::from_be_bytes(*first) & (u64::MAX >> 1))
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    #[test]
    fn hashes_are_those_of_the_go_router() {
        let many: Vec<u32> = (0..16).collect();
        for (tokens, expected) in [
            (&[1][..], 3_748_984_630_417_570_165),
            (&[1, 2, 3, 4], 4_233_425_515_844_289_900),
            (&many, 6_473_494_984_593_326_032),
            (&[], 0),
        ] {
            assert_eq!(hash(tokens), expected, "{tokens:?}");
        }
        assert_eq!(
            keys("m", &[1, 2, 3, 4, 1], 4, 128),
            ["matrix:kv:block:m@4233425515844289900", "matrix:kv:block:m@3748984630417570165"]
        );
        assert_eq!(keys("m", &many, 4, 2).len(), 2);
    }

    #[test]
    fn only_a_run_from_the_first_block_on_counts() {
        let endpoint = |name: &str| Endpoint::new(ObjectKey::new("ns", name), IpAddr::V4(Ipv4Addr::LOCALHOST), 1);
        let anew = Endpoint { incarnation: Some("uid 1970-01-01T00:01:40Z".into()), ..endpoint("anew") };
        let endpoints = [endpoint("a"), endpoint("b"), endpoint("late"), anew];
        let noted =
            |names: &[&str]| names.iter().map(|name| ((*name).to_owned(), "100".to_owned())).collect::<Entries>();
        let blocks =
            [noted(&["a.ns", "b.ns", "anew.ns", "gone.ns", "a.other"]), noted(&["a.ns", "late.ns"]), noted(&["b.ns"])];
        let owners = Owners::of(&blocks, &endpoints);
        let held = [(ObjectKey::new("ns", "a"), 2), (ObjectKey::new("ns", "b"), 1)];
        assert_eq!(owners, Owners { blocks: 3, held: held.into() }, "`anew` started when it was noted");
    }
}
