//! What a plan reports of each object: the conditions that its status gets.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;

use foldhash::HashMap;

use super::Controller;
use super::{HttpRouteReport, InferencePoolReport, Parts, PolicyReport, PoolPlan};
use crate::conditions::{Condition, Problem, Verdict, kind, reason};
use crate::for_each_kind;
use crate::gateway::class;
use crate::gateway::gateways::OwnGateway;
use crate::gateway::listeners::Listener;
use crate::kinds::faults::Fault;
use crate::object::{Bind, BindState, Kind, ObjectKey, PoolKey};
use crate::pool::model_server::Server;
use crate::routing::models::route::Route;
use crate::routing::priority;
use crate::world::{Ejected, World};

/// The reports of all objects that a plan has something to say about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reports {
    /// Our GatewayClasses.
    pub classes: BTreeMap<ObjectKey, ClassReport>,
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

/// What is reported of an object, as far as it is alike for all kinds.
pub trait Report {
    /// Calls `look` with each condition, and with the part of the object that it is about: empty for the object as a
    /// whole, else with a colon and a space at its end.
    fn each_condition(&self, look: &mut dyn FnMut(&str, &Condition));
}

/// What is reported of a GatewayClass.
#[derive(Clone, Debug, PartialEq)]
pub struct ClassReport {
    /// The generation that was looked at.
    pub generation: i64,
    /// `Accepted` and, where the installed release is known, `SupportedVersion`.
    pub conditions: Vec<Condition>,
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

/// What is reported of an object at one of the Gateways that lead to it.
#[derive(Clone, Debug, PartialEq)]
pub struct AncestorReport {
    /// The Gateway.
    pub gateway: ObjectKey,
    /// What the object came to there.
    pub verdict: Verdict,
}

/// What is reported of a ModelRoute.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteReport {
    /// The generation that was looked at.
    pub generation: i64,
    /// What the route came to as a whole.
    pub verdict: Verdict,
    /// For each entry of `spec.parentRefs`, in their order, what it came to.
    pub parents: Vec<Verdict>,
}

/// What is reported of a ModelServer.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerReport {
    /// The generation that was looked at.
    pub generation: i64,
    /// `Ready`.
    pub ready: Condition,
    /// `Paired`, where the server has prefill and decode done by different Pods.
    pub paired: Option<Condition>,
    /// `UnservedFields`, where the server asks for what the router does not do.
    pub unserved: Option<Condition>,
    /// The Pods that it selects.
    pub endpoints: usize,
    /// Those of them that are ready.
    pub ready_endpoints: usize,
}

macro_rules! reports {
    ($($kind:ident $name:literal in $table:ident {
        version: $version:literal, needs: $api:ident, reach: $reach:ident, only: $only:literal, reports: $reports:ident
    },)*) => {
        impl Reports {
            /// Calls `look` with each report.
            pub fn each(&self, look: &mut dyn FnMut(Kind, &ObjectKey, &dyn Report)) {
                $(reports!(@each $reports, self, Kind::$kind, look);)*
            }
        }
    };
    (@each none, $all:expr, $kind:expr, $look:expr) => {};
    (@each $reports:ident, $all:expr, $kind:expr, $look:expr) => {
        for (key, report) in &$all.$reports {
            $look($kind, key, report);
        }
    };
}

for_each_kind!(reports);

fn of_listeners(listeners: &[ListenerReport], look: &mut dyn FnMut(&str, &Condition)) {
    for listener in listeners {
        let part = format!("listener `{}`: ", listener.name);
        listener.conditions.iter().for_each(|condition| look(&part, condition));
    }
}

impl Report for ClassReport {
    fn each_condition(&self, look: &mut dyn FnMut(&str, &Condition)) {
        self.conditions.iter().for_each(|condition| look("", condition));
    }
}

impl Report for GatewayReport {
    fn each_condition(&self, look: &mut dyn FnMut(&str, &Condition)) {
        self.conditions.iter().for_each(|condition| look("", condition));
        of_listeners(&self.listeners, look);
    }
}

impl Report for ListenerSetReport {
    fn each_condition(&self, look: &mut dyn FnMut(&str, &Condition)) {
        self.conditions.iter().for_each(|condition| look("", condition));
        of_listeners(&self.listeners, look);
    }
}

impl Report for HttpRouteReport {
    fn each_condition(&self, look: &mut dyn FnMut(&str, &Condition)) {
        self.parents.iter().flat_map(|parent| parent.verdict.iter()).for_each(|condition| look("", condition));
    }
}

impl Report for PolicyReport {
    fn each_condition(&self, look: &mut dyn FnMut(&str, &Condition)) {
        self.ancestors.iter().flat_map(|ancestor| ancestor.verdict.iter()).for_each(|condition| look("", condition));
    }
}

impl Report for InferencePoolReport {
    fn each_condition(&self, look: &mut dyn FnMut(&str, &Condition)) {
        self.parents.iter().flat_map(|parent| parent.verdict.iter()).for_each(|condition| look("", condition));
    }
}

impl Report for RouteReport {
    fn each_condition(&self, look: &mut dyn FnMut(&str, &Condition)) {
        let verdicts = std::iter::once(&self.verdict).chain(&self.parents);
        verdicts.flat_map(Verdict::iter).for_each(|condition| look("", condition));
    }
}

impl Report for ServerReport {
    fn each_condition(&self, look: &mut dyn FnMut(&str, &Condition)) {
        self.conditions().for_each(|condition| look("", condition));
    }
}

impl ServerReport {
    /// Iterates over the conditions.
    pub fn conditions(&self) -> impl Iterator<Item = &Condition> {
        std::iter::once(&self.ready).chain(&self.paired).chain(&self.unserved)
    }
}

impl RouteReport {
    /// Starts the report of a route some of whose targets may be unresolved.
    pub(super) fn new(route: &Route, unresolved: &[String], redis_away: &BTreeSet<Arc<str>>) -> Self {
        let accepted = match &route.rules {
            Ok(_) => Condition::holds(kind::ACCEPTED, reason::ACCEPTED),
            Err(faults) => Condition::fails(kind::ACCEPTED, reason::UNSUPPORTED_VALUE, join(faults)),
        };
        let resolved = if unresolved.is_empty() {
            Condition::holds(kind::RESOLVED_REFS, reason::RESOLVED_REFS)
        } else {
            Condition::fails(kind::RESOLVED_REFS, reason::BACKEND_NOT_FOUND, unresolved.join("; "))
        };
        let priority = route.priority.as_ref().err().map(|fault| Problem::no_priority(priority::ANNOTATION, fault));
        let redis = route.limits.as_ref().and_then(|limits| limits.redis.as_ref());
        let redis = redis.filter(|redis| redis_away.contains(*redis)).map(|redis| Problem::unlimited(redis));
        let unserved = Problem::all(priority.iter().chain(&redis));
        let unserved = unserved.map(|problem| Condition::warns(kind::UNSERVED_FIELDS, &problem));
        let verdict = Verdict { occasional: Vec::from_iter(unserved), ..Verdict::new(accepted, resolved) };
        Self { generation: route.record.generation, verdict, parents: Vec::new() }
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
        if refused && self.verdict.accepted.status {
            self.verdict.accepted = Condition::fails(kind::ACCEPTED, reason::NO_MATCHING_PARENT, message);
        }
    }

    /// Adds what one parentRef came to.
    pub(super) fn add_parent(&mut self, attached: Condition) {
        let Verdict { accepted: own, resolved_refs, .. } = &self.verdict;
        let accepted = if own.status { attached } else { own.clone() };
        self.parents.push(Verdict::new(accepted, resolved_refs.clone()));
    }
}

/// Reports our GatewayClasses.
pub(super) fn classes(world: &World) -> BTreeMap<ObjectKey, ClassReport> {
    let report =
        |(key, generation, conditions): (&ObjectKey, _, _)| (key.clone(), ClassReport { generation, conditions });
    class::conditions(world).map(report).collect()
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
pub(super) fn servers(world: &World, controller: &Controller, pools: &[PoolPlan]) -> BTreeMap<ObjectKey, ServerReport> {
    let pools = pools.iter().filter(|pool| pool.key.kind == Kind::ModelServer);
    let pools: HashMap<&ObjectKey, &PoolPlan> = pools.map(|pool| (&pool.key.object, pool)).collect();
    let report = |server: &Server| {
        let pool = pools.get(&server.key);
        let ready_endpoints = pool.map_or(0, |pool| pool.endpoints.len());
        let ready = match &server.policy {
            Err(faults) => Condition::fails(kind::READY, reason::UNSUPPORTED_VALUE, join(faults)),
            Ok(_) if ready_endpoints == 0 => {
                let message = "no Pod with the labels of `spec.workloadSelector` is ready";
                Condition::fails(kind::READY, reason::NO_READY_ENDPOINTS, message)
            }
            Ok(_) => ready(world.ejected.get(&PoolKey::of_server(&server.key)), ready_endpoints),
        };
        ServerReport {
            generation: server.record.generation,
            ready,
            paired: pool.and_then(|pool| pool.parts.as_ref()).map(Parts::condition),
            unserved: unserved(server, controller),
            endpoints: pool.map_or(0, |pool| pool.selected),
            ready_endpoints,
        }
    };
    world.model_servers.iter().map(|(key, server)| (key.clone(), report(server))).collect()
}

/// Returns the condition of a ModelServer that asks for something and does not get it.
fn unserved(server: &Server, controller: &Controller) -> Option<Condition> {
    let profile = controller.unknown_profile(server.profile.as_deref());
    let group = &server.spec.workload_selector.pd_group;
    let connector = server.spec.kv_connector.as_ref().filter(|_| group.is_none());
    let connector = connector.map(|_| "`spec.kvConnector` is not used without `spec.workloadSelector.pdGroup`");
    Condition::unserved(&connector.into_iter().chain(profile.as_deref()).collect::<Vec<_>>())
}

/// Returns the condition of a pool with endpoints; which of them are ejected is said, but a pool with ejected endpoints serves.
fn ready(ejected: Option<&Ejected>, endpoints: usize) -> Condition {
    let holds = Condition::holds(kind::READY, reason::READY);
    let Some(ejected) = ejected.filter(|ejected| !ejected.is_empty()) else { return holds };
    let names: Vec<_> = ejected.iter().map(|(endpoint, cause)| format!("{endpoint}: {cause}")).collect();
    let message = format!("{} of {endpoints} endpoints get no requests: {}", ejected.len(), names.join("; "));
    Condition { reason: reason::ENDPOINTS_EJECTED, message: message.into(), ..holds }
}

fn join(faults: &[Fault]) -> String {
    let sentences: Vec<_> = faults.iter().map(|fault| format!("`{}`: {}", fault.path, fault.message)).collect();
    sentences.join("; ")
}
