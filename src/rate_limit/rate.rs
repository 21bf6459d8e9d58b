//! A number of tokens in a unit of time, which flow back steadily.
//!
//! What has been taken is known by one number: the time at which all of it will have flowed back. That is the generic
//! cell rate algorithm (ITU-T I.371, annex A) with the burst of a full bucket: a bucket of `tokens` that is full at first
//! and fills up in one `unit`. A change of the limit keeps the part of it that is taken.

use std::time::Duration;

/// So many tokens in a unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// The tokens, at least 1.
    pub tokens: u32,
    /// The time in which they flow back.
    pub unit: Duration,
}

/// Which tokens are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Those of prompts.
    Input,
    /// Those of answers.
    Output,
}

/// There are not so many tokens now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Which tokens are missing.
    pub direction: Direction,
    /// Time until there are as many as were asked for, if nobody else takes them.
    pub wait: Duration,
}

impl Direction {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::Input, Self::Output];

    /// Returns what metrics and the Go router's keys call it.
    pub fn label(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

impl Rate {
    /// Takes tokens at the time `now`, where all that was taken will have flowed back at `full`; returns when that is
    /// so afterwards. All times are nanoseconds since some beginning.
    ///
    /// A request for more tokens than the bucket has gets them when the bucket is full, and then the bucket owes: it would
    /// never be served otherwise.
    ///
    /// # Errors
    ///
    /// Returns how long to wait until there are as many.
    pub fn take(self, full: u64, now: u64, tokens: u32) -> Result<u64, Duration> {
        let begin = full.max(now);
        let (needed, unit) = (self.span(tokens.min(self.tokens).into()), nanos(self.unit));
        match begin.saturating_add(needed).checked_sub(now.saturating_add(unit)) {
            None | Some(0) => Ok(begin.saturating_add(self.span(tokens.into()))),
            Some(missing) => Err(Duration::from_nanos(missing)),
        }
    }

    /// Returns the time in which so many tokens flow back, rounded up.
    pub fn span(self, tokens: u64) -> u64 {
        let span = (u128::from(tokens) * self.unit.as_nanos()).div_ceil(self.tokens.max(1).into());
        u64::try_from(span).unwrap_or(u64::MAX)
    }

    /// Returns how many tokens are left.
    pub fn left(self, full: u64, now: u64) -> u32 {
        let taken = u128::from(full.saturating_sub(now)) * u128::from(self.tokens);
        let taken = taken.div_ceil(self.unit.as_nanos().max(1));
        self.tokens.saturating_sub(u32::try_from(taken).unwrap_or(u32::MAX))
    }
}

/// Returns a time in nanoseconds; 584 years at most.
pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
