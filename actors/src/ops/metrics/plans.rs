//! The metrics of plans, and of the files that they are made of.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::{Families, LoadLabels, OVERHEAD_BUCKETS};

/// The metrics of plans.
#[derive(Debug)]
pub struct PlanMetrics {
    /// Faults in the manifests at this moment.
    pub manifest_faults: Gauge,
    /// Readings of the manifest directory.
    pub manifest_loads: Counter,
    /// Readings of the scheduler's configuration file while the router runs.
    pub scheduler_config_loads: Family<LoadLabels, Counter>,
    /// Plans made.
    pub made: Counter,
    /// Seconds to make a plan.
    pub seconds: Histogram,
}

impl PlanMetrics {
    pub(super) fn new(families: &mut Families) -> Self {
        Self {
            manifest_faults: families.add("manifest_faults", "Faults in the manifest files now", Gauge::default()),
            manifest_loads: families.add("manifest_loads", "Readings of the manifest directory", Counter::default()),
            scheduler_config_loads: families.add("scheduler_config_loads", "Scheduler files read", Family::default()),
            made: families.add("plans", "Plans made", Counter::default()),
            seconds: families.add("plan_seconds", "Time to make a plan", Histogram::new(OVERHEAD_BUCKETS)),
        }
    }
}
