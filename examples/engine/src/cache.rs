//! The KV cache of an engine that has one: blocks of tokens, the least recently used of which make room for new ones.
//!
//! A cache tells of each change as vLLM and SGLang do, by [`publisher::Publisher`]. Engines without the port for that
//! have no cache: they take every prompt for a new one.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher, RandomState},
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde_json::Value;
use tokio::sync::mpsc;

mod event;
mod publisher;
mod tokens;

pub(crate) use event::Event;
pub(crate) use publisher::Publisher;
pub(crate) use tokens::{Prompt, tokenize};

/// Tokens of a block.
pub(crate) const BLOCK: usize = 16;

/// The cache of one engine.
#[derive(Debug)]
pub(crate) struct Cache {
    blocks: Mutex<Blocks>,
    events: mpsc::UnboundedSender<Vec<Event>>,
}

#[derive(Debug)]
struct Blocks {
    /// Names blocks in a way of this engine's own, as real ones do.
    names: RandomState,
    room: usize,
    held: HashMap<u64, Use>,
    /// The held blocks, those that make room first in front: of a prompt the end.
    order: BTreeSet<(Use, u64)>,
    now: u64,
}

/// When a block was used, and how far from the beginning of its prompt it is.
type Use = (u64, Reverse<usize>);

impl Cache {
    /// Makes an empty cache with room for so many tokens, which tells of its changes.
    pub(crate) fn new(tokens: u64, events: mpsc::UnboundedSender<Vec<Event>>) -> Self {
        let room = usize::try_from(tokens).unwrap_or(usize::MAX) / BLOCK;
        let (names, held, order) = (RandomState::new(), HashMap::new(), BTreeSet::new());
        Self { blocks: Mutex::new(Blocks { names, room, held, order, now: 0 }), events }
    }

    /// Computes a prompt: stores what was not cached, and returns how many of its tokens were.
    pub(crate) fn compute(&self, prompt: &Prompt) -> u64 {
        let mut blocks = self.lock();
        let (cached, events) = blocks.compute(prompt);
        self.tell(events);
        (cached * BLOCK) as u64
    }

    /// Empties the cache, as `/reset_prefix_cache` does.
    pub(crate) fn clear(&self) {
        let mut blocks = self.lock();
        blocks.held.clear();
        blocks.order.clear();
        self.tell(vec![Event::Cleared]);
    }

    fn tell(&self, events: Vec<Event>) {
        if !events.is_empty() {
            // Without a publisher there is nobody to tell.
            drop(self.events.send(events));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Blocks {
    fn compute(&mut self, prompt: &Prompt) -> (usize, Vec<Event>) {
        self.now += 1;
        let names = self.name(prompt);
        let cached = names.iter().take_while(|name| self.held.contains_key(name)).count();
        for (place, name) in names.iter().enumerate().take(self.room) {
            self.touch(*name, (self.now, Reverse(place)));
        }
        let mut events = Vec::new();
        let new = cached..names.len().min(self.room);
        if !new.is_empty() {
            events.push(Event::Stored {
                parent: cached.checked_sub(1).map(|place| names[place]),
                tokens: prompt.tokens[new.start * BLOCK..new.end * BLOCK].to_vec(),
                hashes: names[new].to_vec(),
                adapter: prompt.adapter.clone(),
                salt: prompt.salt.clone().filter(|_| cached == 0),
            });
        }
        let removed = self.make_room();
        if !removed.is_empty() {
            events.push(Event::Removed { hashes: removed });
        }
        (cached, events)
    }

    fn name(&self, prompt: &Prompt) -> Vec<u64> {
        let mut last = self.names.hash_one((&prompt.adapter, &prompt.salt));
        let blocks = prompt.tokens.chunks_exact(BLOCK).map(|tokens| {
            last = self.names.hash_one((last, tokens));
            last
        });
        blocks.collect()
    }

    fn touch(&mut self, name: u64, used: Use) {
        if let Some(before) = self.held.insert(name, used) {
            self.order.remove(&(before, name));
        }
        self.order.insert((used, name));
    }

    fn make_room(&mut self) -> Vec<u64> {
        let mut removed = Vec::new();
        while self.held.len() > self.room {
            let Some((_, name)) = self.order.pop_first() else { break };
            self.held.remove(&name);
            removed.push(name);
        }
        removed
    }
}

/// Reads the prompt of a body.
pub(crate) fn prompt(body: &[u8], adapter: Option<&str>) -> Option<Prompt> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let salt = body.get("cache_salt").and_then(Value::as_str).map(str::to_owned);
    Some(Prompt { tokens: tokenize(&body)?, adapter: adapter.map(str::to_owned), salt })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(first: u32, blocks: u32) -> Prompt {
        Prompt { tokens: (first..first + blocks * 16 + 3).collect(), adapter: None, salt: None }
    }

    #[test]
    fn a_cache_holds_what_was_used_last_and_tells_of_every_change() {
        let (sender, mut events) = mpsc::unbounded_channel();
        let cache = Cache::new(16 * 8, sender);
        assert_eq!(cache.compute(&prompt(0, 6)), 0);
        assert_eq!(cache.compute(&prompt(0, 6)), 96);
        assert_eq!(cache.compute(&prompt(1000, 4)), 0, "whose four blocks push out two");
        assert_eq!(cache.compute(&prompt(0, 6)), 64);
        cache.clear();
        assert_eq!(cache.compute(&prompt(0, 1)), 0);
        let mut counts = Vec::new();
        while let Ok(events) = events.try_recv() {
            counts.extend(events.iter().map(|event| match event {
                Event::Stored { hashes, .. } => hashes.len().to_string(),
                Event::Removed { hashes } => format!("-{}", hashes.len()),
                Event::Cleared => "0".to_owned(),
            }));
        }
        assert_eq!(counts.join(" "), "6 4 -2 2 -2 0 1");
    }

    #[test]
    fn adapters_and_salts_share_nothing() {
        let cache = Cache::new(1 << 20, mpsc::unbounded_channel().0);
        let of = |adapter: Option<&str>, salt: Option<&str>| Prompt {
            adapter: adapter.map(str::to_owned),
            salt: salt.map(str::to_owned),
            ..prompt(0, 4)
        };
        for (adapter, salt) in [(None, None), (Some("a"), None), (None, Some("s")), (Some("a"), Some("s"))] {
            assert_eq!(cache.compute(&of(adapter, salt)), 0);
            assert_eq!(cache.compute(&of(adapter, salt)), 64);
        }
    }
}
