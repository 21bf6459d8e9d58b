//! What this router has sent to an endpoint and what it learnt from the answers; all worker threads share it.
//!
//! An entry of the ledger is opened in the same step as the pick, so that the next pick knows of it, wherever it is made.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::prefix::PrefixTable;
use super::request::PickRequest;
use crate::inference::prompt::{BLOCK_TOKENS, BlockHash};

/// Blocks that are remembered of each endpoint: 2 million tokens in 256 KiB.
const ROOM: usize = 32 * 1024;
/// Prompts with fewer tokens to compute than this tell nothing of an engine's rate: the rest of the wait outweighs them.
const TELLING: f32 = 768.0;
/// What a new sample leaves of the older ones.
const FADE: f32 = 0.9;

/// What this router knows of its own work at an endpoint.
#[derive(Debug)]
pub struct Ledger {
    prefixes: PrefixTable,
    /// Prompt tokens to be computed for requests whose answers have not begun.
    backlog: AtomicU64,
    /// The weighted sums of computed tokens and of the seconds that they took, two `f32` in one.
    pace: AtomicU64,
}

/// A request in a [`Ledger`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Prompt tokens that the endpoint had to compute before the answer begins, older requests' and this one's.
    ahead: u64,
    /// This request's own part of them.
    uncached: u32,
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
        Self { prefixes: PrefixTable::new(ROOM), backlog: AtomicU64::new(0), pace: AtomicU64::new(0) }
    }
}

impl Ledger {
    /// Returns how many prompt tokens the endpoint has cached, where its cache has room for `capacity` tokens.
    pub fn cached(&self, blocks: &[BlockHash], capacity: Option<u64>) -> u32 {
        let held = self.prefixes.held(blocks, self.blocks(capacity));
        u32::try_from(held).unwrap_or(u32::MAX).saturating_mul(BLOCK_TOKENS)
    }

    /// Opens an entry for a request that goes to the endpoint, of whose prompt `cached` tokens are in its cache.
    pub fn open(&self, request: &PickRequest<'_>, cached: u32, capacity: Option<u64>) -> Entry {
        self.prefixes.note(request.prefix, self.blocks(capacity));
        let uncached = request.tokens.saturating_sub(cached);
        let ahead = self.backlog.fetch_add(uncached.into(), Ordering::Relaxed) + u64::from(uncached);
        Entry { ahead, uncached }
    }

    fn blocks(&self, capacity: Option<u64>) -> u32 {
        let room = u32::try_from(self.prefixes.room()).unwrap_or(u32::MAX);
        capacity.map_or(room, |tokens| u32::try_from(tokens / u64::from(BLOCK_TOKENS)).unwrap_or(u32::MAX))
    }

    /// Notes that the answer began, so long after the entry was opened; `is_telling` if it begins with the first token.
    pub fn begin(&self, entry: &Entry, waited: Duration, is_telling: bool) {
        self.backlog.fetch_sub(entry.uncached.into(), Ordering::Relaxed);
        #[expect(clippy::cast_precision_loss, reason = "a rate needs no more than seven digits")]
        let tokens = entry.ahead as f32;
        if is_telling && tokens >= TELLING {
            let pace = self.pace();
            let pace =
                Pace { tokens: pace.tokens * FADE + tokens, seconds: pace.seconds * FADE + waited.as_secs_f32() };
            self.pace.store(pace.to_bits(), Ordering::Relaxed);
        }
    }

    /// Closes an entry whose answer never began.
    pub fn abandon(&self, entry: &Entry) {
        self.backlog.fetch_sub(entry.uncached.into(), Ordering::Relaxed);
    }

    /// Notes that an answer of this many tokens took room in the endpoint's cache.
    pub fn pass(&self, tokens: u32) {
        self.prefixes.pass(tokens.div_ceil(BLOCK_TOKENS));
    }

    /// Returns how many prompt tokens are to be computed for requests whose answers have not begun.
    pub fn backlog(&self) -> u64 {
        self.backlog.load(Ordering::Relaxed)
    }

    /// Returns what is known of the engine's rate.
    pub fn pace(&self) -> Pace {
        Pace::from_bits(self.pace.load(Ordering::Relaxed))
    }
}

impl Pace {
    fn to_bits(self) -> u64 {
        u64::from(self.tokens.to_bits()) << 32 | u64::from(self.seconds.to_bits())
    }

    fn from_bits(bits: u64) -> Self {
        let half = |bits: u64| f32::from_bits(u32::try_from(bits & u64::from(u32::MAX)).unwrap_or_default());
        Self { tokens: half(bits >> 32), seconds: half(bits) }
    }
}
