//! From the world to everything the router does next: which routes, sockets, pools and conditions there are.
//!
//! A plan is always made anew from the whole world, so that it cannot depend on the order in which facts arrived.
//! Invalid input is not an error here: it becomes a condition of the object, and all other objects are planned as if
//! the invalid one did not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::controller::Controller;
use crate::gateway::gateways::{OwnGateway, OwnGateways, own_gateways};
use crate::gateway::parents::Parents;
use crate::gateway::references::References;
use crate::gateway::tls::{TlsPlan, UpstreamTls};
use crate::object::{Bind, ObjectKey};
use crate::pool::policy::PoolIndex;
use crate::routing::http::entry::HttpEntry;
use crate::routing::http::redirect::Scheme;
use crate::routing::models::entry::RouteEntry;
use crate::routing::table::{ListenerIdentity, ListenerTable, PoolEntry, RouteTable};
use crate::world::World;

use backends::{Backends, Sources};
use inference_pools::InferencePools;
use policies::Policies;
use service_ports::ServicePorts;

pub use complaints::Complaint;
pub use http::{HttpParentReport, HttpRouteReport};
pub use inference_pools::InferencePoolReport;
pub use parts::{Count, Group, Parts, ROLE_LABEL};
pub use policies::PolicyReport;
pub use pools::PoolPlan;
pub use report::{
    AncestorReport, ClassReport, GatewayReport, ListenerReport, ListenerSetReport, Report, Reports, RouteReport,
    ServerReport,
};

mod backends;
mod complaints;
mod http;
mod inference_pools;
mod models;
mod parts;
mod policies;
mod pools;
mod report;
mod service_ports;

/// What is to be done, derived from one state of the world.
#[derive(Debug)]
pub struct Plan {
    /// The routes.
    pub table: RouteTable,
    /// The sockets to have open, in order.
    pub binds: Vec<BindPlan>,
    /// How TLS is spoken with clients, for each bind where listeners say so.
    pub tls: TlsPlan,
    /// How TLS is spoken with backends, in the order of [`TlsIndex`](crate::pool::policy::TlsIndex).
    pub upstream_tls: Vec<Arc<UpstreamTls>>,
    /// The pools, in the order of [`RouteTable::pools`].
    pub pools: Vec<PoolPlan>,
    /// What to report of each object.
    pub reports: Reports,
    /// The addresses of the pool that Gateways are to keep.
    pub allocations: BTreeMap<ObjectKey, IpAddr>,
    /// The names whose addresses are to be looked up, for [`World::names`].
    pub names: BTreeSet<Arc<str>>,
}

/// A socket to have open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BindPlan {
    /// The socket.
    pub bind: Bind,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// Plans for one state of the world.
pub fn plan(world: &World, controller: &Controller) -> Plan {
    let references = References::new(world);
    let OwnGateways { gateways, allocations } = own_gateways(world, controller, &references);
    let parents = Parents::new(&gateways, &world.namespaces.objects);
    let mut pools = pools::pools(world, controller);
    let indices = pools.iter().enumerate().map(|(index, pool)| (pool.key.object.clone(), PoolIndex(index))).collect();
    let models = models::attach(world, controller, &parents, &indices);
    let policies = Policies::new(world, &references);
    let wanted = backends::wanted_ports(world);
    let services = wanted.iter().map(|(service, _)| (*service).clone());
    let services = ServicePorts::new(world, services.chain(inference_pools::picker_services(world, controller)));
    let inference_pools = InferencePools::new(world, controller, &services, &mut pools);
    let sources = Sources {
        references: &references,
        policies: &policies,
        services: &services,
        inference_pools: &inference_pools,
    };
    let backends = Backends::new(sources, wanted, &mut pools);
    let http = http::attach(world, &gateways, &parents, &backends);
    let (uses, pool_uses) = backends.into_uses();

    let entries = pools.iter().map(|pool| PoolEntry { key: pool.key.clone(), policy: Arc::clone(&pool.policy) });
    let mut outline = Outline::new(RouteTable::new(entries.collect()));
    if !controller.gateway_api {
        let bind = Bind { address: controller.bind_address, port: controller.port };
        let plan = BindPlan { bind, tls: controller.speaks_tls(bind) };
        let identity = ListenerIdentity { scheme: scheme(plan.tls), port: bind.port, ..ListenerIdentity::default() };
        outline.add(plan, ListenerTable::new(identity, &models.plain, &[]));
    }
    for (place, gateway) in gateways.iter().enumerate() {
        outline.add_gateway(gateway, &models.attached[place], &http.attached[place], controller);
    }
    let counts = |gateway: usize, place: usize| models.attached[gateway][place].len() + http.accepted[gateway][place];
    let (gateway_reports, listener_sets) = report::gateways(&gateways, &counts, &world.binds);
    let reports = Reports {
        classes: report::classes(world),
        gateways: gateway_reports,
        listener_sets,
        http_routes: http.reports,
        policies: policies.reports(&uses, &gateways),
        inference_pools: inference_pools.reports(&pool_uses, &gateways),
        routes: models.reports,
        servers: report::servers(world, controller, &pools),
    };
    let Outline { table, binds, tls } = outline;
    let (binds, upstream_tls, names) = (binds.into_iter().collect(), uses.tls, pools::names(world));
    Plan { table, binds, tls, upstream_tls, pools, reports, allocations, names }
}

/// The sockets of a plan and what is served on them, while they are being collected.
struct Outline {
    table: RouteTable,
    binds: BTreeSet<BindPlan>,
    tls: TlsPlan,
}

impl Outline {
    fn new(table: RouteTable) -> Self {
        Self { table, binds: BTreeSet::new(), tls: TlsPlan::new() }
    }

    /// Adds the listeners of a Gateway, each with its ModelRoutes and its HTTPRoutes.
    fn add_gateway(
        &mut self,
        gateway: &OwnGateway<'_>,
        models: &[Vec<Arc<RouteEntry>>],
        http: &[Vec<Arc<HttpEntry>>],
        controller: &Controller,
    ) {
        let name: Arc<str> = gateway.key.to_string().into();
        for (listener, (models, http)) in gateway.listeners.iter().zip(models.iter().zip(http)) {
            for bind in &listener.binds {
                if let Some(tls) = &listener.tls {
                    let known = self.tls.entry(*bind).or_default();
                    // Gateways that share a socket may serve one hostname together, with the same settings.
                    if !known.iter().any(|(hostname, _)| *hostname == listener.hostname) {
                        known.push((listener.hostname.clone(), Arc::clone(tls)));
                    }
                }
                let speaks_tls = listener.tls.is_some() || controller.speaks_tls(*bind);
                let identity = ListenerIdentity {
                    gateway: Some(Arc::clone(&name)),
                    hostname: listener.hostname.clone(),
                    scheme: scheme(speaks_tls),
                    port: listener.port,
                };
                let mut table = ListenerTable::new(identity, models, http);
                table.filters.cors = gateway.cors.and_then(|cors| cors.as_ref().as_ref().ok()).cloned();
                self.add(BindPlan { bind: *bind, tls: speaks_tls }, table);
            }
        }
    }

    fn add(&mut self, plan: BindPlan, listener: ListenerTable) {
        self.binds.insert(plan);
        self.table.add_listener(plan.bind, listener);
    }
}

fn scheme(speaks_tls: bool) -> Scheme {
    if speaks_tls { Scheme::Https } else { Scheme::Http }
}

#[cfg(test)]
mod tests;
