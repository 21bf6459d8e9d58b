//! The counts of token limits: they outlive plans, so that a change of a route gives nothing back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::WeakRecipient;
use kthena_router::rate_limit::{LimitKey, Meter};

use crate::messages::RedisReported;

/// The counts of all limits, which the snapshots of one router share.
#[derive(Clone, Debug)]
pub struct Meters {
    began: Instant,
    meters: Arc<HashMap<LimitKey, Arc<Meter>>>,
    /// Who wants to know of a Redis that does not answer: the registry.
    pub registry: Option<WeakRecipient<RedisReported>>,
}

impl Meters {
    /// Keeps the counts of these limits, begins those that are new, and forgets the others, which are returned.
    pub(crate) fn follow<'k>(&mut self, keys: impl Iterator<Item = &'k LimitKey>) -> Vec<LimitKey> {
        let kept = keys.map(|key| (key.clone(), self.find(key).cloned().unwrap_or_default())).collect();
        let before = std::mem::replace(&mut self.meters, Arc::new(kept));
        before.keys().filter(|key| self.find(key).is_none()).cloned().collect()
    }

    /// Returns the count of a limit.
    pub fn find(&self, key: &LimitKey) -> Option<&Arc<Meter>> {
        self.meters.get(key)
    }

    /// Returns the time as the counts have it.
    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }
}

impl Default for Meters {
    fn default() -> Self {
        Self { began: Instant::now(), meters: Arc::default(), registry: None }
    }
}
