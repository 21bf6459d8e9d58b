//! Which endpoint has which response, as far as this router has seen it answer.
//!
//! A response is kept by the engine that has made it, under an id of the engine's own. The table is a hint: what it does not
//! know is asked of the endpoints. It never grows: 131 072 ids in 1 MiB, in sets of eight, each of which forgets what was used
//! longest ago. It is read and written without locks; threads that write to one set at once may lose an id, and an id is never
//! taken for another one, but by chance of 2^-46.

use std::fmt;
use std::hash::{BuildHasher, Hash};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::quality::FixedState;

use crate::scheduling::endpoint::Endpoint;

/// The ids of one set.
const WAYS: usize = 8;
/// The sets.
const SETS: usize = 1 << 14;

/// Which endpoint has which response.
#[derive(Default)]
pub struct ResponseHolders {
    /// For each id a part of its hash, and the mark of its endpoint; 0 is none. There are none before the first response.
    places: OnceLock<Box<[AtomicU64]>>,
}

/// Tells one life of an endpoint from others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark(u32);

impl Mark {
    /// Returns the mark of an endpoint; one that was started anew has another one, and has forgotten its responses.
    pub fn of(endpoint: &Endpoint) -> Self {
        let identity = (&endpoint.pod, endpoint.address, endpoint.port, &endpoint.incarnation);
        Self(part(hash(&identity)))
    }
}

impl ResponseHolders {
    /// Notes that an endpoint has a response.
    pub fn note(&self, id: &str, mark: Mark) {
        let places = self.places.get_or_init(|| (0..WAYS * SETS).map(|_| AtomicU64::new(0)).collect());
        let (set, key) = set_of(places, id);
        let entry = u64::from(key) << 32 | u64::from(mark.0);
        let last = set.iter().position(|place| is_of(place.load(Ordering::Relaxed), key)).unwrap_or(WAYS - 1);
        for place in (1..=last).rev() {
            set[place].store(set[place - 1].load(Ordering::Relaxed), Ordering::Relaxed);
        }
        set[0].store(entry, Ordering::Relaxed);
    }

    /// Returns the mark of the endpoint that has a response, if that is known.
    pub fn find(&self, id: &str) -> Option<Mark> {
        let (set, key) = set_of(self.places.get()?, id);
        let entry = set.iter().map(|place| place.load(Ordering::Relaxed)).find(|entry| is_of(*entry, key))?;
        #[expect(clippy::cast_possible_truncation, reason = "the mark is the lower half")]
        let mark = Mark(entry as u32);
        self.note(id, mark);
        Some(mark)
    }
}

impl fmt::Debug for ResponseHolders {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ResponseHolders").finish_non_exhaustive()
    }
}

/// Returns the set that an id belongs to, and by what it is known there.
fn set_of<'p>(places: &'p [AtomicU64], id: &str) -> (&'p [AtomicU64], u32) {
    let hash = hash(&id);
    let set = usize::try_from(hash % SETS as u64).unwrap_or_default() * WAYS;
    (&places[set..set + WAYS], part(hash))
}

fn is_of(entry: u64, key: u32) -> bool {
    entry >> 32 == u64::from(key)
}

fn hash(value: &impl Hash) -> u64 {
    FixedState::with_seed(0).hash_one(value)
}

/// Returns the upper half of a hash, which is never 0.
fn part(hash: u64) -> u32 {
    u32::try_from(hash >> 32).unwrap_or_default().max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::ObjectKey;

    fn endpoint(host: u8, incarnation: &str) -> Endpoint {
        let pod = ObjectKey::new("default", format!("pod-{host}"));
        Endpoint { incarnation: Some(incarnation.into()), ..Endpoint::new(pod, [127, 0, 0, host].into(), 8000) }
    }

    #[test]
    fn what_was_noted_is_found_and_what_is_newer_counts() {
        let holders = ResponseHolders::default();
        let marks = [Mark::of(&endpoint(1, "a")), Mark::of(&endpoint(2, "a")), Mark::of(&endpoint(1, "b"))];
        assert_eq!(holders.find("resp_1"), None);
        for mark in marks {
            holders.note("resp_1", mark);
            assert_eq!(holders.find("resp_1"), Some(mark));
        }
        assert_eq!(holders.find("resp_2"), None);
        assert_ne!(marks[0], marks[2], "an engine that was started anew has forgotten its responses");
    }

    #[test]
    fn a_set_forgets_what_was_used_longest_ago() {
        let holders = ResponseHolders::default();
        let mark = Mark::of(&endpoint(1, "a"));
        let set = |id: &String| hash(&id.as_str()) % SETS as u64;
        let of_one_set = (0..).map(|number| format!("resp_{number}")).filter(|id| set(id) == 7);
        let ids: Vec<_> = of_one_set.take(WAYS + 1).collect();
        for id in &ids[..WAYS] {
            holders.note(id, mark);
        }
        assert_eq!(holders.find(&ids[0]), Some(mark), "and so it is used");
        holders.note(&ids[WAYS], mark);
        let known: Vec<_> = ids.iter().map(|id| holders.find(id).is_some()).collect();
        assert_eq!(known.iter().filter(|known| !**known).count(), 1);
        assert!(known[0] && !known[1] && known[WAYS], "{known:?}");
    }
}
