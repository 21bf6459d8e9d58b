//! Who learns of the end of requests: the metrics and the access log of one worker thread.

use std::rc::Rc;
use std::sync::Arc;

use super::access_log::LogBuffer;
use super::series::SeriesCache;
use crate::metrics::Metrics;

/// The observers of one worker thread's requests.
pub(super) struct Observer {
    /// All metrics.
    pub metrics: Arc<Metrics>,
    /// The handles of metrics that were used before.
    pub series: Rc<SeriesCache>,
    /// Access log lines that were not sent yet; `None` when there is no access log.
    pub log: Option<Rc<LogBuffer>>,
}
