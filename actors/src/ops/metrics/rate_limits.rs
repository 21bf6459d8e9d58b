//! The metrics of limits; the first is the Go router's.

use kthena_router::inference::api::Api;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::{Families, ModelLabel, RateLimitLabels, Text};

/// The limits, as a label says them.
const TYPES: [&str; 4] = ["input_tokens", "output_tokens", "requests", "concurrent_requests"];

/// The metrics of limits.
#[derive(Debug)]
pub struct RateLimitMetrics {
    /// Requests that were refused, by the limit that was reached.
    pub exceeded: Family<RateLimitLabels, Counter>,
    /// Requests that were let through without a check, because the Redis of their limit did not answer.
    pub unchecked: Family<ModelLabel, Counter>,
}

impl RateLimitMetrics {
    pub(super) fn new(families: &mut Families) -> Self {
        Self {
            exceeded: families.add(
                "rate_limit_exceeded",
                "Requests refused because a limit of their ModelRoute was reached",
                Family::default(),
            ),
            unchecked: families.add(
                "rate_limit_unchecked",
                "Requests let through unchecked because the Redis of their limit did not answer",
                Family::default(),
            ),
        }
    }

    /// Removes the series of a model that is not limited any more.
    pub fn forget(&self, model: &str) {
        let model = Text::from(model);
        for limit_type in TYPES {
            for path in Api::labels() {
                self.exceeded.remove(&RateLimitLabels { model: model.clone(), limit_type, path });
            }
        }
        self.unchecked.remove(&ModelLabel { model });
    }
}
