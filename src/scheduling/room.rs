//! Whether a pool has room for further requests.
//!
//! A pool is full when five requests wait at each of its endpoints on average, by the figure of the Inference
//! Extension's endpoint picker, and has room again when fewer than one does. What lies between changes nothing, so
//! that a pool which takes its share back is not full again at once. An endpoint that tells nothing has room.
//!
//! How many requests an endpoint works on at once is not on its page, and depends on their lengths. It shows where
//! requests wait: an engine that lets as many wait as make a pool full, twice in a row, works on no more than those
//! that run. That number is raised when more run, and forgotten when less than half of them do and none waits, in the
//! router neither, so that nothing is held back from an engine that would begin with it at once, and not all that waits is
//! sent there when many answers end at the same time.

use crate::inference::exposition::EndpointMetrics;

/// How many requests wait at each endpoint of a full pool.
const FULL: f64 = 5.0;
/// How many may wait when it has room again.
const ROOM: f64 = 1.0;

/// How many more than an endpoint works on may be in flight there, and one more for each so many that it works on:
/// they are there when a place becomes free, and show when there is room for more.
const AHEAD: u32 = 2;
const AHEAD_OF_EACH: u32 = 16;

/// How many requests an endpoint works on at once, as far as it has shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slots {
    shown: Option<u32>,
    /// Whether requests waited there at the last scrape.
    had_queue: bool,
}

/// Whether a pool has room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Room {
    /// It has.
    #[default]
    Left,
    /// Its endpoints have queues.
    Full,
}

impl Room {
    /// Returns whether the pool has room after its endpoints were scraped.
    #[must_use]
    pub fn after<'e>(self, endpoints: impl IntoIterator<Item = Option<&'e EndpointMetrics>>) -> Self {
        let (mut waiting, mut count) = (0.0, 0.0);
        for metrics in endpoints {
            waiting += metrics.map_or(0.0, |metrics| f64::from(metrics.waiting));
            count += 1.0;
        }
        match self {
            Self::Left if count > 0.0 && waiting >= FULL * count => Self::Full,
            Self::Full if waiting < ROOM * count || count == 0.0 => Self::Left,
            Self::Left | Self::Full => self,
        }
    }
}

impl Slots {
    /// Returns what is known after a further scrape; `is_held` if requests wait in the router for the endpoint's pool.
    #[must_use]
    pub fn after(self, &EndpointMetrics { running, waiting, .. }: &EndpointMetrics, is_held: bool) -> Self {
        let has_queue = f64::from(waiting) >= FULL;
        let shown = match self.shown {
            // A burst that the engine has not looked at yet is no queue.
            None if has_queue && self.had_queue => Some(running.max(1)),
            None => None,
            Some(_) if has_queue => Some(running.max(1)),
            Some(slots) if !is_held && waiting == 0 && running < slots.div_ceil(2) => None,
            // Nobody knows how many more it could do, and a page is read once a second.
            Some(slots) if running > slots => Some(running.saturating_add(running / 2)),
            Some(slots) => Some(slots),
        };
        Self { shown, had_queue: has_queue }
    }

    /// Returns how many requests may be in flight there; `None` where nothing has shown a bound.
    pub fn limit(self) -> Option<u32> {
        self.shown.map(|slots| slots.saturating_add(AHEAD + slots / AHEAD_OF_EACH))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_engine_shows_how_many_requests_it_works_on() {
        let mut slots = Slots::default();
        for (case, running, waiting, is_held, limit) in [
            ("idle", 0, 0, false, None),
            ("a burst that has just come", 0, 40, false, None),
            ("the burst is being worked on", 40, 0, false, None),
            ("a queue", 64, 30, false, None),
            ("which stays", 64, 90, false, Some(64 + 6)),
            ("the router holds back", 64, 3, false, Some(64 + 6)),
            ("shorter requests", 70, 0, false, Some(105 + 8)),
            ("no more than that", 80, 4, false, Some(105 + 8)),
            ("longer requests", 16, 20, false, Some(16 + 3)),
            ("one is done", 15, 0, false, Some(16 + 3)),
            ("many answers ended at once", 2, 0, true, Some(16 + 3)),
            ("few are left", 7, 0, false, None),
        ] {
            slots = slots.after(&EndpointMetrics { running, waiting, ..EndpointMetrics::default() }, is_held);
            assert_eq!(slots.limit(), limit, "{case}");
        }
    }

    #[test]
    fn a_pool_is_full_with_queues_everywhere_until_they_are_gone() {
        use Room::{Full, Left};
        for (case, before, waiting, after) in [
            ("idle", Left, &[Some(0), Some(0)][..], Left),
            ("a queue at one of two", Left, &[Some(9), Some(0)], Left),
            ("queues", Left, &[Some(5), Some(5)], Full),
            ("a long queue counts for two", Left, &[Some(10), Some(0)], Full),
            ("queues that become shorter", Full, &[Some(2), Some(2)], Full),
            ("queues that are gone", Full, &[Some(1), Some(0)], Left),
            ("nothing is known", Left, &[None, None], Left),
            ("nothing is known any more", Full, &[None, None], Left),
            ("no endpoint", Full, &[], Left),
        ] {
            let metrics: Vec<_> = (waiting.iter())
                .map(|waiting| waiting.map(|waiting| EndpointMetrics { waiting, ..EndpointMetrics::default() }))
                .collect();
            assert_eq!(before.after(metrics.iter().map(Option::as_ref)), after, "{case}");
        }
    }
}
