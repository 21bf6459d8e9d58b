//! Which LoRA adapters an endpoint was sent of late: those of its slots, because an engine keeps what was used last.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::inference::prompt::BlockHash;

/// Adapters that are remembered of an endpoint; engines have fewer slots.
const ROOM: usize = 32;

/// The adapters that an endpoint was sent last. Worker threads share it; a race forgets one.
#[derive(Debug, Default)]
pub struct RecentAdapters {
    clock: AtomicU32,
    entries: [Entry; ROOM],
}

#[derive(Debug, Default)]
struct Entry {
    /// The adapter's hash; 0 for an entry that nobody has used.
    adapter: AtomicU64,
    /// When it was sent, as a count of requests with adapters.
    stamp: AtomicU32,
}

impl RecentAdapters {
    /// Notes that a request with this adapter was sent.
    pub fn note(&self, adapter: &str) {
        let hash = hash(adapter);
        let now = self.clock.fetch_add(1, Ordering::Relaxed) + 1;
        let known = self.entries.iter().find(|entry| entry.adapter.load(Ordering::Relaxed) == hash);
        let oldest = || self.entries.iter().max_by_key(|entry| now.wrapping_sub(entry.stamp.load(Ordering::Relaxed)));
        if let Some(entry) = known.or_else(oldest) {
            entry.adapter.store(hash, Ordering::Relaxed);
            entry.stamp.store(now, Ordering::Relaxed);
        }
    }

    /// Returns whether an adapter is among the last `slots` that were sent.
    pub fn holds(&self, adapter: &str, slots: usize) -> bool {
        let hash = hash(adapter);
        let now = self.clock.load(Ordering::Relaxed);
        let age = |entry: &Entry| now.wrapping_sub(entry.stamp.load(Ordering::Relaxed));
        let used = || self.entries.iter().filter(|entry| entry.adapter.load(Ordering::Relaxed) != 0);
        let Some(found) = used().find(|entry| entry.adapter.load(Ordering::Relaxed) == hash) else { return false };
        used().filter(|entry| age(entry) < age(found)).count() < slots
    }
}

fn hash(adapter: &str) -> u64 {
    BlockHash(0).followed_by(adapter.as_bytes()).0.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ones_are_held() {
        let recent = RecentAdapters::default();
        assert!(!recent.holds("a", 2));
        for adapter in ["a", "b", "a", "c"] {
            recent.note(adapter);
        }
        let held = |slots| ["a", "b", "c"].map(|adapter| recent.holds(adapter, slots));
        assert_eq!((held(1), held(2), held(3)), ([false, false, true], [true, false, true], [true, true, true]));
    }

    #[test]
    fn what_there_is_no_room_for_is_forgotten() {
        let recent = RecentAdapters::default();
        (0..100).for_each(|adapter| recent.note(&adapter.to_string()));
        let held = (0..100).filter(|adapter| recent.holds(&adapter.to_string(), usize::MAX)).collect::<Vec<_>>();
        assert_eq!(held, (68..100).collect::<Vec<_>>());
    }
}
