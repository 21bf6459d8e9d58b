//! The count of the tokens that were taken of one router's share; all worker threads share it.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::estimate::Estimate;
use super::rate::{Direction, Exceeded, Rate, nanos};
use super::told::Standing;
use super::{Charge, TokenLimits};

/// Tokens that an answer is taken for, while none has been seen and the request names no bound.
const UNKNOWN: u32 = 1024;

/// What was taken; it outlives plans, so that a change of a route gives nothing back.
#[derive(Debug, Default)]
pub struct Meter {
    /// When all that was taken of each direction will have flowed back.
    full: [AtomicU64; 2],
    /// The tokens of the longest answer lately, which is forgotten by and by; 0 before the first.
    longest: AtomicU32,
}

/// What a request has taken, to be settled once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// The tokens of each direction.
    pub tokens: [u32; 2],
    /// When they will have flowed back by themselves: nothing can be given back after that.
    full: [u64; 2],
}

impl Taken {
    /// Makes what was taken elsewhere.
    pub fn of(tokens: [u32; 2]) -> Self {
        Self { tokens, full: [0; 2] }
    }
}

impl Meter {
    /// Returns the tokens that are to be taken for a request.
    ///
    /// An answer has as many tokens as the request allows; since many clients allow far more than they need, it is taken
    /// for as long as the longest one lately.
    pub fn foresee(&self, limits: &TokenLimits, estimate: Estimate) -> [u32; 2] {
        let output = match (estimate.most_output, self.longest.load(Ordering::Relaxed)) {
            (most, 0) => most.unwrap_or(UNKNOWN),
            (most, longest) => most.unwrap_or(u32::MAX).min(longest),
        };
        // An answer that may be longer than the limit takes all of it, and not more.
        let output = limits.output.map_or(0, |rate| output.clamp(1, rate.tokens));
        [limits.input.map_or(0, |_| estimate.input.max(1)), output]
    }

    /// Takes tokens of both directions, or none, at a time since some beginning.
    ///
    /// # Errors
    ///
    /// Returns which tokens are missing.
    pub fn take(&self, limits: &TokenLimits, tokens: [u32; 2], now: Duration) -> Result<Taken, Exceeded> {
        let mut taken = Taken::default();
        for direction in Direction::ALL {
            let Some(rate) = limits.rate(direction) else { continue };
            let place = direction as usize;
            match self.take_of(direction, rate, tokens[place], nanos(now)) {
                Ok(full) => (taken.tokens[place], taken.full[place]) = (tokens[place], full),
                Err(wait) => {
                    self.settle(limits, taken, Charge::default(), now);
                    return Err(Exceeded { direction, wait });
                }
            }
        }
        Ok(taken)
    }

    /// Settles what a request has used of what it has taken.
    pub fn settle(&self, limits: &TokenLimits, taken: Taken, used: Charge, now: Duration) {
        let now = nanos(now);
        for (direction, used) in Direction::ALL.into_iter().zip([used.input, used.output]) {
            let Some(rate) = limits.rate(direction) else { continue };
            let place = direction as usize;
            let (had, full) = (u64::from(taken.tokens[place]), taken.full[place]);
            let change = |known: u64| {
                Some(if used > had {
                    known.max(now).saturating_add(rate.span(used - had))
                } else {
                    // What has flowed back by itself is not given back a second time.
                    known.saturating_sub(rate.span(had - used).min(full.saturating_sub(now)))
                })
            };
            let _always = self.full[place].fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
        }
    }

    /// Notes how many tokens an answer had.
    pub fn note_answer(&self, tokens: u64) {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let change = |longest: u32| Some(tokens.max(longest - longest / 64));
        let _always = self.longest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    /// Returns how the limits stand.
    pub fn standings(&self, limits: &TokenLimits, now: Duration) -> Vec<Standing> {
        let now = nanos(now);
        let of = |direction: Direction| {
            let (rate, full) = (limits.rate(direction)?, self.full[direction as usize].load(Ordering::Relaxed));
            let reset = Duration::from_nanos(full.saturating_sub(now));
            Some(Standing { direction, rate, left: rate.left(full, now), reset })
        };
        Direction::ALL.into_iter().filter_map(of).collect()
    }

    fn take_of(&self, direction: Direction, rate: Rate, tokens: u32, now: u64) -> Result<u64, Duration> {
        let full = &self.full[direction as usize];
        let mut known = full.load(Ordering::Relaxed);
        loop {
            let next = rate.take(known, now, tokens)?;
            match full.compare_exchange_weak(known, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(next),
                Err(found) => known = found,
            }
        }
    }
}
