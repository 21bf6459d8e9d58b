//! A gauge that grows by itself: the time since something happened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;

/// The time since something was last noted; before that, since the gauge was made.
#[derive(Clone, Debug)]
pub struct Age {
    made: Instant,
    /// Milliseconds from then to the last note.
    noted: Arc<AtomicU64>,
}

impl Age {
    /// Notes that it has just happened.
    pub fn note(&self) {
        let now = u64::try_from(self.made.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.noted.store(now, Ordering::Relaxed);
    }

    /// Returns the time since the last note, in steps of a millisecond.
    pub fn elapsed(&self) -> Duration {
        self.made.elapsed().saturating_sub(Duration::from_millis(self.noted.load(Ordering::Relaxed)))
    }
}

impl Default for Age {
    fn default() -> Self {
        Self { made: Instant::now(), noted: Arc::default() }
    }
}

impl EncodeMetric for Age {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        encoder.encode_gauge(&self.elapsed().as_secs_f64())
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

impl prometheus_client::metrics::TypedMetric for Age {
    const TYPE: MetricType = MetricType::Gauge;
}
