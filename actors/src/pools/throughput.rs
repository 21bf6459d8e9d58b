//! How many tokens a pool computes in a second.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a second leaves of the older ones in the rate.
const FADE: f64 = 0.9;

/// The tokens of prompts and answers that the engines of a pool have told of.
#[derive(Debug, Default)]
pub struct Throughput {
    /// Since the rate was last found out.
    tokens: AtomicU64,
    /// Tokens in a second, as the bits of a float.
    rate: AtomicU64,
}

impl Throughput {
    /// Counts tokens.
    pub(crate) fn add(&self, tokens: u64) {
        self.tokens.fetch_add(tokens, Ordering::Relaxed);
    }

    /// Finds out the rate, with what was counted since the last time, a second ago; only the pool's keeper does so.
    pub(crate) fn tick(&self) {
        let tokens = self.tokens.swap(0, Ordering::Relaxed) as f64;
        let rate = self.rate() * FADE + tokens * (1.0 - FADE);
        self.rate.store(rate.to_bits(), Ordering::Relaxed);
    }

    /// Returns the tokens of a second, on average of the last ten or so.
    pub fn rate(&self) -> f64 {
        f64::from_bits(self.rate.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_flow_is_seen_and_fades_away() {
        let throughput = Throughput::default();
        for _ in 0..60 {
            throughput.add(300);
            throughput.add(200);
            throughput.tick();
        }
        assert!((throughput.rate() - 500.0).abs() < 1.0, "{}", throughput.rate());
        for _ in 0..60 {
            throughput.tick();
        }
        assert!(throughput.rate() < 1.0, "{}", throughput.rate());
    }
}
