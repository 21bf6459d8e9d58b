//! The metrics of requests that two engines work on: the Go router's names where it has one.

use kthena_router::object::PoolKey;
use kthena_router::plan::Parts;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::{Families, HistogramFamily, REQUEST_BUCKETS, Text};

/// Whether two engines work on a request, and why not.
const DECISIONS: [&str; 12] = [
    "remote",
    "short",
    "cached",
    "no_prefill",
    "prefill_failed",
    "no_prompt",
    "api",
    "samples",
    "prompts",
    "beam_search",
    "prompt_logprobs",
    "stored",
];

/// The metrics of requests that two engines work on.
#[derive(Debug)]
pub struct DisaggregationMetrics {
    /// Seconds from sending a prefill to the end of its answer.
    pub prefill_seconds: HistogramFamily<LegLabels>,
    /// Seconds from sending the decode of a prefilled request to the end of its answer.
    pub decode_seconds: HistogramFamily<LegLabels>,
    /// Picks in pools with roles, by whether two endpoints were picked, and why not.
    decisions: Family<DecisionLabels, Counter>,
    /// Pairs that can be made in each group.
    pairs: Family<GroupLabels, Gauge>,
}

/// Labels of one leg of a request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
#[expect(missing_docs, reason = "the fields are the labels")]
pub struct LegLabels {
    pub model: Text,
    pub path: &'static str,
    pub status_code: u16,
}

/// Labels of decisions.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    pool: String,
    decision: &'static str,
}

/// Labels of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct GroupLabels {
    pool: String,
    group: String,
}

impl DisaggregationMetrics {
    pub(super) fn new(families: &mut Families) -> Self {
        Self {
            prefill_seconds: families.histograms(
                "request_prefill_duration_seconds",
                "Time from sending a prefill to the end of its answer",
                &REQUEST_BUCKETS,
            ),
            decode_seconds: families.histograms(
                "request_decode_duration_seconds",
                "Time from sending the decode of a prefilled request to the end of its answer",
                &REQUEST_BUCKETS,
            ),
            decisions: families.add(
                "disaggregation_decisions",
                "Picks in pools whose Pods have roles: `remote` for two endpoints, else why one does all of a request",
                Family::default(),
            ),
            pairs: families.add(
                "disaggregation_pairs",
                "Pairs of ready prefill and decode Pods in each group",
                Family::default(),
            ),
        }
    }

    /// Counts a pick in a pool with roles.
    pub fn note_decision(&self, pool: &PoolKey, decision: &'static str) {
        self.decisions.get_or_create(&DecisionLabels { pool: pool.to_string(), decision }).inc();
    }

    /// Shows the pairs that the groups of all pools have; those of groups that are gone are removed.
    pub fn show_pairs<'p>(&self, pools: impl Iterator<Item = (&'p PoolKey, &'p Parts)>) {
        self.pairs.clear();
        for (key, parts) in pools {
            for (group, pods) in &parts.groups {
                let labels = GroupLabels { pool: key.to_string(), group: group.to_string() };
                self.pairs.get_or_create(&labels).set(i64::try_from(pods.pairs()).unwrap_or(i64::MAX));
            }
        }
    }

    /// Removes the series of a pool that is gone.
    pub(super) fn forget_pool(&self, key: &PoolKey) {
        for decision in DECISIONS {
            self.decisions.remove(&DecisionLabels { pool: key.to_string(), decision });
        }
    }
}
