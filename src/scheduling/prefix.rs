//! Which prompt blocks an endpoint's cache holds, as far as this router knows: it remembers what it sent there.
//!
//! A table of one endpoint is an array of sets of `WAYS` entries, one cache line each. An entry is 8 bytes: a part of a
//! block's hash, and when the block was last sent. Worker threads share the table and use plain atomic loads and stores:
//! a race costs one entry at most, and what the table says is a guess about another machine anyway.
//!
//! Time is counted in blocks that were new to the endpoint, because that is what drives the endpoint's own eviction: a
//! cache of `capacity` blocks has lost what was last used `capacity` new blocks ago.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::inference::prompt::BlockHash;

/// Entries of a set: a cache line of them.
const WAYS: usize = 8;
/// The bits of an entry that say when its block was last sent.
const STAMP_BITS: u32 = 24;
const STAMP_MASK: u64 = (1 << STAMP_BITS) - 1;

/// The entries in which a block may stand.
#[derive(Debug, Default)]
#[repr(align(64))]
struct Set([AtomicU64; WAYS]);

/// The blocks that one endpoint was sent.
#[derive(Debug)]
pub struct PrefixTable {
    /// Made with the first block, so that endpoints without prompts cost nothing.
    entries: OnceLock<Box<[Set]>>,
    /// A power of two.
    sets: usize,
    /// How many blocks were new to the endpoint.
    clock: AtomicU32,
}

impl PrefixTable {
    /// Makes a table with room for `blocks` blocks, rounded up to a power of two, at 8 bytes each.
    pub fn new(blocks: usize) -> Self {
        let sets = blocks.div_ceil(WAYS).next_power_of_two();
        Self { entries: OnceLock::new(), sets, clock: AtomicU32::new(1) }
    }

    /// Returns how many blocks the table has room for.
    pub fn room(&self) -> usize {
        self.sets * WAYS
    }

    /// Returns how many leading blocks of a prompt an endpoint holds whose cache has room for `capacity` blocks.
    ///
    /// Blocks are chained, so that whoever holds one holds all before it. The last one is looked for first, because prompts
    /// are repeated; then by doubling and halving, in a number of steps that grows with the logarithm of the answer.
    pub fn held(&self, blocks: &[BlockHash], capacity: u32) -> usize {
        let Some(entries) = self.entries.get() else { return 0 };
        let now = self.clock.load(Ordering::Relaxed);
        let holds = |place: usize| self.holds(entries, blocks[place], now, capacity);
        if blocks.is_empty() || holds(blocks.len() - 1) {
            return blocks.len();
        }
        // All blocks before `low` are held; the one at `high` is not.
        let (mut low, mut high, mut step) = (0, blocks.len(), 1);
        while low + step <= blocks.len() {
            if !holds(low + step - 1) {
                high = low + step - 1;
                break;
            }
            low += step;
            step *= 2;
        }
        while low < high {
            let middle = usize::midpoint(low, high);
            if holds(middle) { low = middle + 1 } else { high = middle }
        }
        low
    }

    /// Notes that an endpoint whose cache has room for `capacity` blocks was sent a prompt of these; returns how many of them
    /// it held.
    pub fn note(&self, blocks: &[BlockHash], capacity: u32) -> u32 {
        if blocks.is_empty() {
            return 0;
        }
        let entries = self.entries.get_or_init(|| (0..self.sets).map(|_| Set::default()).collect());
        let now = self.clock.load(Ordering::Relaxed);
        // Engines evict the end of a prompt before its beginning, and so the beginning is noted last.
        let (mut new, mut held, mut jumped) = (0, 0, 0_u64);
        for block in blocks.iter().take(self.room() / 2).rev() {
            match self.note_block(entries, *block, now.wrapping_add(new)) {
                Some(age) if age < capacity => {
                    held += 1;
                    jumped += u64::from(age);
                }
                _ => new += 1,
            }
        }
        // A block that is used again pushes only those towards eviction that are younger than it was.
        let pushed = u32::try_from(jumped / u64::from(capacity.max(1))).unwrap_or(u32::MAX);
        self.clock.fetch_add(new.wrapping_add(pushed), Ordering::Relaxed);
        held
    }

    /// Notes that an endpoint's cache took in this many blocks which no prompt can ask for yet: tokens of answers.
    pub fn pass(&self, blocks: u32) {
        self.clock.fetch_add(blocks, Ordering::Relaxed);
    }

    /// Forgets all blocks.
    pub fn clear(&self) {
        for entry in self.entries.get().into_iter().flatten().flat_map(|set| &set.0) {
            entry.store(0, Ordering::Relaxed);
        }
    }

    /// Returns how old the block was, if it was there.
    fn note_block(&self, entries: &[Set], block: BlockHash, now: u32) -> Option<u32> {
        let (tag, set) = self.place(block);
        let Set(set) = &entries[set];
        let values = set.each_ref().map(|entry| entry.load(Ordering::Relaxed));
        // Most blocks of a prompt are there: the oldest entry is looked for only where it has to go.
        let found = values.iter().position(|value| value & !STAMP_MASK == tag);
        let age_at = |place: &usize| if values[*place] == 0 { u32::MAX } else { age(values[*place], now) };
        let place = found.or_else(|| (0..WAYS).max_by_key(age_at))?;
        set[place].store(tag | stamp(now), Ordering::Relaxed);
        found.map(|place| age(values[place], now))
    }

    fn holds(&self, entries: &[Set], block: BlockHash, now: u32, capacity: u32) -> bool {
        let (tag, set) = self.place(block);
        entries[set].0.iter().any(|entry| {
            let value = entry.load(Ordering::Relaxed);
            value & !STAMP_MASK == tag && age(value, now) < capacity
        })
    }

    /// Returns the part of the hash that stands in an entry, which is never 0, and the block's set.
    fn place(&self, block: BlockHash) -> (u64, usize) {
        let tag = (block.0 & !STAMP_MASK).max(1 << STAMP_BITS);
        // The low bits of the hash are not in the tag; where sets are many, some of the tag's help.
        let mixed = block.0 ^ (block.0 >> STAMP_BITS);
        // The same as a remainder, which takes the processor ten times as long.
        (tag, usize::try_from(mixed).unwrap_or(usize::MAX) & (self.sets - 1))
    }
}

fn stamp(clock: u32) -> u64 {
    u64::from(clock) & STAMP_MASK
}

/// Returns how many new blocks ago an entry was noted. The count starts anew after 16 million of them; a block that nobody
/// asked for during so many is taken for a young one then, which costs one wrong guess.
fn age(entry: u64, now: u32) -> u32 {
    u32::try_from(stamp(now).wrapping_sub(entry) & STAMP_MASK).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
