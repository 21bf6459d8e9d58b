//! The metrics of what engines tell of their KV caches.

use kthena_router::object::PoolKey;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::{Families, HistogramFamily, KvEventLabels, OVERHEAD_BUCKETS, PoolLabel};

/// What becomes of events: blocks, and for the rest how often.
const EVENTS: [&str; 9] =
    ["stored", "removed", "cleared", "skipped", "unreadable", "replayed", "not_replayed", "lost", "restarted"];
/// What comes of prompts whose tokens are not known.
const TOKENIZATIONS: [&str; 7] = ["not_heard", "not_told", "named", "too_many", "asked", "answered", "not_answered"];

/// What comes of lookups in Redis.
const LOOKUPS: [&str; 6] = ["found", "not_found", "not_told", "no_tokens", "no_redis", "late"];

/// The metrics of KV events.
#[derive(Debug)]
pub struct KvEventMetrics {
    /// Blocks that were stored, removed and skipped; caches that were cleared; messages that could not be read; replays,
    /// losses and restarts.
    pub events: Family<KvEventLabels, Counter>,
    /// Seconds from the engine's message to its being noted here, by both clocks.
    pub lag_seconds: HistogramFamily<PoolLabel>,
    /// Prompts whose tokens were not known, by what came of it.
    pub tokenizations: Family<KvEventLabels, Counter>,
    /// Prompts that were looked up in Redis, by what came of it.
    pub lookups: Family<KvEventLabels, Counter>,
}

impl KvEventMetrics {
    pub(super) fn new(families: &mut Families) -> Self {
        Self {
            events: families.add(
                "kv_events",
                "What engines tell of their KV caches: blocks, and how often messages were missed",
                Family::default(),
            ),
            lag_seconds: families.histograms(
                "kv_event_lag_seconds",
                "Time from an engine's message about its KV cache to its being noted, by both clocks",
                &OVERHEAD_BUCKETS,
            ),
            tokenizations: families.add(
                "kv_event_prompts",
                "Prompts whose tokens were not known, by what came of it",
                Family::default(),
            ),
            lookups: families.add(
                "kvcache_lookups",
                "Prompts that were looked up in Redis for kvcache-aware, by what came of it",
                Family::default(),
            ),
        }
    }

    /// Removes the series of a pool that is gone.
    pub(super) fn forget_pool(&self, key: &PoolKey) {
        let labels = |what| KvEventLabels { pool: key.to_string(), what };
        for what in EVENTS {
            self.events.remove(&labels(what));
        }
        for what in LOOKUPS {
            self.lookups.remove(&labels(what));
        }
        for what in TOKENIZATIONS {
            self.tokenizations.remove(&labels(what));
        }
        self.lag_seconds.remove(&PoolLabel { pool: key.to_string() });
    }
}
