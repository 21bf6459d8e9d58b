//! What this router has sent to an endpoint and what it learnt from the answers; all worker threads share it.
//!
//! An entry of the ledger is opened in the same step as the pick, so that the next pick knows of it, wherever it is made.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::prefix::PrefixTable;
use super::recent::RecentAdapters;
use super::request::PickRequest;
use crate::inference::prompt::{BLOCK_TOKENS, BlockHash};

/// Blocks that are remembered of each endpoint: 2 million tokens in 256 KiB.
const ROOM: usize = 32 * 1024;
/// Prompts with fewer tokens to compute than this tell nothing of an engine's rate: the rest of the wait outweighs them.
const TELLING: f32 = 768.0;
/// Tokens that are added to what is not computed yet, so that the blocks of a prompt which is are among it.
const MARGIN: u64 = 1024;
/// What a new sample leaves of the older ones.
const FADE: f32 = 0.9;
/// What is thought of an engine's rate before anything was measured, and counts as so much of a measurement after that.
const ASSUMED: Pace = Pace { tokens: 800.0, seconds: 0.1 };
/// The half of a backlog that counts the prompts of all requests.
const ALL: u64 = u32::MAX as u64;
/// What a new prompt leaves of the older ones in the part that is used again.
const FADE_REUSE: f32 = 0.98;

/// What this router knows of its own work at an endpoint.
#[derive(Debug)]
pub struct Ledger {
    prefixes: PrefixTable,
    adapters: RecentAdapters,
    /// Prompt tokens to be computed for requests whose answers have not begun; in the upper half, those of answers that
    /// stream, of which it is known when their prompt is computed.
    backlog: AtomicU64,
    /// Prompt tokens of all entries, and how many of them were taken for cached.
    asked: AtomicU64,
    foreseen: AtomicU64,
    /// The weighted sums of computed tokens and of the seconds that they took.
    pace: Pair,
    /// The weighted sums of cached and of all tokens of prompts that were cached in part.
    reuse: Pair,
}

/// Two `f32` that are read and written as one.
#[derive(Debug, Default)]
struct Pair(AtomicU64);

/// A request in a [`Ledger`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Prompt tokens that the endpoint had to compute before the answer begins, older requests' and this one's.
    ahead: u64,
    /// This request's own part of them.
    uncached: u32,
    /// Whether its answer streams.
    streams: bool,
}

/// Sums over the prompts that an engine had in part.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reuse {
    /// Tokens that were thought to be cached.
    pub cached: f32,
    /// All tokens.
    pub tokens: f32,
}

/// Sums of samples of an engine's rate.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pace {
    /// Prompt tokens computed.
    pub tokens: f32,
    /// Seconds that they took.
    pub seconds: f32,
}

impl Default for Ledger {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            prefixes: PrefixTable::new(ROOM),
            adapters: RecentAdapters::default(),
            backlog: zero(),
            asked: zero(),
            foreseen: zero(),
            pace: Pair::default(),
            reuse: Pair::default(),
        }
    }
}

impl Ledger {
    /// Returns how many prompt tokens the endpoint has cached, where its cache has room for `capacity` tokens.
    pub fn cached(&self, blocks: &[BlockHash], capacity: Option<u64>) -> u32 {
        let held = self.prefixes.held(blocks, self.blocks(capacity));
        u32::try_from(held).unwrap_or(u32::MAX).saturating_mul(BLOCK_TOKENS)
    }

    /// Returns how many prompt tokens the endpoint is about to have cached: those that it was sent so lately that it may
    /// not have computed them yet. An engine tells of blocks before the answer begins.
    pub fn untold(&self, blocks: &[BlockHash]) -> u32 {
        match self.backlog() {
            0 => 0,
            backlog => self.cached(blocks, Some(backlog + MARGIN)),
        }
    }

    /// Forgets what the endpoint was sent: its cache is known to be empty.
    pub fn forget_prompts(&self) {
        self.prefixes.clear();
    }

    /// Opens an entry for a request that goes to the endpoint, of whose prompt `cached` tokens are in its cache.
    pub fn open(&self, request: &PickRequest<'_>, cached: u32, capacity: Option<u64>) -> Entry {
        let known = self.prefixes.note(request.prefix, self.blocks(capacity));
        if known > 0 {
            self.note_reuse(known.saturating_mul(BLOCK_TOKENS), request.tokens);
        }
        if let Some(adapter) = request.adapter {
            self.adapters.note(adapter);
        }
        let uncached = request.tokens.saturating_sub(cached);
        self.asked.fetch_add(request.tokens.into(), Ordering::Relaxed);
        self.foreseen.fetch_add((request.tokens - uncached).into(), Ordering::Relaxed);
        let entry = Entry { ahead: 0, uncached, streams: request.streams };
        let before = self.backlog.fetch_add(entry.in_backlog(), Ordering::Relaxed);
        Entry { ahead: (before & ALL) + u64::from(uncached), ..entry }
    }

    /// Notes a request that comes to the endpoint with its prompt computed elsewhere: it will have it cached, and has
    /// nothing to compute.
    pub fn receive(&self, request: &PickRequest<'_>, capacity: Option<u64>) {
        self.prefixes.note(request.prefix, self.blocks(capacity));
        if let Some(adapter) = request.adapter {
            self.adapters.note(adapter);
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a part needs no more than seven digits")]
    fn note_reuse(&self, cached: u32, tokens: u32) {
        let (known, all) = self.reuse.load();
        self.reuse.store(known * FADE_REUSE + cached.min(tokens) as f32, all * FADE_REUSE + tokens as f32);
    }

    fn blocks(&self, capacity: Option<u64>) -> u32 {
        let room = u32::try_from(self.prefixes.room()).unwrap_or(u32::MAX);
        capacity.map_or(room, |tokens| u32::try_from(tokens / u64::from(BLOCK_TOKENS)).unwrap_or(u32::MAX))
    }

    /// Notes that the answer began, so long after the entry was opened; `is_telling` if it begins with the first token.
    pub fn begin(&self, entry: &Entry, waited: Duration, is_telling: bool) {
        // Whoever waits for room sees this, or is seen by whoever looks for those who wait after it.
        self.backlog.fetch_sub(entry.in_backlog(), Ordering::SeqCst);
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than seven digits")]
        let tokens = entry.ahead as f32;
        if is_telling && tokens >= TELLING {
            let (all, seconds) = self.pace.load();
            self.pace.store(all * FADE + tokens, seconds * FADE + waited.as_secs_f32());
        }
    }

    /// Closes an entry whose answer never began.
    pub fn abandon(&self, entry: &Entry) {
        self.backlog.fetch_sub(entry.in_backlog(), Ordering::Relaxed);
    }

    /// Notes that an answer of this many tokens took room in the endpoint's cache.
    pub fn pass(&self, tokens: u32) {
        self.prefixes.pass(tokens.div_ceil(BLOCK_TOKENS));
    }

    /// Returns how many bytes of memory this takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>() + self.prefixes.room() * size_of::<u64>()
    }

    /// Returns whether an adapter is among the last `slots` that this router has sent there.
    pub fn holds_adapter(&self, adapter: &str, slots: usize) -> bool {
        self.adapters.holds(adapter, slots)
    }

    /// Returns how many prompt tokens are to be computed for requests whose answers have not begun.
    pub fn backlog(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed) & ALL
    }

    /// Returns for how many seconds the endpoint has prompts to compute, as far as that is known: of an answer that does
    /// not stream nobody sees when its prompt is computed.
    pub fn busy(&self) -> f32 {
        match self.backlog.load(Ordering::SeqCst) >> ALL.count_ones() {
            0 => 0.0,
            tokens => self.pace().seconds_for(tokens),
        }
    }

    /// Returns the prompt tokens that the endpoint was sent, and how many of them were taken for cached.
    pub fn foreseen(&self) -> (u64, u64) {
        (self.asked.load(Ordering::Relaxed), self.foreseen.load(Ordering::Relaxed))
    }

    /// Returns what is known of the engine's rate.
    pub fn pace(&self) -> Pace {
        let (tokens, seconds) = self.pace.load();
        Pace { tokens, seconds }
    }

    /// Returns which part was cached of prompts that were not new to the endpoint.
    pub fn reuse(&self) -> Reuse {
        let (cached, tokens) = self.reuse.load();
        Reuse { cached, tokens }
    }
}

impl Pace {
    /// Returns how many seconds so many prompt tokens take, before anything was measured by what is assumed.
    #[expect(clippy::cast_precision_loss, reason = "an estimate needs no more than seven digits")]
    pub fn seconds_for(self, tokens: u64) -> f32 {
        tokens as f32 * (self.seconds + ASSUMED.seconds) / (self.tokens + ASSUMED.tokens)
    }
}

impl Entry {
    /// Returns what it adds to the backlog.
    fn in_backlog(self) -> u64 {
        let tokens = u64::from(self.uncached);
        if self.streams { tokens | tokens << ALL.count_ones() } else { tokens }
    }
}

impl Pair {
    fn load(&self) -> (f32, f32) {
        let bits = self.0.load(Ordering::Relaxed);
        let half = |bits: u64| f32::from_bits(u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default());
        (half(bits >> 32), half(bits))
    }

    fn store(&self, first: f32, second: f32) {
        self.0.store(u64::from(first.to_bits()) << 32 | u64::from(second.to_bits()), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduling::request::RequestFacts;

    #[test]
    fn of_answers_that_stream_it_is_known_how_long_an_endpoint_computes_their_prompts() {
        let ledger = Ledger::default();
        let facts = |streams| RequestFacts { tokens: 4000, streams, ..RequestFacts::default() };
        let whole = ledger.open(&facts(false).attempt(&[]), 0, None);
        assert_eq!((ledger.backlog(), ledger.busy()), (4000, 0.0));
        let streamed = ledger.open(&facts(true).attempt(&[]), 0, None);
        assert_eq!(
            (ledger.backlog(), (ledger.busy() * 10.0).round()),
            (8000, 5.0),
            "8 000 tokens a second are assumed"
        );
        ledger.begin(&streamed, Duration::from_secs(1), true);
        assert_eq!((ledger.backlog(), ledger.busy()), (4000, 0.0));
        ledger.abandon(&whole);
        assert_eq!(ledger.backlog(), 0);
    }
}
