//! The paged KV cache of an engine: blocks that requests share while they begin alike, and the least recently used of
//! those that nobody uses is evicted.

use std::collections::{BTreeMap, HashMap};

/// A KV cache.
pub struct Cache {
    /// Blocks that it has room for.
    capacity: usize,
    blocks: HashMap<u64, Block>,
    /// Blocks that no request uses, by when they were last used.
    free: BTreeMap<u64, u64>,
    /// Blocks that only one request can use: its last, incomplete one and those of its answer.
    private: usize,
    clock: u64,
}

#[derive(Default)]
struct Block {
    users: u32,
    /// When it was last given back.
    stamp: u64,
}

impl Cache {
    /// Makes an empty cache.
    pub fn new(capacity: usize) -> Self {
        Self { capacity, blocks: HashMap::new(), free: BTreeMap::new(), private: 0, clock: 0 }
    }

    /// Returns how many blocks can be had, by eviction if need be.
    pub fn available(&self) -> usize {
        (self.capacity + self.free.len()).saturating_sub(self.blocks.len() + self.private)
    }

    /// Returns the part of the cache that requests in flight use.
    pub fn usage(&self) -> f64 {
        let used = self.blocks.len() - self.free.len() + self.private;
        used as f64 / self.capacity as f64
    }

    /// Returns how many leading blocks of a prompt are there.
    pub fn held(&self, blocks: &[u64]) -> usize {
        blocks.iter().take_while(|block| self.blocks.contains_key(block)).count()
    }

    /// Takes a block into use, if it is there.
    pub fn share(&mut self, block: u64) -> bool {
        let Some(found) = self.blocks.get_mut(&block) else { return false };
        if found.users == 0 {
            self.free.remove(&found.stamp);
        }
        found.users += 1;
        true
    }

    /// Takes so many blocks into use that only one request can use.
    pub fn take_private(&mut self, count: usize) {
        self.private += count;
        self.make_room();
    }

    /// Lets others use a block that was private. Another request may have computed the same one in the meantime: then that
    /// one is used.
    pub fn publish(&mut self, block: u64) {
        self.private = self.private.saturating_sub(1);
        if !self.share(block) {
            self.blocks.insert(block, Block { users: 1, stamp: 0 });
        }
    }

    /// Gives back private blocks.
    pub fn drop_private(&mut self, count: usize) {
        self.private = self.private.saturating_sub(count);
    }

    /// Gives a block back. It stays until its room is needed.
    pub fn give_back(&mut self, block: u64) {
        let Some(found) = self.blocks.get_mut(&block) else { return };
        found.users = found.users.saturating_sub(1);
        if found.users == 0 {
            self.clock += 1;
            found.stamp = self.clock;
            self.free.insert(self.clock, block);
        }
    }

    fn make_room(&mut self) {
        while self.blocks.len() + self.private > self.capacity {
            let Some((_, block)) = self.free.pop_first() else { return };
            self.blocks.remove(&block);
        }
    }
}
