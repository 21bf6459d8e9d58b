//! How requests wait: limits, weights, and where flows are named.

use std::time::Duration;

/// What a waiting request is taken for in a queue's limit of bytes, beside its body.
pub const OVERHEAD_BYTES: usize = 4096;

/// How the requests of a pool wait.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Settings {
    /// Whether requests wait here for a pool that is saturated.
    pub enabled: bool,
    /// How long a request waits at most.
    pub time_to_live: Duration,
    /// How many requests may wait in each band of a pool.
    pub most_requests: usize,
    /// How many bytes the requests that wait for a pool may have.
    pub most_bytes: usize,
    /// How many flows of a band are told apart; all further ones share one.
    pub most_flows: usize,
    /// How many times the service of the next lower band a band gets while requests wait in both; at least 1.
    pub priority_weight: u32,
    /// What tokens count.
    pub weights: Weights,
    /// How many of a hundred endpoints are kept free of others' prompts while a quiet flow is about, rounded down.
    pub kept_percent: u32,
    /// How many requests of an endpoint are in flight at most; `None` goes by what its engine shows.
    pub per_endpoint: Option<u32>,
    /// How many requests of a pool are in flight at most, at all of its endpoints together.
    pub per_pool: Option<u32>,
    /// How long a request waits for a pool that has no endpoint; zero refuses it at once.
    pub hold: Duration,
    /// How many requests wait for such a pool at most.
    pub most_held: usize,
    /// How many sessions are remembered that go first within their priority; 0 prefers none.
    pub most_sessions: usize,
}

/// What tokens count in the service that a flow has had.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weights {
    /// A token of a prompt.
    pub input: f64,
    /// A token of an answer.
    pub output: f64,
    /// A request, whatever its tokens.
    pub request: f64,
}

/// Service in thousandths of a weighted token.
pub type Service = u64;

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            time_to_live: Duration::from_secs(60),
            most_requests: 5000,
            most_bytes: 256 << 20,
            most_flows: 1024,
            priority_weight: 8,
            weights: Weights::default(),
            kept_percent: 25,
            per_endpoint: None,
            per_pool: None,
            hold: Duration::ZERO,
            most_held: 1000,
            most_sessions: 0,
        }
    }
}

impl Default for Weights {
    /// An answer's token takes a step of its own; those of a prompt are computed together.
    fn default() -> Self {
        Self { input: 1.0, output: 2.0, request: 0.0 }
    }
}

impl Weights {
    /// Returns the service of a request with so many tokens, never none.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "bounded")]
    pub fn service(&self, input: u64, output: u64) -> Service {
        let tokens = self.input * input as f64 + self.output * output as f64 + self.request;
        (tokens * 1000.0).clamp(1.0, 1e15) as Service
    }
}

impl Settings {
    /// Returns whether requests wait for a pool that has no endpoint.
    pub fn holds(&self) -> bool {
        !self.hold.is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn service_is_weighted_and_bounded() {
        let weights = Weights::default();
        assert_eq!(weights.service(10, 5), 20_000);
        assert_eq!(weights.service(0, 0), 1, "no request is free");
        assert_eq!(weights.service(u64::MAX, u64::MAX), 1_000_000_000_000_000);
    }
}
