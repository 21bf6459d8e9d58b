//! The counts of limits: they outlive plans, so that a change of a route gives nothing back.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kthena_router::rate_limit::{LimitKey, LimitMeters, RateLimits};

/// The counts of all limits, which the snapshots of one router share.
#[derive(Clone, Debug)]
pub struct Meters {
    began: Instant,
    meters: Arc<HashMap<LimitKey, Arc<LimitMeters>>>,
    redis: Arc<BTreeSet<Arc<str>>>,
}

impl Meters {
    /// Keeps the counts of these limits, begins those that are new, and forgets the others, which are returned.
    pub(crate) fn follow<'l>(&mut self, limits: impl Iterator<Item = &'l RateLimits> + Clone) -> Vec<LimitKey> {
        self.redis = Arc::new(limits.clone().filter_map(|limits| limits.redis.clone()).collect());
        let kept = limits.map(|RateLimits { key, .. }| (key.clone(), self.find(key).cloned().unwrap_or_default()));
        let kept = kept.collect();
        let before = std::mem::replace(&mut self.meters, Arc::new(kept));
        before.keys().filter(|key| self.find(key).is_none()).cloned().collect()
    }

    /// Returns the counts of a limit.
    pub fn find(&self, key: &LimitKey) -> Option<&Arc<LimitMeters>> {
        self.meters.get(key)
    }

    /// Returns the Redis servers, as `host:port`, in which the replicas of the router count together.
    pub(crate) fn redis(&self) -> &BTreeSet<Arc<str>> {
        &self.redis
    }

    /// Returns the time as the counts have it.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self { began: Instant::now(), meters: Arc::default(), redis: Arc::default() }
    }
}
