//! Which prompts' tokens are known, found by what a prompt begins with.
//!
//! No request waits for its tokens. A prompt whose tokens are not known is looked up among those of which an engine was
//! asked before: system prompts, documents and the turns of a chat come again and again. How much the two have in common
//! is told by the blocks of their texts, and how much of the known one an endpoint holds by its tokens.

use std::collections::VecDeque;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::chain::TokenChain;
use super::index::Held;
use super::table::Table;
use crate::inference::prompt::{BLOCK_TOKENS, BlockHash};

/// Prompts that are known at the same time.
const MOST_PROMPTS: usize = 1024;
/// Hashes of texts and of tokens that are kept of them together: 8 MiB, and 2 MiB to find them.
const MOST_HASHES: usize = 1024 * 1024;
/// Hashes of texts that are kept of them together; there is one for each 64 tokens or so.
const MOST_TEXTS: usize = 64 * 1024;

/// A prompt whose tokens are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownPrompt {
    /// The blocks of its text.
    pub texts: Vec<BlockHash>,
    /// Its length, in tokens as they are estimated from its text.
    pub estimate: u32,
    /// The blocks of its tokens.
    pub chain: TokenChain,
}

/// A known prompt that begins like another one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Likeness {
    /// The known prompt.
    pub prompt: Arc<KnownPrompt>,
    /// How many blocks of text both begin with, at least one.
    pub texts: usize,
}

/// The known prompts of a pool; all threads share them.
#[derive(Debug)]
pub struct KnownPrompts {
    /// The place of the prompt that a block of text belongs to.
    table: ArcSwap<Table>,
    places: Box<[ArcSwapOption<KnownPrompt>]>,
}

/// Adds prompts to those that are known, and forgets the oldest.
#[derive(Debug)]
pub struct Learner {
    shared: Arc<KnownPrompts>,
    /// The places in use, the oldest first.
    order: VecDeque<u16>,
    texts: usize,
    hashes: usize,
}

impl Default for KnownPrompts {
    fn default() -> Self {
        Self {
            table: ArcSwap::from_pointee(Table::with_room(0)),
            places: (0..MOST_PROMPTS).map(|_| ArcSwapOption::empty()).collect(),
        }
    }
}

impl KnownPrompts {
    /// Finds the known prompt that has the most in common with a prompt whose text has these blocks. Of the blocks of a
    /// known prompt all that precede one are found as well, so that the last one is searched for by halving.
    pub fn find(&self, texts: &[BlockHash]) -> Option<Likeness> {
        let table = self.table.load();
        let at = |place: usize| {
            let slot = table.get(texts[place])?;
            let prompt = self.places.get(usize::from(slot))?.load_full()?;
            (prompt.texts.get(place) == Some(&texts[place])).then_some(prompt)
        };
        let (mut low, mut high) = (0, texts.len());
        let mut found = None;
        while low < high {
            let middle = usize::midpoint(low, high);
            match at(middle) {
                Some(prompt) => {
                    low = middle + 1;
                    found = Some(Likeness { prompt, texts: low });
                }
                None => high = middle,
            }
        }
        found
    }
}

impl Likeness {
    /// Returns how many tokens, as they are estimated, both prompts begin with.
    pub fn shared(&self) -> u32 {
        if self.texts == self.prompt.texts.len() {
            return self.prompt.estimate;
        }
        u32::try_from(self.texts).unwrap_or(u32::MAX).saturating_mul(BLOCK_TOKENS).min(self.prompt.estimate)
    }

    /// Returns how many of the shared tokens, as they are estimated, an endpoint has cached that holds so much of the
    /// known prompt. What has to be fetched from elsewhere counts half.
    pub fn cached(&self, held: Held) -> u32 {
        let chain = &self.prompt.chain;
        let elsewhere = held.anywhere.saturating_sub(held.device);
        let tokens = (held.device + elsewhere / 2) as u64 * u64::from(chain.block_size);
        // The last tokens of a prompt make no block.
        let whole = chain.blocks.len() as u64 * u64::from(chain.block_size);
        let part = tokens * u64::from(self.prompt.estimate) / whole.max(1);
        u32::try_from(part).unwrap_or(u32::MAX).min(self.shared())
    }
}

impl Learner {
    /// Makes a learner for prompts that are shared; whatever was known is forgotten.
    pub fn new(shared: Arc<KnownPrompts>) -> Self {
        for place in &shared.places {
            place.store(None);
        }
        shared.table.store(Arc::new(Table::with_room(0)));
        Self { shared, order: VecDeque::new(), texts: 0, hashes: 0 }
    }

    /// Adds a prompt; one without a block of text or of tokens, or that is too large, is of no use.
    pub fn learn(&mut self, prompt: KnownPrompt) {
        let (texts, hashes) = prompt.size();
        if prompt.texts.is_empty() || prompt.chain.blocks.is_empty() || texts > MOST_TEXTS || hashes > MOST_HASHES {
            return;
        }
        if self.order.is_empty() {
            self.shared.table.store(Arc::new(Table::with_room(MOST_TEXTS * 2)));
        }
        while self.order.len() >= MOST_PROMPTS || self.texts + texts > MOST_TEXTS || self.hashes + hashes > MOST_HASHES
        {
            self.forget_oldest();
        }
        let Some(place) = self.free() else { return };
        let table = self.fresh_table();
        let prompt = Arc::new(prompt);
        if let Some(free) = self.shared.places.get(usize::from(place)) {
            free.store(Some(Arc::clone(&prompt)));
        }
        for text in &prompt.texts {
            table.set(*text, place);
        }
        self.order.push_back(place);
        self.texts += texts;
        self.hashes += hashes;
    }

    fn forget_oldest(&mut self) {
        let Some(place) = self.order.pop_front() else { return };
        let Some(prompt) = self.shared.places.get(usize::from(place)).and_then(|oldest| oldest.swap(None)) else {
            return;
        };
        let table = self.shared.table.load();
        for text in &prompt.texts {
            // What younger prompts begin with as well is theirs.
            if table.get(*text) == Some(place) {
                table.remove(*text);
            }
        }
        let (texts, hashes) = prompt.size();
        self.texts -= texts;
        self.hashes -= hashes;
    }

    fn free(&self) -> Option<u16> {
        let is_free = |place: &usize| self.shared.places[*place].load().is_none();
        (0..MOST_PROMPTS).find(is_free).and_then(|place| u16::try_from(place).ok())
    }

    /// Returns the table, without the places of removed entries where those have filled it.
    fn fresh_table(&self) -> Arc<Table> {
        let table = self.shared.table.load_full();
        if !table.is_crowded(MOST_TEXTS) {
            return table;
        }
        let fresh = Arc::new(table.copied(MOST_TEXTS * 2));
        self.shared.table.store(Arc::clone(&fresh));
        fresh
    }
}

impl KnownPrompt {
    /// Returns the number of its blocks of text, and of all its hashes.
    fn size(&self) -> (usize, usize) {
        (self.texts.len(), self.texts.len() + self.chain.blocks.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes a prompt of so many blocks of text that begins as the others of its family, and ends in its own way.
    fn prompt(family: u64, own: u64, shared: u64, blocks: u64) -> KnownPrompt {
        let number = |block: u64| if block < shared { family << 32 | block } else { own << 48 | family << 32 | block };
        let texts: Vec<_> = (0..blocks).map(|block| BlockHash(0).followed_by(&number(block).to_be_bytes())).collect();
        let tokens: Vec<u32> = (0..u32::try_from(blocks).unwrap() * 32).collect();
        KnownPrompt {
            texts,
            estimate: u32::try_from(blocks).unwrap() * 64,
            chain: TokenChain::of(&tokens, 16, None, None),
        }
    }

    #[test]
    fn a_prompt_is_found_by_what_it_begins_with() {
        let mut learner = Learner::new(Arc::default());
        let shared = Arc::clone(&learner.shared);
        let texts = |family, own, blocks| prompt(family, own, 10, blocks).texts;
        assert_eq!(shared.find(&texts(1, 1, 20)), None);
        for own in 1..4 {
            learner.learn(prompt(1, own, 10, 20));
        }
        let found = |family, own, blocks| shared.find(&texts(family, own, blocks)).map(|likeness| likeness.texts);
        assert_eq!(
            (found(1, 2, 20), found(1, 2, 15), found(1, 7, 20), found(2, 1, 20)),
            (Some(20), Some(15), Some(10), None)
        );
        assert_eq!(shared.find(&[]), None);
    }

    #[test]
    fn what_an_endpoint_holds_is_told_in_estimated_tokens() {
        let likeness = |texts| Likeness { prompt: Arc::new(prompt(1, 1, 10, 20)), texts };
        // 640 tokens in 40 blocks were estimated to be 1280.
        let held = |device, anywhere| Held { device, anywhere };
        assert_eq!(likeness(20).cached(held(40, 40)), 1280);
        assert_eq!(likeness(20).cached(held(10, 10)), 320);
        assert_eq!(likeness(20).cached(held(0, 10)), 160);
        assert_eq!(likeness(10).cached(held(40, 40)), 640, "the rest of the known prompt is not that of the other");
        assert_eq!(likeness(10).cached(Held::default()), 0);
    }

    #[test]
    fn the_oldest_prompts_are_forgotten() {
        let mut learner = Learner::new(Arc::default());
        let shared = Arc::clone(&learner.shared);
        for own in 0..5_000 {
            learner.learn(prompt(1, own + 1, 1, 50));
        }
        let found = |own| shared.find(&prompt(1, own, 1, 50).texts).map(|likeness| likeness.texts);
        assert_eq!((found(1), found(4_000), found(5_000)), (Some(1), Some(50), Some(50)));
        assert_eq!(learner.order.len(), MOST_PROMPTS);
        learner.learn(prompt(2, 1, 0, 60_000));
        assert!(learner.texts <= MOST_TEXTS && learner.hashes <= MOST_HASHES);
        assert_eq!((found(4_000), found(5_000)), (Some(1), Some(50)), "as many as there is room for");
        learner.learn(prompt(3, 1, 0, MOST_TEXTS as u64 + 1));
        assert!(shared.find(&prompt(3, 1, 0, 10).texts).is_none(), "too large");
    }
}
