//! What a plan reports of each object: the conditions that its status gets.

use std::collections::BTreeMap;
use std::ops::Range;

use foldhash::HashMap;

use super::{HttpRouteReport, InferencePoolReport, PolicyReport, PoolPlan};
use crate::conditions::{Condition, kind, reason};
use crate::gateway::gateways::OwnGateway;
use crate::gateway::listeners::Listener;
use crate::kinds::faults::Fault;
use crate::object::{Bind, BindState, Kind, ObjectKey};
use crate::routing::models::route::Route;
use crate::world::World;

/// The reports of all objects that a plan has something to say about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reports {
    /// The conditions of our GatewayClasses.
    pub classes: BTreeMap<ObjectKey, Vec<Condition>>,
    /// Our Gateways.
    pub gateways: BTreeMap<ObjectKey, GatewayReport>,
    /// The ListenerSets of our Gateways.
    pub listener_sets: BTreeMap<ObjectKey, ListenerSetReport>,
    /// The HTTPRoutes.
    pub http_routes: HashMap<ObjectKey, HttpRouteReport>,
    /// The BackendTLSPolicies.
    pub policies: BTreeMap<ObjectKey, PolicyReport>,
    /// The InferencePools.
    pub inference_pools: BTreeMap<ObjectKey, InferencePoolReport>,
    /// The ModelRoutes.
    pub routes: HashMap<ObjectKey, RouteReport>,
    /// The ModelServers.
    pub servers: BTreeMap<ObjectKey, ServerReport>,
}

/// What is reported of a Gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct GatewayReport {
    /// The generation that was looked at.
    pub generation: i64,
    /// Where clients reach it: IP addresses and host names.
    pub addresses: Vec<String>,
    /// `Accepted`, `Programmed`, `ResolvedRefs` and, where it applies, `InsecureFrontendValidationMode`.
    pub conditions: Vec<Condition>,
    /// Its own listeners in the order of the spec.
    pub listeners: Vec<ListenerReport>,
    /// The number of ListenerSets that add listeners to it.
    pub attached_sets: usize,
    /// For each port that its listeners are served on the router's own port.
    pub ports: BTreeMap<u16, u16>,
}

/// What is reported of a ListenerSet.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerSetReport {
    /// The generation that was looked at.
    pub generation: i64,
    /// `Accepted` and `Programmed`.
    pub conditions: Vec<Condition>,
    /// Its listeners in the order of the spec; none if the Gateway refuses the set.
    pub listeners: Vec<ListenerReport>,
}

/// What is reported of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerReport {
    /// The listener's name.
    pub name: String,
    /// The number of routes attached to it.
    pub attached_routes: usize,
    /// The kinds of route that it serves.
    pub supported_kinds: Vec<Kind>,
    /// `Accepted`, `Programmed`, `ResolvedRefs`, `Conflicted` and, where it applies, `OverlappingTLSConfig`.
    pub conditions: Vec<Condition>,
}

/// What is reported of a ModelRoute.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteReport {
    /// The generation that was looked at.
    pub generation: i64,
    /// `Accepted` and `ResolvedRefs`, of the route as a whole.
    pub conditions: [Condition; 2],
    /// For each entry of `spec.parentRefs`, in their order, what it came to.
    pub parents: Vec<ParentReport>,
    /// What the route asks for and does not get, although it serves.
    pub warnings: Vec<&'static str>,
}

/// What is reported of a route for one of its parents.
#[derive(Clone, Debug, PartialEq)]
pub struct ParentReport {
    /// `Accepted` and `ResolvedRefs`.
    pub conditions: [Condition; 2],
}

/// What is reported of a ModelServer.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerReport {
    /// The generation that was looked at.
    pub generation: i64,
    /// `Ready`.
    pub conditions: Vec<Condition>,
    /// The Pods that it selects.
    pub endpoints: usize,
    /// Those of them that are ready.
    pub ready_endpoints: usize,
    /// What the server asks for and does not get, although it serves.
    pub warnings: Vec<&'static str>,
}

impl RouteReport {
    /// Starts the report of a route some of whose targets may be unresolved.
    pub(super) fn new(route: &Route, unresolved: &[String]) -> Self {
        let accepted = match &route.rules {
            Ok(_) => Condition::holds(kind::ACCEPTED, reason::ACCEPTED),
            Err(faults) => Condition::fails(kind::ACCEPTED, reason::UNSUPPORTED_VALUE, join(faults)),
        };
        let resolved = if unresolved.is_empty() {
            Condition::holds(kind::RESOLVED_REFS, reason::RESOLVED_REFS)
        } else {
            Condition::fails(kind::RESOLVED_REFS, reason::BACKEND_NOT_FOUND, unresolved.join("; "))
        };
        let warnings =
            if route.spec.rate_limit.is_some() { vec!["`spec.rateLimit` is not enforced"] } else { Vec::new() };
        Self { generation: route.record.generation, conditions: [accepted, resolved], parents: Vec::new(), warnings }
    }

    /// Notes that the route has no parentRef although it needs one.
    pub(super) fn note_missing_parents(&mut self, missing: bool) {
        let message = "`spec.parentRefs` is required while the Gateway API is on; the route is ignored";
        self.refuse(missing, message);
    }

    /// Notes that the route has parentRefs although there are no Gateways.
    pub(super) fn note_parents_without_gateway_api(&mut self, present: bool) {
        let message = "`spec.parentRefs` needs the Gateway API, which is off; the route is ignored";
        self.refuse(present, message);
    }

    fn refuse(&mut self, refused: bool, message: &'static str) {
        if refused && self.conditions[0].status {
            self.conditions[0] = Condition::fails(kind::ACCEPTED, reason::NO_MATCHING_PARENT, message);
        }
    }

    /// Adds what one parentRef came to.
    pub(super) fn add_parent(&mut self, attached: Condition) {
        let [own, resolved] = [&self.conditions[0], &self.conditions[1]];
        let accepted = if own.status { attached } else { own.clone() };
        let conditions = [accepted, resolved.clone()];
        self.parents.push(ParentReport { conditions });
    }
}

/// Reports our Gateways and their ListenerSets; `attached` returns how many routes a Gateway's listener has, by the
/// places of both.
pub(super) fn gateways(
    gateways: &[OwnGateway<'_>],
    attached: &dyn Fn(usize, usize) -> usize,
    binds: &HashMap<Bind, BindState>,
) -> (BTreeMap<ObjectKey, GatewayReport>, BTreeMap<ObjectKey, ListenerSetReport>) {
    let mut sets = BTreeMap::new();
    let mut reports = BTreeMap::new();
    for (place, gateway) in gateways.iter().enumerate() {
        let listeners = |places: Range<usize>| -> Vec<ListenerReport> {
            places
                .map(|listener| listener_report(&gateway.listeners[listener], attached(place, listener), binds))
                .collect()
        };
        for set in &gateway.sets {
            let report = ListenerSetReport {
                generation: set.generation,
                conditions: gateway.set_conditions(set, binds),
                listeners: listeners(set.places.clone()),
            };
            sets.insert(set.key.clone(), report);
        }
        let report = GatewayReport {
            generation: gateway.generation,
            addresses: gateway.assigned.published.clone(),
            conditions: gateway.conditions(binds),
            listeners: listeners(gateway.places()),
            attached_sets: gateway.attached_sets(),
            ports: gateway.ports(),
        };
        reports.insert(gateway.key.clone(), report);
    }
    (reports, sets)
}

fn listener_report(listener: &Listener<'_>, routes: usize, binds: &HashMap<Bind, BindState>) -> ListenerReport {
    ListenerReport {
        name: listener.name.to_owned(),
        attached_routes: routes,
        supported_kinds: listener.kinds.clone(),
        conditions: listener.conditions(binds),
    }
}

/// Reports the ModelServers.
pub(super) fn servers(world: &World, pools: &[PoolPlan]) -> BTreeMap<ObjectKey, ServerReport> {
    let pools = pools.iter().filter(|pool| pool.key.kind == Kind::ModelServer);
    let pools: HashMap<&ObjectKey, &PoolPlan> = pools.map(|pool| (&pool.key.object, pool)).collect();
    let report = |server: &crate::routing::models::route::Server| {
        let pool = pools.get(&server.key);
        let ready_endpoints = pool.map_or(0, |pool| pool.endpoints.len());
        let ready = match &server.policy {
            Err(faults) => Condition::fails(kind::READY, reason::UNSUPPORTED_VALUE, join(faults)),
            Ok(_) if ready_endpoints == 0 => {
                let message = "no Pod with the labels of `spec.workloadSelector` is ready";
                Condition::fails(kind::READY, reason::NO_READY_ENDPOINTS, message)
            }
            Ok(_) => Condition::holds(kind::READY, reason::READY),
        };
        let disaggregated = server.spec.workload_selector.pd_group.is_some();
        let warning = "`spec.workloadSelector.pdGroup` is not used: every selected Pod serves whole requests";
        ServerReport {
            generation: server.record.generation,
            conditions: vec![ready],
            endpoints: pool.map_or(0, |pool| pool.selected),
            ready_endpoints,
            warnings: if disaggregated { vec![warning] } else { Vec::new() },
        }
    };
    world.model_servers.iter().map(|(key, server)| (key.clone(), report(server))).collect()
}

fn join(faults: &[Fault]) -> String {
    let sentences: Vec<_> = faults.iter().map(|fault| format!("`{}`: {}", fault.path, fault.message)).collect();
    sentences.join("; ")
}
