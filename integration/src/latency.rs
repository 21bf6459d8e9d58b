//! How long things took, and what is said of it.

use std::fmt;
use std::time::Duration;

use anyhow::{Result, ensure};

/// Durations of one kind of event.
#[derive(Clone, Debug, Default)]
pub struct Latencies(Vec<Duration>);

impl Latencies {
    /// Adds a duration.
    pub fn add(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// Adds the durations of `other`.
    pub fn extend(&mut self, other: &Self) {
        self.0.extend_from_slice(&other.0);
    }

    /// Returns the number of durations.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Returns the smallest duration that is not exceeded by `percent` of them; zero of none.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or_default()
    }

    /// Fails unless 99 of 100 durations are below `bound`.
    ///
    /// # Errors
    ///
    /// Returns what was measured.
    pub fn ensure_p99_below(&self, bound: Duration) -> Result<()> {
        ensure!(self.count() > 0, "nothing was measured");
        ensure!(self.percentile(99) < bound, "the 99th percentile is not below {bound:?}: {self}");
        Ok(())
    }
}

impl fmt::Display for Latencies {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [half, most, all] = [50, 99, 100].map(|percent| self.percentile(percent).as_secs_f64() * 1e3);
        write!(formatter, "p50 {half:.0} ms, p99 {most:.0} ms, max {all:.0} ms of {}", self.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_durations_that_were_measured() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.percentile(99), Duration::ZERO);
        assert!(latencies.ensure_p99_below(Duration::from_secs(1)).is_err(), "nothing was measured");
        for number in (1..=100).rev() {
            latencies.add(Duration::from_millis(number));
        }
        let millis = [0, 1, 50, 99, 100].map(|percent| latencies.percentile(percent).as_millis());
        assert_eq!(millis, [1, 1, 50, 99, 100]);
        assert!(latencies.ensure_p99_below(Duration::from_millis(100)).is_ok());
        assert!(latencies.ensure_p99_below(Duration::from_millis(99)).is_err());
    }
}
