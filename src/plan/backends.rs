//! The Services that HTTPRoutes send to: their pools, and what becomes of each reference.
//!
//! Source: Gateway API, `BackendObjectReference` and `RouteReason`; Kubernetes, `ServicePort.appProtocol`; the Inference
//! Extension, whose InferencePools are backends like Services, but for the port, which they have themselves.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use foldhash::HashMap;

use super::PoolPlan;
use super::inference_pools::{InferencePools, PoolUses};
use super::policies::{Policies, PortName, Uses};
use super::service_ports::ServicePorts;
use crate::conditions::{Problem, reason};
use crate::gateway::gateways::OwnGateway;
use crate::gateway::references::{Reasons, Reference, References, Referrer};
use crate::object::{Kind, ObjectKey, PoolKey};
use crate::pool::policy::{BackendProtocol, PickerPolicy, PoolIndex, PoolPolicy};
use crate::pool::retry::RetryPolicy;
use crate::pool::session::SessionKeys;
use crate::pool::time_limits::TimeLimits;
use crate::routing::http::entry::Destination;
use crate::routing::http::route::{BackendReference, HttpRoute, Rule};
use crate::scheduling::endpoint::Endpoint;
use crate::world::{ServicePort, SliceEndpoint, World};

/// How conditions tell of references to backends.
const REASONS: Reasons = Reasons { kind: reason::INVALID_KIND, unusable: reason::BACKEND_NOT_FOUND };

/// Where backends are looked for.
pub(super) struct Sources<'w> {
    /// Which references may be followed.
    pub(super) references: &'w References<'w>,
    /// How TLS is spoken with Services.
    pub(super) policies: &'w Policies<'w>,
    /// The ports of Services.
    pub(super) services: &'w ServicePorts<'w>,
    /// The InferencePools.
    pub(super) inference_pools: &'w InferencePools,
}

/// Finds backends for the routes of one Gateway after another.
pub(super) struct Backends<'w> {
    sources: Sources<'w>,
    uses: RefCell<Uses>,
    pool_uses: RefCell<PoolUses>,
    ports: HashMap<(ObjectKey, u16), PortFacts<'w>>,
}

/// What is known of a port that a route refers to.
struct PortFacts<'w> {
    pool: PoolIndex,
    name: &'w str,
    needs_tls: bool,
}

/// What is spoken on a port of a Service.
struct Spoken {
    protocol: BackendProtocol,
    needs_tls: bool,
}

/// Returns the ports of Services that HTTPRoutes refer to.
pub(super) fn wanted_ports(world: &World) -> BTreeSet<(&ObjectKey, u16)> {
    let rules = world.http_routes.objects.values().flat_map(|route| &route.rules);
    let services = rules.flat_map(Rule::references).filter(|reference| reference.is_of(Kind::Service));
    services.filter_map(|reference| Some((&reference.object, reference.port?))).collect()
}

impl<'w> Backends<'w> {
    /// Adds the pools of the ports `wanted` of Services, and returns what finds them and the InferencePools.
    pub(super) fn new(sources: Sources<'w>, wanted: BTreeSet<(&ObjectKey, u16)>, pools: &mut Vec<PoolPlan>) -> Self {
        let services = sources.services;
        let mut ports = HashMap::default();
        for (service, number) in wanted {
            let Ok(port) = services.find(service, number) else { continue };
            let spoken = Spoken::of(port.app_protocol.as_deref());
            let facts = PortFacts { pool: PoolIndex(pools.len()), name: &port.name, needs_tls: spoken.needs_tls };
            pools.push(pool(service, number, port, spoken.protocol, services));
            ports.insert((service.clone(), number), facts);
        }
        let (uses, pool_uses) = (RefCell::default(), RefCell::default());
        Self { sources, uses, pool_uses, ports }
    }

    /// Finds the backend that a route of `gateway` refers to.
    ///
    /// # Errors
    ///
    /// Returns what `ResolvedRefs` says of a reference that leads nowhere.
    pub(super) fn resolve(
        &self,
        route: &HttpRoute,
        reference: &BackendReference,
        gateway: &OwnGateway<'_>,
    ) -> Result<Destination, Problem> {
        if self.leads_to_pool(reference) {
            let pool = self.sources.inference_pools.find(&self.follow(route, reference, Kind::InferencePool)?)?;
            return Ok(Destination { pool, tls: None });
        }
        let service = self.follow(route, reference, Kind::Service)?;
        let missing = |message: String| Problem::new(reason::BACKEND_NOT_FOUND, message);
        let Some(number) = reference.port else {
            return Err(missing(format!("the reference to the Service `{service}` has no port")));
        };
        let Some(port) = self.ports.get(&(service.clone(), number)) else {
            return Err(missing(self.sources.services.find(&service, number).err().unwrap_or_default()));
        };
        let client = gateway.client_certificate.as_ref();
        let tls =
            self.uses.borrow_mut().tls(self.sources.policies, PortName { service: &service, port: port.name }, client);
        if port.needs_tls && tls.is_none() {
            let message =
                format!("port {number} of the Service `{service}` speaks TLS, and no BackendTLSPolicy says how");
            return Err(Problem::new(reason::UNSUPPORTED_PROTOCOL, message));
        }
        Ok(Destination { pool: port.pool, tls })
    }

    /// Returns the object that a reference of a route names, if it is of the kind `wanted` and may be followed.
    fn follow(&self, route: &HttpRoute, reference: &BackendReference, wanted: Kind) -> Result<ObjectKey, Problem> {
        let from = Referrer { kind: Kind::HttpRoute, namespace: &route.key.namespace };
        let BackendReference { group, kind, object, .. } = reference;
        let named = Reference { group, kind, namespace: Some(&object.namespace), name: &object.name };
        self.sources.references.follow(from, named, wanted).map_err(|fault| fault.problem(REASONS))
    }

    /// Returns whether a reference is to an InferencePool, and those are served.
    fn leads_to_pool(&self, reference: &BackendReference) -> bool {
        self.sources.inference_pools.are_served() && reference.is_of(Kind::InferencePool)
    }

    /// Notes that the Gateway with the place `gateway` leads to the backends of a route.
    pub(super) fn note_use(&self, route: &HttpRoute, gateway: usize) {
        for reference in route.rules.iter().flat_map(Rule::references) {
            let object = &reference.object;
            if self.leads_to_pool(reference) {
                // Nobody writes into the status of a pool that does not let him in.
                if self.follow(route, reference, Kind::InferencePool).is_ok() {
                    self.pool_uses.borrow_mut().entry(object.clone()).or_default().insert(gateway);
                }
            } else if reference.is_of(Kind::Service)
                && let Some(port) = reference.port.and_then(|port| self.ports.get(&(object.clone(), port)))
            {
                self.uses.borrow_mut().note(
                    self.sources.policies,
                    PortName { service: object, port: port.name },
                    gateway,
                );
            }
        }
    }

    /// Returns what was found to be used.
    pub(super) fn into_uses(self) -> (Uses, PoolUses) {
        (self.uses.into_inner(), self.pool_uses.into_inner())
    }
}

impl Spoken {
    /// Reads an `appProtocol`; words that are not known say nothing about HTTP.
    fn of(app_protocol: Option<&str>) -> Self {
        let (protocol, needs_tls) = match app_protocol {
            Some("kubernetes.io/h2c") => (BackendProtocol::H2c, false),
            Some("kubernetes.io/wss") => (BackendProtocol::Http1, true),
            Some(word) if word.eq_ignore_ascii_case("https") => (BackendProtocol::Http1, true),
            _ => (BackendProtocol::Http1, false),
        };
        Self { protocol, needs_tls }
    }
}

fn pool(
    service: &ObjectKey,
    number: u16,
    port: &ServicePort,
    protocol: BackendProtocol,
    services: &ServicePorts<'_>,
) -> PoolPlan {
    let ready = services.ready(service, port);
    let mut endpoints: Vec<_> = ready.map(|(ready, address, port)| endpoint(service, ready, address, port)).collect();
    endpoints.sort_unstable();
    endpoints.dedup();
    let policy = PoolPolicy {
        served_model: None,
        engine: None,
        protocol,
        https: false,
        timeout: None,
        limits: TimeLimits::default(),
        connections: None,
        retry: RetryPolicy::Backend,
        picker: PickerPolicy::BuiltIn,
        sessions: SessionKeys::default(),
        requests: None,
        kv_events: None,
        disaggregation: None,
    };
    let key = PoolKey { kind: Kind::Service, object: service.clone(), port: Some(number) };
    PoolPlan { key, policy: Arc::new(policy), profile: None, endpoints, selected: services.count(service), parts: None }
}

/// Makes an endpoint; one without a Pod is called by its address.
fn endpoint(service: &ObjectKey, ready: &SliceEndpoint, address: IpAddr, port: u16) -> Endpoint {
    let name = ready.pod.clone().unwrap_or_else(|| address.to_string().into());
    Endpoint::new(ObjectKey { namespace: Arc::clone(&service.namespace), name }, address, port)
}
