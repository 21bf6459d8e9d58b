//! A table from hashes to a few bits, which one thread writes and all read without locks.
//!
//! An entry is 8 bytes: 48 bits of the hash and 16 bits of value. It lies at its hash's place or behind it. A reader that
//! looks while the writer writes sees the old entry or the new one. A table does not grow; its owner makes a larger one
//! and lets readers see that. Of two hashes that have the same 48 bits, one is taken for the other: with a million
//! entries that is one question of 280 million.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::inference::prompt::BlockHash;

/// The bits of an entry that are its value.
const VALUE_BITS: u32 = 16;
/// What stands where never was an entry: a search ends here.
const NEVER: u64 = 0;
/// What stands where an entry was removed: a search goes on.
const REMOVED: u64 = 1;

/// A table of hashes.
#[derive(Debug)]
pub struct Table {
    entries: Box<[AtomicU64]>,
    /// Places that are taken, removed ones included; only the writer looks.
    taken: AtomicU64,
}

impl Table {
    /// Makes a table that is at most half full with `count` entries.
    pub fn with_room(count: usize) -> Self {
        let entries = (0..count.saturating_mul(2).next_power_of_two().max(16)).map(|_| AtomicU64::new(NEVER)).collect();
        Self { entries, taken: AtomicU64::new(0) }
    }

    /// Returns the value of a hash.
    pub fn get(&self, hash: BlockHash) -> Option<u16> {
        self.find(tag(hash)).map(|(_, entry)| value(entry))
    }

    /// Sets the value of a hash. Returns `false` if the table is too full for a new one. Only one thread may write.
    pub fn set(&self, hash: BlockHash, value: u16) -> bool {
        let tag = tag(hash);
        let entry = tag << VALUE_BITS | u64::from(value);
        if let Some((place, _)) = self.find(tag) {
            self.entries[place].store(entry, Ordering::Relaxed);
            return true;
        }
        // Three quarters: searches stay short, and there is always an end to them.
        if self.is_crowded(0) {
            return false;
        }
        for place in self.places(tag) {
            let before = self.entries[place].load(Ordering::Relaxed);
            if before <= REMOVED {
                self.entries[place].store(entry, Ordering::Relaxed);
                self.taken.fetch_add(u64::from(before == NEVER), Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// Removes a hash.
    pub fn remove(&self, hash: BlockHash) {
        if let Some((place, _)) = self.find(tag(hash)) {
            self.entries[place].store(REMOVED, Ordering::Relaxed);
        }
    }

    /// Returns a table with room for `count` entries that has the same ones.
    pub fn copied(&self, count: usize) -> Self {
        let copy = Self::with_room(count);
        for entry in &self.entries {
            let entry = entry.load(Ordering::Relaxed);
            if entry > REMOVED {
                copy.set(BlockHash(entry), value(entry));
            }
        }
        copy
    }

    /// Returns whether there may be no room for `count` further entries. Only the writer's answer is the present one.
    pub fn is_crowded(&self, count: usize) -> bool {
        (self.taken.load(Ordering::Relaxed) + count as u64) * 4 >= self.entries.len() as u64 * 3
    }

    /// Returns the memory that the table takes, in bytes.
    pub fn bytes(&self) -> usize {
        self.entries.len() * size_of::<AtomicU64>()
    }

    fn find(&self, tag: u64) -> Option<(usize, u64)> {
        for place in self.places(tag) {
            let entry = self.entries[place].load(Ordering::Relaxed);
            if entry == NEVER {
                return None;
            }
            if entry >> VALUE_BITS == tag {
                return Some((place, entry));
            }
        }
        None
    }

    /// Returns the places where an entry may be, the likeliest first.
    fn places(&self, tag: u64) -> impl Iterator<Item = usize> {
        let mask = self.entries.len() - 1;
        let first = usize::try_from(tag).unwrap_or(usize::MAX);
        (0..=mask).map(move |step| first.wrapping_add(step) & mask)
    }
}

/// Returns the bits of a hash that stand in its entry, which are never those of an empty place.
fn tag(hash: BlockHash) -> u64 {
    (hash.0 >> VALUE_BITS).max(1)
}

fn value(entry: u64) -> u16 {
    u16::try_from(entry & u64::from(u16::MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn hash(number: u64) -> BlockHash {
        BlockHash(0).followed_by(&number.to_le_bytes())
    }

    proptest! {
        #[test]
        fn a_table_does_what_a_map_does(steps in vec((0_u64..64, any::<Option<u16>>()), 0..400)) {
            let (mut table, mut map) = (Table::with_room(8), HashMap::new());
            for (number, value) in steps {
                match value {
                    Some(value) => {
                        if !table.set(hash(number), value) {
                            table = table.copied(64);
                            prop_assert!(table.set(hash(number), value));
                        }
                        map.insert(number, value);
                    }
                    None => {
                        table.remove(hash(number));
                        map.remove(&number);
                    }
                }
                for number in 0..64 {
                    prop_assert_eq!(table.get(hash(number)), map.get(&number).copied());
                }
            }
        }
    }

    #[test]
    fn a_search_in_a_full_table_ends() {
        let table = Table::with_room(8);
        for number in 0..100 {
            table.set(hash(number), 1);
            table.remove(hash(number));
        }
        assert_eq!((table.get(hash(7)), table.bytes()), (None, 128));
    }
}
