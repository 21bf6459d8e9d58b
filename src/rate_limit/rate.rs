//! A number of requests or tokens in a unit of time, which flow back steadily.
//!
//! What has been taken is known by one number: the time at which all of it will have flowed back. That is the generic
//! cell rate algorithm (ITU-T I.371, annex A) with the burst of a full bucket: a bucket of `amount` that is full at first
//! and fills up in one `unit`. A change of the limit keeps the part of it that is taken.

use std::time::Duration;

/// So many requests or tokens in a unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many, at least 1.
    pub amount: u32,
    /// The time in which they flow back.
    pub unit: Duration,
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Quantity {
    /// Requests.
    Requests,
    /// Tokens of prompts.
    Input,
    /// Tokens of answers.
    Output,
}

/// So many of each quantity, in the order of [`Quantity::ALL`].
pub type Amounts = [u32; 3];

/// There are not so many now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Of what there is too little.
    pub quantity: Quantity,
    /// Time until there are as many as were asked for, if nobody else takes them.
    pub wait: Duration,
}

impl Quantity {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Requests, Self::Input, Self::Output];

    /// Returns what the Go router's keys call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

impl Rate {
    /// Takes some at the time `now`, where all that was taken will have flowed back at `full`; returns when that is
    /// so afterwards. All times are nanoseconds since some beginning.
    ///
    /// A request for more than the bucket has gets it when the bucket is full, and then the bucket owes: it would
    /// never be served otherwise.
    ///
    /// # Errors
    ///
    /// Returns how long to wait until there are as many.
    pub fn take(self, full: u64, now: u64, amount: u32) -> Result<u64, Duration> {
        let begin = full.max(now);
        let (needed, unit) = (self.span(amount.min(self.amount).into()), nanos(self.unit));
        match begin.saturating_add(needed).checked_sub(now.saturating_add(unit)) {
            None | Some(0) => Ok(begin.saturating_add(self.span(amount.into()))),
            Some(missing) => Err(Duration::from_nanos(missing)),
        }
    }

    /// Returns the time in which so many flow back, rounded up.
    pub fn span(self, amount: u64) -> u64 {
        let span = (u128::from(amount) * self.unit.as_nanos()).div_ceil(self.amount.max(1).into());
        u64::try_from(span).unwrap_or(u64::MAX)
    }

    /// Returns how many are left.
    pub fn left(self, full: u64, now: u64) -> u32 {
        let taken = u128::from(full.saturating_sub(now)) * u128::from(self.amount);
        let taken = taken.div_ceil(self.unit.as_nanos().max(1));
        self.amount.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
    }
}

/// Returns a time in nanoseconds; 584 years at most.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
