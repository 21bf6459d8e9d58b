//! The pools: for each ModelServer the Pods that it selects and that are ready.
//!
//! Source: the ModelServer API, `workloadSelector`: Pods of the same namespace that have every label of `matchLabels`.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Controller, Endpoint, PoolPolicy};
use crate::native::route::Server;
use crate::object::{Kind, ObjectKey, PoolKey};
use crate::selector::has_all;
use crate::world::{PodFacts, World};

/// A pool to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPlan {
    /// The pool.
    pub key: PoolKey,
    /// How requests are sent to it.
    pub policy: Arc<PoolPolicy>,
    /// Its ready endpoints, in the order of their Pods.
    pub endpoints: Vec<Endpoint>,
    /// How many Pods it selects, ready or not.
    pub selected: usize,
}

/// Pods by one of their labels, so that a selector looks at few of them.
type PodsByLabel<'w> = HashMap<(&'w str, &'w str, &'w str), Vec<(&'w ObjectKey, &'w PodFacts)>>;

/// Returns the pool of every valid ModelServer, in the order of their keys.
pub(super) fn pools(world: &World, controller: &Controller) -> Vec<PoolPlan> {
    let by_label = pods_by_label(world);
    world
        .model_servers
        .iter()
        .filter_map(|(key, server)| {
            let policy = server.policy.as_ref().ok()?;
            let (endpoints, selected) = endpoints(server, &by_label, controller);
            let key = PoolKey { kind: Kind::ModelServer, object: key.clone() };
            Some(PoolPlan { key, policy: Arc::clone(policy), endpoints, selected })
        })
        .collect()
}

fn pods_by_label(world: &World) -> PodsByLabel<'_> {
    let mut by_label = PodsByLabel::new();
    for (key, pod) in world.pods.iter() {
        for (label, value) in &pod.labels {
            by_label.entry((&key.namespace, label, value)).or_default().push((key, pod));
        }
    }
    by_label
}

/// Returns the ready endpoints of a server and the number of Pods that it selects.
fn endpoints(server: &Server, by_label: &PodsByLabel<'_>, controller: &Controller) -> (Vec<Endpoint>, usize) {
    let required = &server.spec.workload_selector.match_labels;
    // The rarest label of the selector has the shortest list, and every selected Pod is in it.
    let shortest = required
        .iter()
        .map(|(label, value)| by_label.get(&(server.key.namespace.as_str(), label.as_str(), value.as_str())))
        .min_by_key(|pods| pods.map_or(0, Vec::len));
    let Some(Some(pods)) = shortest else { return (Vec::new(), 0) };
    let selected: Vec<_> = pods.iter().filter(|(_, pod)| has_all(&pod.labels, required)).collect();
    let ready = |pod: &PodFacts| !pod.terminating && pod.ready.unwrap_or(controller.trust_pods_without_conditions);
    let port = server.spec.workload_port.port;
    let endpoints = selected
        .iter()
        .filter(|(_, pod)| ready(pod))
        .filter_map(|(key, pod)| Some(Endpoint { pod: (*key).clone(), address: pod.address?, port }))
        .collect();
    (endpoints, selected.len())
}
