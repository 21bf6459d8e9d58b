//! The ModelRoutes of a plan: where they attach, and what becomes of their targets.

use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::{Controller, RouteReport};
use crate::gateway::parents::{Candidate, ListenerPlace, Parents};
use crate::object::{Kind, ObjectKey};
use crate::pool::policy::PoolIndex;
use crate::routing::models::entry::RouteEntry;
use crate::routing::models::route::{BackendName, Route, RuleTarget};
use crate::world::World;

/// The ModelRoutes of a plan.
pub(super) struct Models {
    /// For each Gateway and each of its listeners the routes attached there, in their order of precedence.
    pub(super) attached: Vec<Vec<Vec<Arc<RouteEntry>>>>,
    /// The routes of the plain port.
    pub(super) plain: Vec<Arc<RouteEntry>>,
    /// The report on each route.
    pub(super) reports: HashMap<ObjectKey, RouteReport>,
}

/// Attaches all ModelRoutes; `pools` are those of the ModelServers.
pub(super) fn attach(
    world: &World,
    controller: &Controller,
    parents: &Parents<'_>,
    pools: &HashMap<ObjectKey, PoolIndex>,
) -> Models {
    let mut models = Models {
        attached: parents.listeners_by_gateway(),
        plain: Vec::new(),
        reports: HashMap::with_capacity(world.model_routes.objects.len()),
    };
    let mut routes: Vec<&Arc<Route>> = world.model_routes.objects.values().collect();
    // They are in the order of their keys, and a stable sort keeps it among those of one age.
    routes.sort_by_key(|route| route.record.created);
    for route in routes {
        let entry = route.rules.is_ok().then(|| Arc::new(RouteEntry::new(route, |target| resolve(target, pools))));
        let unresolved = entry.as_ref().map_or(&[][..], |entry| &entry.unresolved);
        let report = RouteReport::new(route, unresolved, &world.redis_away);
        let report = models.add(route, entry, report, parents, controller);
        models.reports.insert(route.key.clone(), report);
    }
    models
}

/// Returns the pool of a target, or why it has none.
fn resolve(target: &RuleTarget, pools: &HashMap<ObjectKey, PoolIndex>) -> Result<PoolIndex, String> {
    match &target.backend {
        BackendName::ModelServer(key) => {
            pools.get(key).copied().ok_or_else(|| format!("there is no usable ModelServer `{key}`"))
        }
        BackendName::ExternalModelProvider(key) => {
            Err(format!("ExternalModelProvider `{key}` cannot be used: external providers are not served"))
        }
    }
}

impl Models {
    fn add(
        &mut self,
        route: &Route,
        entry: Option<Arc<RouteEntry>>,
        mut report: RouteReport,
        parents: &Parents<'_>,
        controller: &Controller,
    ) -> RouteReport {
        if !controller.gateway_api {
            let detached = !route.spec.parent_refs.is_empty();
            report.note_parents_without_gateway_api(detached);
            self.plain.extend(entry.filter(|_| !detached));
            return report;
        }
        report.note_missing_parents(route.spec.parent_refs.is_empty());
        let candidate = Candidate { kind: Kind::ModelRoute, namespace: &route.key.namespace, hostnames: &[] };
        for (parent, key) in route.spec.parent_refs.iter().zip(&route.parents) {
            let attachment = parents.attach(candidate, parent, key);
            if let Some(entry) = &entry {
                attach_once(&mut self.attached, &attachment.listeners, entry);
            }
            report.add_parent(attachment.accepted);
        }
        report
    }
}

/// Attaches a route to listeners, once each even when several parentRefs lead there.
pub(super) fn attach_once<E>(attached: &mut [Vec<Vec<Arc<E>>>], places: &[ListenerPlace], entry: &Arc<E>) {
    for (gateway, listener) in places {
        let routes = &mut attached[*gateway][*listener];
        if routes.last().is_none_or(|last| !Arc::ptr_eq(last, entry)) {
            routes.push(Arc::clone(entry));
        }
    }
}
