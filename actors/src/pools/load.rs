//! The load cells: what every worker must see at once about an endpoint.
//!
//! A cell outlives plans and pool keepers, and each pick reserves in it, so that no worker decides on a count that is
//! its own. Together with the published snapshot these are the only values that threads share and change.

use std::sync::atomic::{AtomicU32, Ordering};

use kthena_router::inference::health::{Cause, Outcome};

/// What a failure adds to an endpoint's penalty, as a number of requests.
const PENALTY: u32 = 4;
/// The largest penalty.
const MAX_PENALTY: u32 = 64;

/// The counts of one endpoint.
#[derive(Debug, Default)]
pub struct LoadCell {
    in_flight: AtomicU32,
    /// Attempts in a row that did not reach the endpoint.
    unreached: AtomicU32,
    /// Attempts in a row that reached it and failed.
    failures: AtomicU32,
    penalty: AtomicU32,
}

impl LoadCell {
    /// Returns the number of requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Returns whether the last attempt failed.
    pub fn is_failing(&self) -> bool {
        self.unreached.load(Ordering::Relaxed) != 0 || self.failures.load(Ordering::Relaxed) != 0
    }

    /// Returns what the endpoint is rated down by, as a number of requests. It grows with each failed answer, and is
    /// halved by each good one and each second.
    pub fn penalty(&self) -> u32 {
        self.penalty.load(Ordering::Relaxed)
    }

    /// Adds a request in flight; [`LoadCell::give_back`] must follow.
    pub(crate) fn reserve(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a request in flight away.
    pub(crate) fn give_back(&self) {
        // Whoever waits for room sees this, or is seen by whoever looks for those who wait after it.
        let before = self.in_flight.fetch_sub(1, Ordering::SeqCst);
        debug_assert!(before > 0, "a reservation was given back twice");
    }

    /// Notes how an attempt ended, and returns how many of its kind failed in a row, 0 for a good answer.
    pub(crate) fn note(&self, outcome: Outcome) -> u32 {
        match outcome.cause() {
            None => {
                self.note_contact();
                clear(&self.failures);
                self.forgive();
                0
            }
            // A request that did not get there is tried elsewhere; the endpoint is ejected all the sooner.
            Some(Cause::Refused | Cause::Handshake) => raise(&self.unreached),
            Some(_) => {
                self.note_contact();
                self.change_penalty(|penalty| (penalty + PENALTY).min(MAX_PENALTY));
                raise(&self.failures)
            }
        }
    }

    /// Notes that the endpoint was reached, whatever came of it.
    pub(crate) fn note_contact(&self) {
        clear(&self.unreached);
    }

    /// Halves the penalty.
    pub(crate) fn forgive(&self) {
        if self.penalty() != 0 {
            self.change_penalty(|penalty| penalty / 2);
        }
    }

    fn change_penalty(&self, change: impl Fn(u32) -> u32) {
        self.penalty
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |penalty| Some(change(penalty)))
            .expect("the change always has a result");
    }
}

/// Raises a count, and returns it.
fn raise(count: &AtomicU32) -> u32 {
    count.fetch_add(1, Ordering::Relaxed).saturating_add(1)
}

/// Sets a count to 0. A load is cheaper than a store that makes the other cores reload the line.
fn clear(count: &AtomicU32) {
    if count.load(Ordering::Relaxed) != 0 {
        count.store(0, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::thread;

    use super::*;

    #[test]
    fn reservations_of_many_threads_add_up_and_return_to_zero() {
        let cell = Arc::new(LoadCell::default());
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..10_000 {
                        cell.reserve();
                        assert!(cell.in_flight() > 0);
                        cell.give_back();
                    }
                });
            }
        });
        assert_eq!(cell.in_flight(), 0);
    }

    #[test]
    fn a_good_answer_ends_a_row_of_failures() {
        let cell = LoadCell::default();
        assert_eq!((cell.note(Outcome::Refused), cell.note(Outcome::Handshake)), (1, 2));
        assert_eq!(cell.note(Outcome::Answered(500)), 1, "an answer, be it a bad one, says that connections are made");
        assert_eq!((cell.note(Outcome::Refused), cell.note(Outcome::Reset)), (1, 2));
        assert!(cell.is_failing());
        assert_eq!(cell.note(Outcome::Answered(429)), 0);
        assert!(!cell.is_failing());
        assert_eq!((cell.note(Outcome::Refused), cell.note(Outcome::Late)), (1, 1));
    }

    #[test]
    fn a_failure_makes_an_endpoint_look_loaded_for_a_while() {
        let cell = LoadCell::default();
        for _ in 0..100 {
            cell.note(Outcome::Answered(500));
        }
        assert_eq!(cell.penalty(), MAX_PENALTY);
        for _ in 0..8 {
            cell.forgive();
        }
        assert_eq!(cell.penalty(), 0);
    }
}
