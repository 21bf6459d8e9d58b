//! The metrics of what clients send before, or instead of, a request that can be routed.

use std::sync::{Arc, OnceLock};

use kthena_router_downstream::Budget;
use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::{Families, RefusedLabels};

/// The metrics of the edge that faces clients.
#[derive(Debug)]
pub struct EdgeMetrics {
    /// Requests and connections that were refused before they could be routed.
    pub refused: Family<RefusedLabels, Counter>,
    /// Bytes that requests hold.
    pub buffered: BudgetGauge,
    /// Bytes that requests may hold.
    pub buffered_limit: BudgetGauge,
}

/// A figure of the budget of bytes; 0 until there is one.
#[derive(Clone, Debug)]
pub struct BudgetGauge {
    budget: Arc<OnceLock<Budget>>,
    read: fn(&Budget) -> usize,
}

impl EdgeMetrics {
    pub(super) fn new(families: &mut Families) -> Self {
        let gauge = |read| BudgetGauge { budget: Arc::default(), read };
        Self {
            refused: families.add(
                "refused_requests",
                "Requests and connections that were refused before they could be routed",
                Family::default(),
            ),
            buffered: families.add("buffered_bytes", "Bytes that requests hold", gauge(Budget::used)),
            buffered_limit: families.add("buffered_bytes_limit", "Bytes that requests may hold", gauge(Budget::limit)),
        }
    }

    /// Shows a budget from now on; the first one stays.
    pub fn watch(&self, budget: &Budget) {
        for gauge in [&self.buffered, &self.buffered_limit] {
            gauge.budget.get_or_init(|| budget.clone());
        }
    }
}

impl EncodeMetric for BudgetGauge {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let bytes = self.budget.get().map_or(0, self.read);
        encoder.encode_gauge(&i64::try_from(bytes).unwrap_or(i64::MAX))
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl TypedMetric for BudgetGauge {
    const TYPE: MetricType = MetricType::Gauge;
}
