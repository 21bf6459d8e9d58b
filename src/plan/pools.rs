//! The pools: for each ModelServer the Pods that it selects and that are ready.
//!
//! Source: the ModelServer API, `workloadSelector`: Pods of the same namespace that have every label of `matchLabels`.
//! InferencePools select in the same way.

use std::sync::Arc;

use foldhash::HashMap;

use super::Controller;
use super::parts::{Part, Parts, Sharing, Sorter};
use crate::object::{ObjectKey, PoolKey};
use crate::routing::models::route::Server;
use crate::routing::pool::PoolPolicy;
use crate::scheduling::endpoint::Endpoint;
use crate::selector::{Labels, has_all};
use crate::world::{PodFacts, World};

/// The label of a Pod that gets no new requests, with the value `true`: it finishes those that it has.
const DRAINING: &str = "modelserving.volcano.sh/traffic-draining";

/// A pool to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolPlan {
    /// The pool.
    pub key: PoolKey,
    /// How requests are sent to it.
    pub policy: Arc<PoolPolicy>,
    /// The scheduler's profile that it names; `None` for the scheduler's own.
    pub profile: Option<Arc<str>>,
    /// Its ready endpoints, in the order of their Pods.
    pub endpoints: Vec<Endpoint>,
    /// How many Pods it selects, ready or not.
    pub selected: usize,
    /// What its Pods are, where they share the work on a request.
    pub parts: Option<Parts>,
}

/// Which Pods of a namespace are meant, and the ports at which each of them has an endpoint.
pub(super) struct Selection<'w> {
    pub(super) namespace: &'w str,
    /// Labels that the Pods have; without any, no Pod is meant.
    pub(super) labels: &'w Labels,
    pub(super) ports: Vec<u16>,
    /// How the Pods share the work on a request.
    pub(super) sharing: Sharing<'w>,
}

/// What a selection comes to.
#[derive(Default)]
pub(super) struct Selected<'w> {
    /// The endpoints of the Pods that are ready, in the order of the Pods and for each of them in that of the ports.
    pub(super) endpoints: Vec<Endpoint>,
    /// The Pods.
    pub(super) pods: Vec<(&'w ObjectKey, &'w PodFacts)>,
    /// What they are, where they share the work on a request.
    pub(super) parts: Option<Parts>,
}

/// The selections that may select a Pod with a label: namespace, key and value.
type SelectionsByLabel<'w> = HashMap<(&'w str, &'w str, &'w str), Vec<usize>>;

/// Returns the pool of every valid ModelServer, in the order of their keys.
pub(super) fn pools(world: &World, controller: &Controller) -> Vec<PoolPlan> {
    let servers = world.model_servers.iter().filter_map(|(_, server)| Some((server, server.policy.as_ref().ok()?)));
    let (servers, selections): (Vec<_>, Vec<_>) = servers.map(|server| (server, selection(server.0))).unzip();
    let pool = |((server, policy), selected): ((&Server, &Arc<PoolPolicy>), Selected<'_>)| PoolPlan {
        key: PoolKey::of_server(&server.key),
        policy: Arc::clone(policy),
        profile: server.profile.clone(),
        endpoints: selected.endpoints,
        selected: selected.pods.len(),
        parts: selected.parts,
    };
    servers.into_iter().zip(select(world, controller, &selections)).map(pool).collect()
}

fn selection(server: &Server) -> Selection<'_> {
    Selection {
        namespace: &server.key.namespace,
        labels: &server.spec.workload_selector.match_labels,
        ports: vec![server.spec.workload_port.port],
        sharing: server.spec.workload_selector.pd_group.as_ref().map_or(Sharing::None, Sharing::Groups),
    }
}

/// Finds the Pods of each selection.
pub(super) fn select<'w>(world: &'w World, controller: &Controller, selections: &[Selection<'w>]) -> Vec<Selected<'w>> {
    let mut selected: Vec<_> = selections.iter().map(|_| Selected::default()).collect();
    // A Pod that is selected has every label of the selection, so that looking for one of them finds the selection.
    let mut by_label = SelectionsByLabel::default();
    for (place, selection) in selections.iter().enumerate() {
        if let Some((label, value)) = selection.labels.first_key_value() {
            by_label.entry((selection.namespace, label, value)).or_default().push(place);
        }
    }
    if by_label.is_empty() {
        return selected;
    }
    for (key, pod) in world.pods.iter() {
        for (label, value) in &pod.labels {
            for place in by_label.get(&(&*key.namespace, label.as_str(), value.as_str())).into_iter().flatten() {
                if has_all(&pod.labels, selections[*place].labels) {
                    selected[*place].pods.push((key, pod));
                }
            }
        }
    }
    for (selected, selection) in selected.iter_mut().zip(selections) {
        selected.sort(selection, controller);
    }
    selected
}

impl<'w> Selected<'w> {
    /// Makes endpoints of the Pods that can take requests.
    fn sort(&mut self, selection: &Selection<'w>, controller: &Controller) {
        let mut sorter = Sorter::new(selection.sharing, &self.pods);
        for (key, pod) in &self.pods {
            let address = pod.address.filter(|_| is_ready(pod, controller));
            let Part::Endpoint(role, group) = sorter.sort(key, pod, address.is_some()) else { continue };
            let bootstrap = sorter.bootstrap_ports(key, pod, (role, selection.ports.len()));
            let Some(address) = address else { continue };
            self.endpoints.extend(selection.ports.iter().zip(0..).map(|(port, rank)| Endpoint {
                rank,
                role,
                group: group.clone(),
                bootstrap_port: bootstrap.get(usize::from(rank)).or_else(|| bootstrap.first()).copied(),
                incarnation: pod.incarnation.clone(),
                ..Endpoint::new((*key).clone(), address, *port)
            }));
        }
        self.parts = sorter.finish();
    }
}

fn is_ready(pod: &PodFacts, controller: &Controller) -> bool {
    // A Pod whose containers have ended may keep the condition that it had while they ran.
    let has_ended = matches!(pod.phase.as_deref(), Some("Failed" | "Succeeded"));
    let is_draining = pod.labels.get(DRAINING).is_some_and(|value| value == "true");
    !pod.terminating && !has_ended && !is_draining && pod.ready.unwrap_or(controller.trust_pods_without_conditions)
}
