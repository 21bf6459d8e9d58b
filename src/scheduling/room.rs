//! Whether a pool has room for further requests.
//!
//! A pool is full when five requests wait at each of its endpoints on average, by the figure of the Inference Extension's
//! endpoint picker, and has room again when fewer than one does. What lies between changes nothing, so that a pool which
//! takes its share back is not full again at once. An endpoint that tells nothing has room.

use crate::inference::exposition::EndpointMetrics;

/// How many requests wait at each endpoint of a full pool.
const FULL: f64 = 5.0;
/// How many may wait when it has room again.
const ROOM: f64 = 1.0;

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

#[cfg(test)]
mod tests {
    use super::*;

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
