//! The Services that HTTPRoutes send to: their pools, and what becomes of each reference.
//!
//! Source: Gateway API, `BackendObjectReference` and `RouteReason`; Kubernetes, EndpointSlices, which are found by their
//! label and whose ports by the name of the Service's port, and `ServicePort.appProtocol`.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use foldhash::HashMap;

use super::PoolPlan;
use super::policies::{Policies, Uses};
use crate::gateway::conditions::reason;
use crate::gateway::gateways::OwnGateway;
use crate::gateway::references::{Reasons, Reference, References, Referrer};
use crate::inference::pool::Endpoint;
use crate::object::{Kind, ObjectKey, PoolKey};
use crate::routing::http::entry::{Destination, RefFault};
use crate::routing::http::route::{BackendReference, HttpRoute, Rule};
use crate::routing::pool::{BackendProtocol, PickerPolicy, PoolIndex, PoolPolicy};
use crate::world::{EndpointSliceFacts, ServicePort, SliceEndpoint, World};

/// How conditions tell of references to backends.
const REASONS: Reasons = Reasons { kind: reason::INVALID_KIND, unusable: reason::BACKEND_NOT_FOUND };

/// Finds backends for the routes of one Gateway after another.
pub(super) struct Backends<'w> {
    references: &'w References<'w>,
    policies: &'w Policies<'w>,
    uses: RefCell<Uses>,
    ports: HashMap<(ObjectKey, u16), PortFacts<'w>>,
    world: &'w World,
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

/// Adds the pools of the Services that HTTPRoutes refer to, and returns what finds them.
pub(super) fn backends<'w>(
    world: &'w World,
    references: &'w References<'w>,
    policies: &'w Policies<'w>,
    pools: &mut Vec<PoolPlan>,
) -> Backends<'w> {
    let mut slices: BTreeMap<ObjectKey, Vec<(&ObjectKey, &EndpointSliceFacts)>> = BTreeMap::new();
    let mut wanted: BTreeSet<(&ObjectKey, u16)> = BTreeSet::new();
    for reference in world.http_routes.objects.values().flat_map(|route| route.rules.iter().flat_map(Rule::references))
    {
        if let (true, Some(port)) = (reference.is_of(Kind::Service), reference.port) {
            wanted.insert((&reference.object, port));
        }
    }
    slices.extend(wanted.iter().map(|(service, _)| ((*service).clone(), Vec::new())));
    for (key, slice) in world.endpoint_slices.iter() {
        let Some(service) = &slice.service else { continue };
        let service = ObjectKey { namespace: Arc::clone(&key.namespace), name: Arc::clone(service) };
        if let Some(slices) = slices.get_mut(&service) {
            slices.push((key, slice));
        }
    }
    let mut ports = HashMap::default();
    for (service, number) in wanted {
        let Some(port) = find_port(world, service, number) else { continue };
        let slices = slices.get(service).map(Vec::as_slice).unwrap_or_default();
        let spoken = Spoken::of(port.app_protocol.as_deref());
        let facts = PortFacts { pool: PoolIndex(pools.len()), name: &port.name, needs_tls: spoken.needs_tls };
        pools.push(pool(service, number, port, spoken.protocol, slices));
        ports.insert((service.clone(), number), facts);
    }
    Backends { references, policies, uses: RefCell::default(), ports, world }
}

impl Backends<'_> {
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
    ) -> Result<Destination, RefFault> {
        let from = Referrer { kind: Kind::HttpRoute, namespace: &route.key.namespace };
        let BackendReference { group, kind, object, port } = reference;
        let named = Reference { group, kind, namespace: Some(&object.namespace), name: &object.name };
        let service = self.references.follow(from, named, Kind::Service).map_err(|fault| {
            let problem = fault.problem(REASONS);
            RefFault { reason: problem.reason, message: problem.message.into_owned() }
        })?;
        let missing = |message| RefFault { reason: reason::BACKEND_NOT_FOUND, message };
        let Some(number) = *port else {
            return Err(missing(format!("the reference to the Service `{service}` has no port")));
        };
        let Some(port) = self.ports.get(&(service.clone(), number)) else {
            let message = match self.world.services.find(&service) {
                Some(_) => format!("the Service `{service}` has no TCP port {number}"),
                None => format!("there is no Service `{service}`"),
            };
            return Err(missing(message));
        };
        let client = gateway.client_certificate.as_ref();
        let tls = self.uses.borrow_mut().tls(self.policies, (&service, port.name), client);
        if port.needs_tls && tls.is_none() {
            let message =
                format!("port {number} of the Service `{service}` speaks TLS, and no BackendTLSPolicy says how");
            return Err(RefFault { reason: reason::UNSUPPORTED_PROTOCOL, message });
        }
        Ok(Destination { pool: port.pool, tls })
    }

    /// Notes that the Gateway with the place `gateway` leads to the backends of a route.
    pub(super) fn note_use(&self, route: &HttpRoute, gateway: usize) {
        for reference in
            route.rules.iter().flat_map(Rule::references).filter(|reference| reference.is_of(Kind::Service))
        {
            let port = reference.port.and_then(|port| self.ports.get(&(reference.object.clone(), port)));
            if let Some(port) = port {
                self.uses.borrow_mut().note(self.policies, (&reference.object, port.name), gateway);
            }
        }
    }

    /// Returns what was found to be used.
    pub(super) fn into_uses(self) -> Uses {
        self.uses.into_inner()
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

fn find_port<'w>(world: &'w World, service: &ObjectKey, number: u16) -> Option<&'w ServicePort> {
    let ports = &world.services.find(service)?.ports;
    ports.iter().find(|port| port.port == i32::from(number) && port.protocol == "TCP")
}

fn pool(
    service: &ObjectKey,
    number: u16,
    port: &ServicePort,
    protocol: BackendProtocol,
    slices: &[(&ObjectKey, &EndpointSliceFacts)],
) -> PoolPlan {
    let mut endpoints = Vec::new();
    let mut selected = 0;
    for (_, slice) in slices {
        selected += slice.endpoints.len();
        let Some(port) = slice.ports.iter().find(|own| own.name == port.name).and_then(|own| own.port) else {
            continue;
        };
        let ready = slice.endpoints.iter().filter(|endpoint| endpoint.ready);
        endpoints.extend(ready.filter_map(|ready| Some(endpoint(service, ready, *ready.addresses.first()?, port))));
    }
    // While a Service's endpoints move from one slice to another they are in both.
    endpoints.sort_unstable();
    endpoints.dedup();
    let policy = PoolPolicy {
        served_model: None,
        engine: None,
        protocol,
        https: false,
        timeout: None,
        retry_attempts: 0,
        retry_interval: Duration::ZERO,
        picker: PickerPolicy::BuiltIn,
    };
    let key = PoolKey { kind: Kind::Service, object: service.clone(), port: Some(number) };
    PoolPlan { key, policy: Arc::new(policy), endpoints, selected }
}

/// Makes an endpoint; one without a Pod is called by its address.
fn endpoint(service: &ObjectKey, ready: &SliceEndpoint, address: IpAddr, port: u16) -> Endpoint {
    let name = ready.pod.clone().unwrap_or_else(|| address.to_string().into());
    Endpoint { pod: ObjectKey { namespace: Arc::clone(&service.namespace), name }, address, port }
}
