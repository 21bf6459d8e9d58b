//! Live figures of one engine.
//!
//! Each figure is one relaxed atomic: a scrape may see two of them a moment apart, as it does with a real engine.
//! Bucket bounds are those that vLLM publishes for the two latencies.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

const TIME_TO_FIRST_TOKEN_SECONDS: &[f64] = &[
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
    160.0, 640.0, 2560.0,
];

const INTER_TOKEN_SECONDS: &[f64] =
    &[0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0];

/// A figure that goes up and, unless it is a counter, down.
#[derive(Debug, Default)]
pub(crate) struct Figure(AtomicU64);

impl Figure {
    /// Adds to the figure and returns what it was before.
    pub(crate) fn add(&self, amount: u64) -> u64 {
        self.0.fetch_add(amount, Relaxed)
    }

    /// Takes away what was added before.
    pub(crate) fn subtract(&self, amount: u64) {
        self.0.fetch_sub(amount, Relaxed);
    }

    /// Reads the figure.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Figures of one engine.
#[derive(Debug)]
pub(crate) struct Gauges {
    /// Inference requests that arrived since the start.
    pub requests: Figure,
    /// Requests whose client left before the end, since the start.
    pub aborted: Figure,
    /// Requests that hold a place in the engine now.
    pub running: Figure,
    /// Requests that wait for a place now.
    pub waiting: Figure,
    /// Prompts whose tokens were asked for, since the start.
    pub tokenizations: Figure,
    /// Tokens of running requests, prompt included.
    pub cached_tokens: Figure,
    /// Arrival to first token.
    pub time_to_first_token: Histogram,
    /// One token to the next.
    pub inter_token_latency: Histogram,
}

impl Default for Gauges {
    fn default() -> Self {
        Self {
            requests: Figure::default(),
            aborted: Figure::default(),
            running: Figure::default(),
            waiting: Figure::default(),
            tokenizations: Figure::default(),
            cached_tokens: Figure::default(),
            time_to_first_token: Histogram::new(TIME_TO_FIRST_TOKEN_SECONDS),
            inter_token_latency: Histogram::new(INTER_TOKEN_SECONDS),
        }
    }
}

/// A histogram of durations with fixed bounds.
#[derive(Debug)]
pub(crate) struct Histogram {
    bounds: &'static [f64],
    /// One more than the bounds: the last holds what exceeds them all.
    counts: Vec<Figure>,
    sum_nanoseconds: Figure,
}

impl Histogram {
    fn new(bounds: &'static [f64]) -> Self {
        Self {
            bounds,
            counts: (0..=bounds.len()).map(|_| Figure::default()).collect(),
            sum_nanoseconds: Figure::default(),
        }
    }

    /// Counts `times` observations of the same duration.
    pub(crate) fn observe(&self, duration: Duration, times: u64) {
        let seconds = duration.as_secs_f64();
        let bucket = self.bounds.iter().take_while(|bound| seconds > **bound);
        self.counts[bucket.count()].add(times);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.sum_nanoseconds.add(nanoseconds.saturating_mul(times));
    }

    /// Returns each upper bound in seconds with the observations up to it.
    pub(crate) fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let counts = self.counts.iter().scan(0, |total, count| {
            *total += count.value();
            Some(*total)
        });
        bounds.zip(counts)
    }

    /// Returns the sum of all observations in seconds.
    pub(crate) fn sum_seconds(&self) -> f64 {
        Duration::from_nanos(self.sum_nanoseconds.value()).as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_counts_in_every_bucket_that_holds_it() {
        let histogram = Histogram::new(&[0.01, 0.1]);
        histogram.observe(Duration::ZERO, 2);
        histogram.observe(Duration::from_millis(10), 1);
        histogram.observe(Duration::from_millis(11), 1);
        histogram.observe(Duration::from_secs(3), 1);
        let counts: Vec<(f64, u64)> = histogram.cumulative().collect();
        assert_eq!(counts, [(0.01, 3), (0.1, 4), (f64::INFINITY, 5)]);
        assert_eq!(histogram.sum_seconds(), 3.021);
    }
}
