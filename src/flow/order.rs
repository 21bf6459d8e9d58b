//! Which request of a flow goes first: the one that is due first.
//!
//! ```text
//! due = arrival + slack x work                    work: seconds for which an endpoint computes the prompt
//! ```
//!
//! A request whose prompt is cached needs next to nothing, and in the order of arrival it waits for all prompts before
//! it that are not. By their due times requests wait in proportion to their work, so that short ones go first; of those
//! with equal work, the one that came first. That is earliest deadline first with deadlines by *stretch*, the time in
//! the system by that of the work (Bender, Chakrabarti and Muthukrishnan, Flow and Stretch Metrics for Scheduling
//! Continuous Job Streams, SODA 1998): on a machine that may interrupt its work, if any order keeps every stretch below
//! a bound, this one with that bound as slack does.
//!
//! Nobody starves. A due time does not change while its request waits, and those of later requests grow with the clock:
//! a request is passed by those alone that come within [`SLACK`] times its own work after it.

use std::time::Duration;

/// How many times its own work a request lets later ones pass: where a prompt that is not cached takes half a second, 4
/// s. In the proving ground 8 and 16 do the same for those that are cached, and half of that does less; so it is the
/// least that others pay.
pub const SLACK: u32 = 8;
/// The same is no more than one part of so many of the time for which a request waits at most, so that the longest
/// prompts have most of it left.
const PATIENCE: u32 = 4;

/// When a request is due, in microseconds after a moment that is the same for all requests of a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Due(u64);

/// The place of a request in the order of its flow: of those that are due at the same time, the one that came first
/// goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// When it is due.
    pub due: Due,
    /// When it came, as a number.
    pub number: u64,
}

impl Turn {
    /// Before all others.
    pub const FIRST: Self = Self { due: Due(0), number: 0 };
    /// After all others.
    pub const LAST: Self = Self { due: Due(u64::MAX), number: u64::MAX };
}

impl Due {
    /// Returns when a request is due that arrived at this time, has so much work, and waits for no longer than its
    /// patience.
    pub fn of(arrived: Duration, work: Duration, patience: Duration) -> Self {
        let slack = work.saturating_mul(SLACK).min(patience / PATIENCE);
        Self(u64::try_from(arrived.saturating_add(slack).as_micros()).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_due_by_its_own_work() {
        let minute = Duration::from_secs(60);
        let due =
            |arrived: u64, work: u64| Due::of(Duration::from_millis(arrived), Duration::from_millis(work), minute);
        assert!(due(0, 20) < due(0, 500), "of two that came together the shorter one");
        assert!(due(0, 500) < due(8000, 20), "slack is over");
        assert!(due(3000, 20) < due(0, 500), "and this one came before that");
        assert!(due(0, 500) < due(1, 500), "equal work goes by arrival");
        assert_eq!(due(0, 3_600_000), due(15_000, 0), "a quarter of its patience is a bound");
        assert_eq!(Due::of(Duration::MAX, Duration::MAX, Duration::MAX), Turn::LAST.due);
    }
}
