//! From the world to everything the router does next: which routes, sockets, pools and conditions there are.
//!
//! A plan is always made anew from the whole world, so that it cannot depend on the order in which facts arrived.
//! Invalid input is not an error here: it becomes a condition of the object, and all other objects are planned as if
//! the invalid one did not exist.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use crate::gateway::class;
use crate::gateway::listeners::{OwnGateway, own_gateways};
use crate::inference::pool::Endpoint;
use crate::native::attach::{ListenerPlace, Parents};
use crate::native::route::{BackendName, Route, RuleTarget};
use crate::object::{Bind, ObjectKey};
use crate::routing::http::redirect::Scheme;
use crate::routing::pool::PoolPolicy;
use crate::routing::table::{ListenerIdentity, ListenerTable, PoolEntry, PoolIndex, RouteEntry, RouteTable};
use crate::world::World;

pub use pools::PoolPlan;
pub use report::{GatewayReport, ListenerReport, ParentReport, Reports, RouteReport, ServerReport};

mod pools;
mod report;

/// The controller that our GatewayClasses name.
pub const CONTROLLER_NAME: &str = "volcano.sh/kthena-router";

/// The GatewayClass that is ours even where nobody wrote it.
pub const CLASS_NAME: &str = "kthena-router";

/// The name that the router's own Service has unless it was told another.
pub const SERVICE_NAME: &str = "kthena-router";

/// The name of the default Gateway.
pub const DEFAULT_GATEWAY: &str = "default";

/// What the router was told about itself, as far as plans depend on it.
#[derive(Clone, Debug)]
pub struct Controller {
    /// Whether Gateways are served.
    pub gateway_api: bool,
    /// The router's own namespace.
    pub namespace: String,
    /// The address that ports are opened on.
    pub bind_address: IpAddr,
    /// The inference port.
    pub port: u16,
    /// Whether the inference port speaks TLS.
    pub tls: bool,
    /// Whether a Pod without status conditions counts as ready, as in a directory of manifests.
    pub trust_pods_without_conditions: bool,
    /// The router's own Service, whose addresses are those of all Gateways.
    pub service: ObjectKey,
    /// Whether the ports of that Service are kept in step with the listeners.
    pub sync_service_ports: bool,
    /// Whether the GatewayClass and the default Gateway are created where they are missing.
    pub provides: bool,
}

/// What is to be done, derived from one state of the world.
#[derive(Debug)]
pub struct Plan {
    /// The routes.
    pub table: RouteTable,
    /// The sockets to have open, in order.
    pub binds: Vec<BindPlan>,
    /// The pools, in the order of [`RouteTable::pools`].
    pub pools: Vec<PoolPlan>,
    /// What to report of each object.
    pub reports: Reports,
}

/// A socket to have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BindPlan {
    /// The socket.
    pub bind: Bind,
    /// Whether it speaks TLS.
    pub tls: bool,
}

impl Default for Controller {
    /// Returns a router that serves from a directory of manifests without any option.
    fn default() -> Self {
        Self {
            gateway_api: true,
            namespace: "default".to_owned(),
            bind_address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            port: 8080,
            tls: false,
            trust_pods_without_conditions: true,
            service: ObjectKey::new("default", SERVICE_NAME),
            sync_service_ports: false,
            provides: false,
        }
    }
}

impl Controller {
    /// Returns the key of the default Gateway.
    pub fn default_gateway(&self) -> ObjectKey {
        ObjectKey::new(&*self.namespace, DEFAULT_GATEWAY)
    }

    fn scheme(&self, bind: Bind) -> Scheme {
        if self.bind_plan(bind).tls { Scheme::Https } else { Scheme::Http }
    }

    fn bind_plan(&self, bind: Bind) -> BindPlan {
        BindPlan { bind, tls: self.tls && bind.port == self.port }
    }
}

/// Plans for one state of the world.
pub fn plan(world: &World, controller: &Controller) -> Plan {
    let gateways = own_gateways(world, controller);
    let pools = pools::pools(world, controller);
    let entries = pools.iter().map(|pool| PoolEntry { key: pool.key.clone(), policy: Arc::clone(&pool.policy) });
    let indices: HashMap<&ObjectKey, PoolIndex> =
        pools.iter().enumerate().map(|(index, pool)| (&pool.key.object, PoolIndex(index))).collect();

    let mut draft = Draft {
        controller,
        parents: Parents::new(&gateways, &world.namespaces.objects),
        attached: gateways.iter().map(|gateway| vec![Vec::new(); gateway.listeners.len()]).collect(),
        plain: Vec::new(),
        reports: HashMap::with_capacity(world.model_routes.objects.len()),
    };
    let mut routes: Vec<&Arc<Route>> = world.model_routes.objects.values().collect();
    // They are in the order of their keys, and a stable sort keeps it among those of one age.
    routes.sort_by_key(|route| route.record.created);
    for route in routes {
        draft.add(route, &|target| resolve(target, &indices));
    }

    let mut table = RouteTable::new(entries.collect());
    let mut binds = BTreeSet::new();
    if !controller.gateway_api {
        let bind = Bind { address: controller.bind_address, port: controller.port };
        let identity =
            ListenerIdentity { port: bind.port, scheme: controller.scheme(bind), ..ListenerIdentity::default() };
        table.add_listener(bind, ListenerTable::new(identity, &draft.plain, &[]));
        binds.insert(controller.bind_plan(bind));
    }
    add_listeners(&mut table, &mut binds, &gateways, &draft.attached, controller);
    let addresses = world.services.find(&controller.service).map(|service| &*service.addresses).unwrap_or_default();
    let reports = Reports {
        classes: class::conditions(world).collect(),
        gateways: report::gateways(&gateways, &draft.attached, addresses, &world.binds),
        routes: draft.reports,
        servers: report::servers(world, &pools),
    };
    Plan { table, binds: binds.into_iter().collect(), pools, reports }
}

fn add_listeners(
    table: &mut RouteTable,
    binds: &mut BTreeSet<BindPlan>,
    gateways: &[OwnGateway<'_>],
    attached: &[Vec<Vec<Arc<RouteEntry>>>],
    controller: &Controller,
) {
    for (gateway, attached) in gateways.iter().zip(attached) {
        let name: Arc<str> = gateway.key.to_string().into();
        for (listener, routes) in gateway.listeners.iter().zip(attached) {
            if listener.fault.is_none() {
                binds.insert(controller.bind_plan(listener.bind));
                let identity = ListenerIdentity {
                    gateway: Some(Arc::clone(&name)),
                    hostname: listener.hostname.clone(),
                    scheme: controller.scheme(listener.bind),
                    port: listener.bind.port,
                };
                table.add_listener(listener.bind, ListenerTable::new(identity, routes, &[]));
            }
        }
    }
}

/// Returns the pool of a target, or why it has none.
fn resolve(target: &RuleTarget, pools: &HashMap<&ObjectKey, PoolIndex>) -> Result<PoolIndex, String> {
    match &target.backend {
        BackendName::ModelServer(key) => {
            pools.get(key).copied().ok_or_else(|| format!("there is no usable ModelServer `{key}`"))
        }
        BackendName::ExternalModelProvider(key) => {
            Err(format!("ExternalModelProvider `{key}` cannot be used: external providers are not served"))
        }
    }
}

/// A plan's routes while they are being attached, one route at a time in their order of precedence.
struct Draft<'p> {
    controller: &'p Controller,
    parents: Parents<'p>,
    /// For each Gateway and each of its listeners the routes attached there.
    attached: Vec<Vec<Vec<Arc<RouteEntry>>>>,
    /// The routes of the plain port.
    plain: Vec<Arc<RouteEntry>>,
    reports: HashMap<ObjectKey, RouteReport>,
}

impl Draft<'_> {
    fn add(&mut self, route: &Arc<Route>, resolve: &dyn Fn(&RuleTarget) -> Result<PoolIndex, String>) {
        let entry = route.rules.is_ok().then(|| Arc::new(RouteEntry::new(route, resolve)));
        let mut report = RouteReport::new(route, entry.as_ref().map_or(&[], |entry| &entry.unresolved));
        if self.controller.gateway_api {
            report.note_missing_parents(route.spec.parent_refs.is_empty());
            for (parent, key) in route.spec.parent_refs.iter().zip(&route.parents) {
                let attachment = self.parents.attach(route, parent, key);
                if let Some(entry) = &entry {
                    self.attach(&attachment.listeners, entry);
                }
                report.add_parent(attachment.accepted);
            }
        } else {
            let detached = !route.spec.parent_refs.is_empty();
            report.note_parents_without_gateway_api(detached);
            if let (Some(entry), false) = (entry, detached) {
                self.plain.push(entry);
            }
        }
        self.reports.insert(route.key.clone(), report);
    }

    /// Attaches a route to listeners, once each even when several parentRefs lead there.
    fn attach(&mut self, places: &[ListenerPlace], entry: &Arc<RouteEntry>) {
        for (gateway, listener) in places {
            let routes = &mut self.attached[*gateway][*listener];
            if routes.last().is_none_or(|last| !Arc::ptr_eq(last, entry)) {
                routes.push(Arc::clone(entry));
            }
        }
    }
}

#[cfg(test)]
mod tests;
