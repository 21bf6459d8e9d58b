//! Which blocks an endpoint's cache holds, as its engine's events tell.
//!
//! One [`Writer`] follows the events; [`HeldBlocks`] is what it shares with the threads that pick. Blocks are noted as a
//! set: an engine may hold two copies of a block and tells of each, and when one of them is removed, none is believed in.
//! So mistakes are on the side of a prompt that is taken for uncached.
//!
//! A model whose layers are of several kinds has a group of blocks for each. A prefix can be used if every group of full
//! attention holds all of its blocks, and every group with a window those that lie in the window before its end.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use foldhash::fast::FixedState;

use super::chain::{ChainHasher, TokenChain, root};
use super::table::Table;
use super::wire::{Attention, EngineHash, Event, Place, Stored, Tier};
use crate::inference::prompt::BlockHash;

/// Blocks that are remembered of an endpoint: 4 million tokens in blocks of 16, in 16 MiB at most. What is stored beyond
/// them is not noted until others are removed.
pub const MOST_BLOCKS: usize = 256 * 1024;
/// Groups of layers that are told apart, one bit each; models have up to seven.
const MOST_GROUPS: u32 = 8;

/// What is known of an endpoint's cache; all threads share it.
#[derive(Debug)]
pub struct HeldBlocks {
    known: ArcSwap<Known>,
    standing: AtomicU8,
    /// How many blocks the writer has noted, for people.
    count: AtomicUsize,
}

/// How far events can be trusted at this moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// None are heard: nothing can be said.
    #[default]
    Deaf,
    /// Some were missed: what they tell is true, and not all.
    Partial,
    /// All since the engine began were seen.
    Whole,
}

/// How much of a prompt an endpoint holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Leading blocks in the accelerator's memory.
    pub device: usize,
    /// Leading blocks in any memory, from where they may have to be fetched.
    pub anywhere: usize,
}

/// What became of an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// Blocks that were noted.
    pub blocks: u32,
    /// Blocks that could not be: the block before them is not known, their size or group is not that of the index, or
    /// there is no room.
    pub skipped: u32,
}

/// Follows the events of one engine.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<HeldBlocks>,
    /// The router's name for each block that is noted, by the engine's.
    names: HashMap<EngineHash, BlockHash, FixedState>,
    hasher: ChainHasher,
}

#[derive(Clone, Debug, Default)]
struct Shape {
    /// Tokens of a block; 0 before the first one.
    block_size: u32,
    /// The groups of full attention, one bit each.
    full: u8,
    /// The other groups, each with the blocks of its window.
    windows: Vec<(u8, usize)>,
}

#[derive(Debug)]
struct Known {
    shape: Shape,
    /// Of each block, the groups that are in the accelerator's memory (the low byte) and elsewhere (the high byte).
    table: Table,
}

impl Default for HeldBlocks {
    fn default() -> Self {
        Self { known: ArcSwap::from_pointee(Known::empty()), standing: AtomicU8::new(0), count: AtomicUsize::new(0) }
    }
}

impl HeldBlocks {
    /// Returns how far the events can be trusted.
    pub fn standing(&self) -> Standing {
        match self.standing.load(Ordering::Relaxed) {
            0 => Standing::Deaf,
            1 => Standing::Partial,
            _ => Standing::Whole,
        }
    }

    /// Returns how many blocks are noted.
    pub fn blocks(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns the tokens of a block; `None` before the first one was heard of.
    pub fn block_size(&self) -> Option<u32> {
        Some(self.known.load().shape.block_size).filter(|size| *size > 0)
    }

    /// Returns how much of a prompt the endpoint holds, in a number of steps that grows with the
    /// logarithm of the answer; with the answer itself where groups have windows.
    pub fn held(&self, chain: &TokenChain) -> Held {
        let known = self.known.load();
        if known.shape.block_size != chain.block_size {
            return Held::default();
        }
        let device = known.run(&chain.blocks, 0, |groups| groups.to_le_bytes()[0]);
        let anywhere = known.run(&chain.blocks, device, |groups| groups.to_le_bytes()[0] | groups.to_le_bytes()[1]);
        Held { device, anywhere }
    }
}

impl Writer {
    /// Makes a writer of what is shared; whatever was noted there is forgotten.
    pub fn new(shared: Arc<HeldBlocks>) -> Self {
        let mut writer = Self { shared, names: HashMap::default(), hasher: ChainHasher::default() };
        writer.forget();
        writer.trust(Standing::Deaf);
        writer
    }

    /// Returns the number of blocks that are noted.
    pub fn blocks(&self) -> usize {
        self.names.len()
    }

    /// Returns about how many bytes the index takes.
    pub fn bytes(&self) -> usize {
        self.names.capacity() * (size_of::<(EngineHash, BlockHash)>() + 1) + self.shared.known.load().table.bytes()
    }

    /// Sets how far the events can be trusted from now on.
    pub fn trust(&self, standing: Standing) {
        self.shared.count.store(self.names.len(), Ordering::Relaxed);
        self.shared.standing.store(standing as u8, Ordering::Relaxed);
    }

    /// Forgets all blocks.
    pub fn forget(&mut self) {
        self.names = HashMap::default();
        self.shared.known.store(Arc::new(Known::empty()));
    }

    /// Notes what an event says.
    pub fn note(&mut self, event: &Event) -> Noted {
        match event {
            Event::Stored(stored) => self.store(stored),
            Event::Removed { hashes, place } => self.remove(hashes, *place),
            Event::Cleared => {
                let blocks = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
                self.forget();
                Noted { blocks, skipped: 0 }
            }
        }
    }

    fn store(&mut self, stored: &Stored) -> Noted {
        let all = u32::try_from(stored.blocks.len()).unwrap_or(u32::MAX);
        let parent = match stored.parent {
            None => Some(root(stored.adapter.as_deref())),
            Some(parent) => self.names.get(&parent).copied(),
        };
        let (Some(mut last), Some(bit), true) = (parent, bit(stored.place), self.fits(stored)) else {
            return Noted { blocks: 0, skipped: all };
        };
        let mut noted = Noted::default();
        for block in &stored.blocks {
            last = self.hasher.follow(last, &block.tokens, &block.extras);
            if self.names.len() >= MOST_BLOCKS && !self.names.contains_key(&block.hash) {
                noted.skipped = all - noted.blocks;
                break;
            }
            if let Some(other) = self.names.insert(block.hash, last).filter(|other| *other != last) {
                // The engine has named another block like this one before, and so that one is gone.
                self.shared.known.load().table.remove(other);
            }
            self.set(last, |groups| groups | bit);
            noted.blocks += 1;
        }
        noted
    }

    fn remove(&mut self, hashes: &[EngineHash], place: Place) -> Noted {
        let mut noted = Noted::default();
        for hash in hashes {
            let (Some(name), Some(bit)) = (self.names.get(hash).copied(), bit(place)) else {
                noted.skipped += 1;
                continue;
            };
            noted.blocks += 1;
            if self.set(name, |groups| groups & !bit) == 0 {
                self.names.remove(hash);
            }
        }
        noted
    }

    /// Returns whether blocks are of the size and groups that the index knows, and learns them where it is new to it.
    fn fits(&self, stored: &Stored) -> bool {
        let known = self.shared.known.load();
        let mut shape = known.shape.clone();
        if shape.block_size == 0 {
            shape.block_size = stored.block_size;
        }
        if shape.block_size != stored.block_size || stored.place.group >= MOST_GROUPS {
            return false;
        }
        let group = 1_u8 << stored.place.group;
        let is_known = shape.full & group != 0 || shape.windows.iter().any(|(other, _)| *other == group);
        if !is_known {
            match stored.attention {
                Attention::Full => shape.full |= group,
                Attention::Window(tokens) => {
                    let blocks = tokens.div_ceil(shape.block_size).max(1);
                    shape.windows.push((group, usize::try_from(blocks).unwrap_or(usize::MAX)));
                }
            }
            let table = known.table.copied(self.names.len() + 1);
            self.shared.known.store(Arc::new(Known { shape, table }));
        }
        true
    }

    /// Changes the groups of a block, and returns them.
    fn set(&self, block: BlockHash, change: impl Fn(u16) -> u16) -> u16 {
        let known = self.shared.known.load();
        let groups = change(known.table.get(block).unwrap_or_default());
        if groups == 0 {
            known.table.remove(block);
        } else if !known.table.set(block, groups) {
            // Full, of blocks or of removed ones: the copy is half full, without the latter.
            let table = known.table.copied(self.names.len() + 1);
            table.set(block, groups);
            self.shared.known.store(Arc::new(Known { shape: known.shape.clone(), table }));
        }
        groups
    }
}

impl Known {
    fn empty() -> Self {
        Self { shape: Shape::default(), table: Table::with_room(0) }
    }

    /// Returns how many leading blocks can be used, at least the `least` that are known to be, where `groups` says which
    /// groups of a block are there.
    fn run(&self, blocks: &[BlockHash], least: usize, groups: impl Fn(u16) -> u8) -> usize {
        let Shape { full, windows, .. } = &self.shape;
        let there = |block: &BlockHash| self.table.get(*block).map(&groups).filter(|there| there & full == *full);
        if !windows.is_empty() {
            return usable(windows, blocks.iter().map_while(there));
        }
        // Engines evict the end of a prompt before its beginning, so that whoever holds a block holds those before it: all
        // before `low` are held, and the one at `high` is not.
        let (mut low, mut high, mut step) = (least, blocks.len(), 1);
        while low + step <= blocks.len() {
            if there(&blocks[low + step - 1]).is_none() {
                high = low + step - 1;
                break;
            }
            low += step;
            step *= 2;
        }
        while low < high {
            let middle = usize::midpoint(low, high);
            if there(&blocks[middle]).is_some() { low = middle + 1 } else { high = middle }
        }
        low
    }
}

/// Returns how many leading blocks can be used, given the groups that hold each of them, where some have windows.
fn usable(windows: &[(u8, usize)], blocks: impl Iterator<Item = u8>) -> usize {
    let mut usable = 0;
    // Of each group with a window, the blocks that are there without a gap before this one.
    let mut rows = vec![0; windows.len()];
    for (place, there) in blocks.enumerate() {
        let mut is_usable = true;
        for ((group, window), row) in windows.iter().zip(&mut rows) {
            *row = if there & group == 0 { 0 } else { *row + 1 };
            is_usable &= *row >= (*window).min(place + 1);
        }
        if is_usable {
            usable = place + 1;
        }
    }
    usable
}

/// Returns the bit of a place; `None` for a group that is not told apart.
fn bit(place: Place) -> Option<u16> {
    let tier = match place.tier {
        Tier::Device => 0,
        Tier::Elsewhere => MOST_GROUPS,
    };
    (place.group < MOST_GROUPS).then(|| 1 << (place.group + tier))
}

#[cfg(test)]
mod tests;
