//! The load cells: what every worker must see at once about an endpoint.
//!
//! A cell outlives plans and pool keepers, and each pick reserves in it, so that no worker decides on a count that is
//! its own. Together with the published snapshot these are the only values that threads share and change.

use std::sync::atomic::{AtomicU32, Ordering};

/// The counts of one endpoint.
#[derive(Debug, Default)]
pub struct LoadCell {
    in_flight: AtomicU32,
    refusals: AtomicU32,
}

impl LoadCell {
    /// Returns the number of requests in flight.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Returns how many connections in a row were refused.
    pub fn refusals(&self) -> u32 {
        self.refusals.load(Ordering::Relaxed)
    }

    /// Adds a request in flight; [`LoadCell::give_back`] must follow.
    pub(crate) fn reserve(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a request in flight away.
    pub(crate) fn give_back(&self) {
        let before = self.in_flight.fetch_sub(1, Ordering::Relaxed);
        debug_assert!(before > 0, "a reservation was given back twice");
    }

    /// Notes that a connection was refused, and returns how many were in a row.
    pub(crate) fn note_refusal(&self) -> u32 {
        self.refusals.fetch_add(1, Ordering::Relaxed).saturating_add(1)
    }

    /// Notes that the endpoint answered.
    pub(crate) fn note_answer(&self) {
        // A load is cheaper than a store that makes the other cores reload the line.
        if self.refusals.load(Ordering::Relaxed) != 0 {
            self.refusals.store(0, Ordering::Relaxed);
        }
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
    fn an_answer_ends_a_row_of_refusals() {
        let cell = LoadCell::default();
        assert_eq!((cell.note_refusal(), cell.note_refusal()), (1, 2));
        cell.note_answer();
        assert_eq!(cell.note_refusal(), 1);
    }
}
