//! The count of what was taken of one router's share; all worker threads share it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::estimate::Estimate;
use super::rate::{Amounts, Exceeded, Quantity, Rate, nanos};
use super::told::Standing;
use super::{Charge, RateLimits};

/// Tokens that an answer is taken for, while none has been seen and the request names no bound.
const UNKNOWN: u32 = 1024;

/// What was taken; it outlives plans, so that a change of a route gives nothing back.
#[derive(Debug, Default)]
pub struct Meter {
    /// When all that was taken of each quantity will have flowed back.
    full: [AtomicU64; 3],
    /// The tokens of the longest answer lately, which is forgotten by and by; 0 before the first.
    longest: AtomicU32,
    /// The requests that are under way.
    in_flight: AtomicU32,
}

/// A place among the requests that are under way at the same time; given back when it is dropped.
#[derive(Debug)]
pub struct Place(Arc<Meter>);

/// What a request has taken, to be settled once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// How many of each quantity.
    pub amounts: Amounts,
    /// When they will have flowed back by themselves: nothing can be given back after that.
    full: [u64; 3],
}

impl Taken {
    /// Makes what was taken elsewhere.
    pub fn of(amounts: Amounts) -> Self {
        Self { amounts, full: [0; 3] }
    }
}

impl Meter {
    /// Returns what is to be taken for a request.
    ///
    /// An answer has as many tokens as the request allows; since many clients allow far more than they need, it is taken
    /// for as long as the longest one lately.
    pub fn foresee(&self, limits: &RateLimits, estimate: Estimate) -> Amounts {
        let output = match (estimate.most_output, self.longest.load(Ordering::Relaxed)) {
            (most, 0) => most.unwrap_or(UNKNOWN),
            (most, longest) => most.unwrap_or(u32::MAX).min(longest),
        };
        // An answer that may be longer than the limit takes all of it, and not more.
        let of = |quantity, amount: u32| limits.rate(quantity).map_or(0, |rate| amount.clamp(1, rate.amount));
        let input = limits.rate(Quantity::Input).map_or(0, |_| estimate.input.max(1));
        [of(Quantity::Requests, 1), input, of(Quantity::Output, output)]
    }

    /// Takes of every quantity that is limited, or of none, at a time since some beginning.
    ///
    /// # Errors
    ///
    /// Returns of what there is too little.
    pub fn take(&self, limits: &RateLimits, amounts: Amounts, now: Duration) -> Result<Taken, Exceeded> {
        let mut taken = Taken::default();
        for quantity in Quantity::ALL {
            let Some(rate) = limits.rate(quantity) else { continue };
            let place = quantity as usize;
            match self.take_of(quantity, rate, amounts[place], nanos(now)) {
                Ok(full) => (taken.amounts[place], taken.full[place]) = (amounts[place], full),
                Err(wait) => {
                    self.settle(limits, taken, Charge::default(), now);
                    return Err(Exceeded { quantity, wait });
                }
            }
        }
        Ok(taken)
    }

    /// Settles what a request has used of what it has taken.
    pub fn settle(&self, limits: &RateLimits, taken: Taken, used: Charge, now: Duration) {
        let now = nanos(now);
        for (quantity, used) in Quantity::ALL.into_iter().zip(used.amounts()) {
            let Some(rate) = limits.rate(quantity) else { continue };
            let place = quantity as usize;
            let (had, full) = (u64::from(taken.amounts[place]), taken.full[place]);
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

    /// Takes a place among the requests that are under way, of which there may be `most`; `None` if there are so many.
    pub fn enter(self: &Arc<Self>, most: u32) -> Option<Place> {
        let next = |there: u32| (there < most).then_some(there + 1);
        let entered = self.in_flight.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        entered.ok().map(|_| Place(Arc::clone(self)))
    }

    /// Returns whether all that was taken has flowed back, and nothing is under way: then nothing is lost by forgetting it.
    pub fn is_idle(&self, now: Duration) -> bool {
        let has_flowed_back = |full: &AtomicU64| full.load(Ordering::Relaxed) <= nanos(now);
        self.in_flight.load(Ordering::Relaxed) == 0 && self.full.iter().all(has_flowed_back)
    }

    /// Notes how many tokens an answer had.
    pub fn note_answer(&self, tokens: u64) {
        let tokens = u32::try_from(tokens).unwrap_or(u32::MAX);
        let change = |longest: u32| Some(tokens.max(longest - longest / 64));
        let _always = self.longest.fetch_update(Ordering::Relaxed, Ordering::Relaxed, change);
    }

    /// Returns how the limits stand.
    pub fn standings(&self, limits: &RateLimits, now: Duration) -> Vec<Standing> {
        let now = nanos(now);
        let of = |quantity: Quantity| {
            let (rate, full) = (limits.rate(quantity)?, self.full[quantity as usize].load(Ordering::Relaxed));
            let reset = Duration::from_nanos(full.saturating_sub(now));
            Some(Standing { quantity, rate, left: rate.left(full, now), reset })
        };
        Quantity::ALL.into_iter().filter_map(of).collect()
    }

    fn take_of(&self, quantity: Quantity, rate: Rate, amount: u32, now: u64) -> Result<u64, Duration> {
        let full = &self.full[quantity as usize];
        let mut known = full.load(Ordering::Relaxed);
        loop {
            let next = rate.take(known, now, amount)?;
            match full.compare_exchange_weak(known, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(next),
                Err(found) => known = found,
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
