//! The metrics of requests that wait for a pool to have room.

use std::time::Instant;

use kthena_router::object::PoolKey;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;

use super::go_queues::{GoQueue, GoQueueMetrics, GoQueued};
use super::{Families, HistogramFamily, Text};

/// The buckets of the time that requests wait, in seconds.
const WAIT_BUCKETS: [f64; 12] = [0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
/// What comes of waiting.
const OUTCOMES: [&str; 7] = [
    "dispatched",
    "rejected-saturated",
    "rejected-ttl-expired",
    "rejected-no-endpoints",
    "rejected-context-cancelled",
    "evicted-queue-pressure",
    "request-timeout",
];

/// The metrics of requests that wait.
#[derive(Debug)]
pub struct QueueMetrics {
    /// Requests that wait now.
    waiting: Family<BandLabels, Gauge>,
    /// Seconds that requests have waited, whatever came of it.
    seconds: HistogramFamily<BandLabels>,
    /// What came of waiting.
    outcomes: Family<OutcomeLabels, Counter>,
    /// The same by the Go router's names.
    go: GoQueueMetrics,
}

/// Priorities as labels tell them apart, which are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueBand {
    /// Above 0.
    High,
    /// 0.
    Default,
    /// Below 0.
    Low,
}

/// A request that waits, counted until this is dropped.
pub struct Queued<'m> {
    metrics: &'m QueueMetrics,
    labels: BandLabels,
    began: Instant,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BandLabels {
    pool: String,
    band: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    pool: String,
    band: &'static str,
    outcome: &'static str,
}

impl QueueMetrics {
    pub(super) fn new(families: &mut Families) -> Self {
        Self {
            waiting: families.add(
                "queue_requests",
                "Requests that wait for their pool to have room, or an endpoint",
                Family::default(),
            ),
            seconds: families.histograms(
                "queue_wait_seconds",
                "Time that requests have waited for their pool",
                &WAIT_BUCKETS,
            ),
            outcomes: families.add("queue_outcomes", "What came of waiting for a pool", Family::default()),
            go: GoQueueMetrics::new(families),
        }
    }

    /// Counts a request that begins to wait.
    pub fn enter(&self, pool: &PoolKey, band: QueueBand) -> Queued<'_> {
        let labels = BandLabels { pool: pool.to_string(), band: band.label() };
        self.waiting.get_or_create(&labels).inc();
        Queued { metrics: self, labels, began: Instant::now(), outcome: "rejected-context-cancelled" }
    }

    /// Counts a request for a model that begins to wait, by the Go router's names.
    pub fn enter_go(&self, queue: GoQueue, model: Text) -> GoQueued<'_> {
        self.go.enter(queue, model)
    }

    /// Removes the series of a model that is gone.
    pub(super) fn forget_model(&self, model: &Text) {
        self.go.forget(model);
    }

    /// Removes the series of a pool that is gone.
    pub(super) fn forget_pool(&self, key: &PoolKey) {
        for band in [QueueBand::High, QueueBand::Default, QueueBand::Low] {
            let labels = BandLabels { pool: key.to_string(), band: band.label() };
            self.waiting.remove(&labels);
            self.seconds.remove(&labels);
            for outcome in OUTCOMES {
                self.outcomes.remove(&OutcomeLabels { pool: key.to_string(), band: band.label(), outcome });
            }
        }
    }
}

impl QueueBand {
    /// Returns the band of a priority.
    pub fn of(priority: i32) -> Self {
        match priority {
            1.. => Self::High,
            0 => Self::Default,
            ..0 => Self::Low,
        }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Default => "default",
            Self::Low => "low",
        }
    }
}

impl Queued<'_> {
    /// Notes what came of waiting; until then, that the client left.
    pub fn ends(&mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Queued<'_> {
    fn drop(&mut self) {
        let Self { metrics, labels, began, outcome } = self;
        metrics.waiting.get_or_create(labels).dec();
        metrics.seconds.get_or_create(labels).observe(began.elapsed().as_secs_f64());
        let BandLabels { pool, band } = labels.clone();
        metrics.outcomes.get_or_create(&OutcomeLabels { pool, band, outcome }).inc();
    }
}
