//! Which beginnings of prompts are so common that no single endpoint could serve all of their requests.
//!
//! A system prompt that every request has says nothing about who should get one of them; what follows it does. The first
//! block of a prompt that is not common is its *mark*: requests of one tenant, document or conversation have one mark.
//! All replicas of the router see the same kind of traffic, and so they agree on marks without talking to each other.
//!
//! Counted are the first 64 blocks of each prompt, and further ones in steps that grow with the depth, in a table of
//! counts that several blocks may share. Marks are remembered one by one. Worker threads share both, with plain loads and
//! stores: a race loses one count.

use std::iter::successors;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};

use super::request::PickRequest;
use crate::inference::prompt::BlockHash;

/// Counts of blocks: 32 KiB.
const CELLS: usize = 16 * 1024;
/// Marks that are remembered: 64 KiB.
const MARKS: usize = 4096;
/// Places that a mark may have.
const WAYS: usize = 8;
/// Requests after which all counts are halved, so that the past is forgotten.
const WINDOW: u32 = 4096;
/// Up to this depth, every block is counted.
const DENSE: usize = 64;
/// Requests that prove nothing yet.
const FEW: u32 = 8;
/// How likely it has to be that a new mark comes back for marks to count that were seen only once.
const LIKELY: f32 = 0.5;

/// Counts of the beginnings of prompts of one pool.
#[derive(Debug, Default)]
pub struct Commons {
    /// Made with the first prompt, so that pools without prompts cost nothing.
    tables: OnceLock<Tables>,
    requests: AtomicU32,
    /// Requests whose mark was seen before.
    familiar: AtomicU32,
}

/// What the requests of one tenant, document or conversation have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The first block of the prompt that is not common.
    pub block: BlockHash,
    /// Whether an earlier request had it.
    pub is_familiar: bool,
}

#[derive(Debug)]
struct Tables {
    cells: Box<[AtomicU16]>,
    marks: Box<[Seen]>,
}

/// A mark that was seen, and how often.
#[derive(Debug, Default)]
struct Seen {
    block: AtomicU64,
    count: AtomicU32,
}

impl Commons {
    /// Counts a request to a pool of so many endpoints, and returns its mark: what the client says, or else the first block
    /// of the prompt that less than an endpoint's share of the requests has; `None` for a prompt that is common as a whole.
    pub fn note(&self, request: &PickRequest<'_>, endpoints: usize) -> Option<Mark> {
        let blocks = request.prefix;
        if blocks.is_empty() && request.mark.is_none() {
            return None;
        }
        let tables = self.tables.get_or_init(Tables::new);
        for depth in depths(blocks.len()) {
            let cell = tables.cell(blocks[depth - 1]);
            cell.store(cell.load(Ordering::Relaxed).saturating_add(1), Ordering::Relaxed);
        }
        if self.requests.fetch_add(1, Ordering::Relaxed) + 1 == WINDOW {
            self.halve(tables);
        }
        let block = request.mark.or_else(|| self.find(tables, blocks, endpoints))?;
        let is_familiar = tables.remember(block);
        self.familiar.fetch_add(u32::from(is_familiar), Ordering::Relaxed);
        Some(Mark { block, is_familiar })
    }

    /// Returns a number that changes with each request.
    pub fn requests(&self) -> u32 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Returns the part of the requests whose mark was seen before; the first few count as if they were.
    pub fn familiarity(&self) -> f32 {
        let count = |count: &AtomicU32| (count.load(Ordering::Relaxed) + FEW) as f32;
        count(&self.familiar) / count(&self.requests)
    }

    /// Returns how many marks there may be that were not seen yet, which those that were seen once and twice tell (Chao,
    /// *Nonparametric estimation of the number of classes in a population*, 1984).
    pub fn unseen(&self) -> f32 {
        let Some(tables) = self.tables.get() else { return 0.0 };
        let seen =
            |times| tables.marks.iter().filter(|seen| seen.count.load(Ordering::Relaxed) == times).count() as f32;
        let (once, twice) = (seen(1), seen(2));
        once * once / (2.0 * twice + 1.0)
    }

    /// Returns how likely it is that a mark which is seen for the first time will be seen again before it is forgotten.
    ///
    /// That goes by [how many](Self::unseen) there may be: a few hundred tenants have shown some marks twice after a few
    /// dozen requests, while prompts that nobody repeats never do.
    pub fn return_chance(&self) -> f32 {
        WINDOW as f32 / (WINDOW as f32 + self.unseen())
    }

    /// Returns the marks that were seen of late; those that were seen once only where new marks are likely to come back.
    pub fn marks(&self) -> Vec<BlockHash> {
        let Some(tables) = self.tables.get() else { return Vec::new() };
        let least = if self.return_chance() > LIKELY { 1 } else { 2 };
        let familiar = tables.marks.iter().filter(|seen| seen.count.load(Ordering::Relaxed) >= least);
        familiar.map(|seen| BlockHash(seen.block.load(Ordering::Relaxed))).collect()
    }

    fn find(&self, tables: &Tables, blocks: &[BlockHash], endpoints: usize) -> Option<BlockHash> {
        let endpoints = u32::try_from(endpoints.max(1)).unwrap_or(u32::MAX);
        let share = FEW + self.requests.load(Ordering::Relaxed) / endpoints;
        let is_rare = |block: &BlockHash| u32::from(tables.cell(*block).load(Ordering::Relaxed)) <= share;
        depths(blocks.len()).map(|depth| blocks[depth - 1]).find(is_rare)
    }

    fn halve(&self, tables: &Tables) {
        self.requests.store(WINDOW / 2, Ordering::Relaxed);
        self.familiar.store(self.familiar.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
        for cell in &tables.cells {
            cell.store(cell.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
        }
        for Seen { count, .. } in &tables.marks {
            count.store(count.load(Ordering::Relaxed) / 2, Ordering::Relaxed);
        }
    }
}

impl Tables {
    fn new() -> Self {
        Self {
            cells: (0..CELLS).map(|_| AtomicU16::new(0)).collect(),
            marks: (0..MARKS).map(|_| Seen::default()).collect(),
        }
    }

    fn cell(&self, block: BlockHash) -> &AtomicU16 {
        &self.cells[usize::try_from(block.0 >> 32).unwrap_or_default() % CELLS]
    }

    /// Returns the places that a mark may have.
    fn set(&self, block: BlockHash) -> &[Seen] {
        let start = usize::try_from(block.0).unwrap_or(usize::MAX) % (MARKS / WAYS) * WAYS;
        &self.marks[start..start + WAYS]
    }

    /// Counts a mark, in place of the one that was seen least where there is no room; returns whether it was there.
    fn remember(&self, block: BlockHash) -> bool {
        let set = self.set(block);
        let count = |seen: &Seen| seen.count.load(Ordering::Relaxed);
        let found = set.iter().find(|seen| seen.block.load(Ordering::Relaxed) == block.0);
        if let Some(seen) = found.or_else(|| set.iter().min_by_key(|seen| count(seen))) {
            seen.count.store(found.map_or(1, |seen| count(seen).saturating_add(1)), Ordering::Relaxed);
            seen.block.store(block.0, Ordering::Relaxed);
        }
        found.is_some()
    }
}

/// Returns the depths at which a prompt of so many blocks is counted, from 1.
fn depths(blocks: usize) -> impl Iterator<Item = usize> {
    let next = |depth: &usize| Some(depth + if *depth < DENSE { 1 } else { depth / 8 });
    successors(Some(1), next).take_while(move |depth| *depth <= blocks)
}

#[cfg(test)]
mod tests;
