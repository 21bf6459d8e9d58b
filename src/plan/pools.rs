//! The pools: for each ModelServer the Pods that it selects and that are ready.
//!
//! Source: the ModelServer API, `workloadSelector`: Pods of the same namespace that have every label of `matchLabels`.
//! InferencePools select in the same way. A ModelServer may list its instances instead, in `spec.endpoints`.

use std::collections::BTreeSet;
use std::sync::Arc;

use foldhash::HashMap;

use super::Controller;
use super::parts::{Part, Parts, Sharing, Sorter};
use crate::kinds::static_endpoint::StaticEndpoint;
use crate::object::{ObjectKey, PoolKey};
use crate::pool::model_server::Server;
use crate::pool::policy::PoolPolicy;
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
    let selected = select(world, controller, &selections);
    servers
        .into_iter()
        .zip(selected)
        .map(|((server, policy), selected)| {
            if server.spec.endpoints.is_empty() {
                pool(((server, policy), selected))
            } else {
                listed(server, policy, world)
            }
        })
        .collect()
}

/// Returns the names by which ModelServers list instances that have to be looked up.
pub(super) fn names(world: &World) -> BTreeSet<Arc<str>> {
    let servers = world.model_servers.iter().filter(|(_, server)| server.policy.is_ok());
    let endpoints = servers.flat_map(|(_, server)| &server.spec.endpoints);
    endpoints.filter_map(StaticEndpoint::dns_name).map(Arc::from).collect()
}

/// Returns the pool of a ModelServer that lists its instances. They are taken to be ready: there is nobody who says
/// otherwise, and requests find out.
fn listed(server: &Server, policy: &Arc<PoolPolicy>, world: &World) -> PoolPlan {
    let spec = &server.spec;
    let address = |endpoint: &StaticEndpoint| match endpoint.dns_name() {
        None => endpoint.address.parse().ok(),
        Some(name) => world.names.get(name).copied(),
    };
    let instance = |endpoint: &StaticEndpoint| {
        let name = format!("{}:{}", server.key.name, endpoint.name).into();
        let key = ObjectKey { namespace: Arc::clone(&server.key.namespace), name };
        (key, PodFacts::listed(endpoint.labels.clone(), address(endpoint)))
    };
    let instances: Vec<_> = spec.endpoints.iter().map(instance).collect();
    let known: Vec<_> = instances.iter().map(|(key, facts)| (key, facts)).collect();
    let mut sorter = Sorter::new(sharing(server), &known);
    let mut endpoints = Vec::with_capacity(known.len());
    for ((key, facts), listed) in known.iter().zip(&spec.endpoints) {
        let Part::Endpoint(role, group) = sorter.sort(key, facts, facts.address.is_some()) else { continue };
        let (Some(address), Some(port)) = (facts.address, listed.port.or_else(|| spec.port())) else { continue };
        endpoints.push(Endpoint { role, group, ..Endpoint::new((*key).clone(), address, port) });
    }
    PoolPlan {
        key: PoolKey::of_server(&server.key),
        policy: Arc::clone(policy),
        profile: server.profile.clone(),
        endpoints,
        selected: spec.endpoints.len(),
        parts: sorter.finish(),
    }
}

fn sharing(server: &Server) -> Sharing<'_> {
    server.spec.workload_selector.pd_group.as_ref().map_or(Sharing::None, Sharing::Groups)
}

fn selection(server: &Server) -> Selection<'_> {
    Selection {
        namespace: &server.key.namespace,
        labels: &server.spec.workload_selector.match_labels,
        ports: server
            .spec
            .port()
            .into_iter()
            .flat_map(|first| first..=first.saturating_add(server.ranks - 1))
            .collect(),
        sharing: sharing(server),
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
