//! The pools: for each ModelServer the Pods that it selects and that are ready.
//!
//! Source: the ModelServer API, `workloadSelector`: Pods of the same namespace that have every label of `matchLabels`.

use std::sync::Arc;

use foldhash::HashMap;

use super::Controller;
use crate::inference::pool::Endpoint;
use crate::native::route::Server;
use crate::object::{Kind, ObjectKey, PoolKey};
use crate::routing::pool::PoolPolicy;
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

/// The servers that may select a Pod with a label: namespace, key and value.
type ServersByLabel<'w> = HashMap<(&'w str, &'w str, &'w str), Vec<usize>>;

/// Returns the pool of every valid ModelServer, in the order of their keys.
pub(super) fn pools(world: &World, controller: &Controller) -> Vec<PoolPlan> {
    let servers = world.model_servers.iter().filter_map(|(_, server)| Some((server, server.policy.as_ref().ok()?)));
    let (servers, mut pools): (Vec<&Server>, Vec<PoolPlan>) =
        servers.map(|(server, policy)| (server, pool(server, policy))).unzip();
    // A Pod that a server selects has every label of its selector, so that looking for one of them finds the server.
    let mut by_label = ServersByLabel::default();
    for (place, server) in servers.iter().enumerate() {
        if let Some((label, value)) = server.spec.workload_selector.match_labels.first_key_value() {
            by_label.entry((&server.key.namespace, label, value)).or_default().push(place);
        }
    }
    for (key, pod) in world.pods.iter() {
        for (label, value) in &pod.labels {
            for place in by_label.get(&(&*key.namespace, label.as_str(), value.as_str())).into_iter().flatten() {
                offer(&mut pools[*place], servers[*place], key, pod, controller);
            }
        }
    }
    pools
}

fn pool(server: &Server, policy: &Arc<PoolPolicy>) -> PoolPlan {
    let key = PoolKey { kind: Kind::ModelServer, object: server.key.clone(), port: None };
    PoolPlan { key, policy: Arc::clone(policy), endpoints: Vec::new(), selected: 0 }
}

/// Adds a Pod to the pool of a server, if that selects it and it is ready.
fn offer(pool: &mut PoolPlan, server: &Server, key: &ObjectKey, pod: &PodFacts, controller: &Controller) {
    if !has_all(&pod.labels, &server.spec.workload_selector.match_labels) {
        return;
    }
    pool.selected += 1;
    let ready = !pod.terminating && pod.ready.unwrap_or(controller.trust_pods_without_conditions);
    if let (true, Some(address)) = (ready, pod.address) {
        pool.endpoints.push(Endpoint { pod: key.clone(), address, port: server.spec.workload_port.port });
    }
}
