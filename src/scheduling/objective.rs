//! Which requests are refused while a pool has too much to do.
//!
//! Source: InferenceObjective, whose priority is 0 unless it says otherwise, and the endpoint picker of the Inference
//! Extension: a request with a priority below 0 is refused while the pool is saturated, all others are not. A pool is
//! saturated when its endpoints are on average; an endpoint is with five requests that wait or with 80 % of its KV
//! cache in use, and one that tells nothing of itself counts as one that is.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::inference::exposition::EndpointMetrics;

/// The headers by which a client names an InferenceObjective, in lower case, the one that counts first.
pub const OBJECTIVE_HEADERS: [&str; 2] = ["x-llm-d-inference-objective", "x-gateway-inference-objective"];

/// The headers of an answer that say why a request was refused. The first is llm-d's, and never had another name
/// (llm-d-router, pull request 1161); the second is what it would have been by the former names of other headers.
pub const DROPPED_REASONS: [&str; 2] = ["x-llm-d-request-dropped-reason", "x-gateway-request-dropped-reason"];

/// Why a request is refused for which there is no room.
pub const REJECTED_SATURATED: &str = "rejected-saturated";

/// Why a request is refused for which no endpoint is there.
pub const REJECTED_NO_ENDPOINTS: &str = "rejected-no-endpoints";

/// How many waiting requests saturate an endpoint.
const WAITING: f64 = 5.0;

/// How much of its KV cache in use saturates an endpoint.
const KV_CACHE: f64 = 0.8;

/// The priorities of requests to a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Objectives {
    priorities: BTreeMap<Arc<str>, i32>,
}

impl Objectives {
    /// Adds an objective; of two with one name the first counts.
    pub fn add(&mut self, name: &Arc<str>, priority: i32) {
        self.priorities.entry(Arc::clone(name)).or_insert(priority);
    }

    /// Returns whether there are no objectives.
    pub fn is_empty(&self) -> bool {
        self.priorities.is_empty()
    }

    /// Returns the priority of a request that names this objective; `None` for one that is not known.
    pub fn priority(&self, name: &str) -> Option<i32> {
        self.priorities.get(name).copied()
    }
}

/// Returns how full the endpoints of a pool are on average, where 1 and more is too full; so is a pool without any.
pub fn saturation<'e>(endpoints: impl IntoIterator<Item = Option<&'e EndpointMetrics>>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for metrics in endpoints {
        sum += metrics.map_or(1.0, |metrics| {
            (f64::from(metrics.waiting) / WAITING).max(metrics.kv_cache_usage.unwrap_or_default() / KV_CACHE)
        });
        count += 1.0;
    }
    if count > 0.0 { sum / count } else { 1.0 }
}

/// Returns whether a request with this priority is refused by a pool that is so full.
pub fn is_refused(priority: i32, saturation: f64) -> bool {
    priority < 0 && saturation >= 1.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_is_as_full_as_its_endpoints_are_on_average() {
        let engine =
            |waiting, usage: f64| Some(EndpointMetrics { waiting, kv_cache_usage: Some(usage), ..Default::default() });
        for (case, endpoints, full) in [
            ("idle", vec![engine(0, 0.0)], false),
            ("a queue", vec![engine(5, 0.1)], true),
            ("a cache in use", vec![engine(0, 0.8)], true),
            ("one of two is idle", vec![engine(5, 0.8), engine(0, 0.0)], false),
            ("a long queue makes up for an idle one", vec![engine(10, 0.0), engine(0, 0.0)], true),
            ("nothing is known", vec![None], true),
            ("nothing is known of one", vec![None, engine(0, 0.0)], false),
            ("no endpoint", vec![], true),
        ] {
            let saturation = saturation(endpoints.iter().map(Option::as_ref));
            assert_eq!(is_refused(-1, saturation), full, "{case}: {saturation}");
            assert!(!is_refused(0, saturation), "{case}: others are never refused");
        }
    }

    #[test]
    fn the_first_objective_of_a_name_counts() {
        let mut objectives = Objectives::default();
        assert!(objectives.is_empty());
        objectives.add(&"batch".into(), -1);
        objectives.add(&"batch".into(), 5);
        assert_eq!(objectives.priority("batch"), Some(-1));
        assert_eq!(objectives.priority("unknown"), None);
    }
}
