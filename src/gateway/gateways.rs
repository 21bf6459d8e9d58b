//! The Gateways that are ours, each with the listeners of its own and of the ListenerSets that it allows.
//!
//! Source: Gateway API, `GatewayStatus` and `ListenerSetStatus`. A Gateway is accepted when its addresses and
//! parameters can be served and at least one of its own listeners is valid; a ListenerSet when its Gateway allows it
//! and is accepted, and at least one of the set's listeners is valid.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;

use foldhash::{HashMap, HashMapExt};

use super::addresses::{Assigned, assign};
use super::admission::Namespaces;
use super::class;
use super::conflicts::{Claims, SharedBinds, mark_overlaps};
use super::frontend::Frontend;
use super::listeners::{Listener, Owner, Protocol};
use super::references::{Reasons, References, Referrer};
use super::services::{self, ContainerPorts};
use crate::addresses::AddressProvider;
use crate::certificate::Certificate;
use crate::conditions::{Condition, Problem, kind, reason};
use crate::controller::{CORS, Controller};
use crate::kinds::gateway::{From, GatewaySpec};
use crate::object::{Bind, BindState, Kind, ObjectKey};
use crate::world::{CorsPolicy, GatewayFacts, ListenerSetFacts, World};

/// How conditions tell of the reference to the certificate that backends are shown.
const CLIENT_CERTIFICATE_REASONS: Reasons =
    Reasons { kind: reason::INVALID_CLIENT_CERTIFICATE_REF, unusable: reason::INVALID_CLIENT_CERTIFICATE_REF };

/// A Gateway of one of our classes.
#[derive(Debug)]
pub struct OwnGateway<'w> {
    /// The Gateway.
    pub key: ObjectKey,
    /// The object's generation; 0 for the default Gateway that nobody wrote.
    pub generation: i64,
    /// Its own listeners in the order of the spec, then those of its ListenerSets.
    pub listeners: Vec<Listener<'w>>,
    /// Its ListenerSets, in their order of precedence.
    pub sets: Vec<OwnListenerSet>,
    /// Its addresses.
    pub assigned: Assigned,
    /// The certificate that backends are shown.
    pub client_certificate: Option<Arc<Certificate>>,
    /// Which other origins may call its ModelRoutes, if that is written.
    pub cors: Option<&'w CorsPolicy>,
    own: usize,
    unaccepted: Option<Problem>,
    unresolved: Option<Problem>,
    is_insecure: bool,
    /// Its own load balancer, whose ports lead to ports of the router that are other ones.
    service: Option<ObjectKey>,
}

/// A ListenerSet of one of our Gateways.
#[derive(Debug)]
pub struct OwnListenerSet {
    /// The ListenerSet.
    pub key: ObjectKey,
    /// The object's generation.
    pub generation: i64,
    /// The places of its listeners among those of the Gateway; none if it is refused.
    pub places: Range<usize>,
    /// Why the Gateway refuses it.
    pub refused: Option<Problem>,
}

/// Our Gateways, and the addresses of the pool that they are to keep.
#[derive(Debug, Default)]
pub struct OwnGateways<'w> {
    /// The oldest first, then by namespace and name; before them the default Gateway if nobody wrote it.
    pub gateways: Vec<OwnGateway<'w>>,
    /// The addresses.
    pub allocations: BTreeMap<ObjectKey, IpAddr>,
}

/// The context in which Gateways are read.
struct Reader<'w, 'r> {
    world: &'w World,
    controller: &'r Controller,
    references: &'r References<'w>,
    sets: HashMap<ObjectKey, Vec<(&'w ObjectKey, &'w ListenerSetFacts)>>,
    shared: SharedBinds,
    container_ports: ContainerPorts,
}

/// Returns our Gateways.
pub fn own_gateways<'w>(world: &'w World, controller: &Controller, references: &References<'w>) -> OwnGateways<'w> {
    if !controller.gateway_api {
        return OwnGateways::default();
    }
    let mut ours: Vec<(&ObjectKey, &GatewayFacts)> =
        world.gateways.iter().filter(|(_, gateway)| class::is_own(world, &gateway.spec.gateway_class_name)).collect();
    // They are in the order of their keys, and a stable sort keeps it among those of one age.
    ours.sort_by_key(|(_, gateway)| gateway.record.created);
    let (assigned, allocations) = assign(&ours, world, controller);
    let sets = sets_by_gateway(world);
    let container_ports = match controller.addresses {
        AddressProvider::Service => ContainerPorts::of(world),
        _ => ContainerPorts::default(),
    };
    let mut reader = Reader { world, controller, references, sets, shared: SharedBinds::default(), container_ports };
    let mut gateways = Vec::with_capacity(ours.len() + 1);
    gateways.extend(reader.default_gateway());
    gateways
        .extend(ours.into_iter().zip(assigned).map(|((key, gateway), assigned)| reader.read(key, gateway, assigned)));
    OwnGateways { gateways, allocations }
}

/// Returns the ListenerSets by the Gateway that they name, in their order of precedence.
fn sets_by_gateway(world: &World) -> HashMap<ObjectKey, Vec<(&ObjectKey, &ListenerSetFacts)>> {
    let mut sets: HashMap<ObjectKey, Vec<(&ObjectKey, &ListenerSetFacts)>> = HashMap::new();
    for (key, set) in world.listener_sets.iter().filter(|(_, set)| set.spec.parent_ref.is_gateway()) {
        let parent = &set.spec.parent_ref;
        let gateway = key.referred(parent.namespace.as_deref(), &parent.name);
        sets.entry(gateway).or_default().push((key, set));
    }
    sets.values_mut().for_each(|sets| sets.sort_by_key(|(_, set)| set.record.created));
    sets
}

impl<'w> Reader<'w, '_> {
    /// Returns the default Gateway, if nobody wrote it.
    fn default_gateway(&mut self) -> Option<OwnGateway<'w>> {
        let key = self.controller.default_gateway();
        if self.world.gateways.find(&key).is_some() {
            return None;
        }
        let service = self.world.services.find(&self.controller.service);
        let published = service.map(|service| &*service.addresses).unwrap_or_default();
        let mut gateway = OwnGateway {
            listeners: vec![Listener::open_to_everyone(&key, self.controller.port)],
            key,
            generation: 0,
            sets: Vec::new(),
            assigned: Assigned::at(self.controller.bind_address, published),
            client_certificate: None,
            cors: None,
            own: 1,
            unaccepted: None,
            unresolved: None,
            is_insecure: false,
            service: None,
        };
        self.bind(&mut gateway, 0..1);
        Some(gateway)
    }

    fn read(&mut self, key: &ObjectKey, gateway: &'w GatewayFacts, assigned: Assigned) -> OwnGateway<'w> {
        let spec = &*gateway.spec;
        let from = Referrer { kind: Kind::Gateway, namespace: &key.namespace };
        let frontend = spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref());
        let frontend = frontend.map(|spec| Frontend::new(spec, from, self.references)).unwrap_or_default();
        let backend = spec.tls.as_ref().and_then(|tls| tls.backend.as_ref());
        let client = backend.and_then(|backend| backend.client_certificate_ref.as_ref());
        let client = client.map(|reference| self.references.certificate(from, reference)).transpose();
        let (client_certificate, unresolved) = match client {
            Ok(certificate) => (certificate, None),
            Err(fault) => (None, Some(fault.problem(CLIENT_CERTIFICATE_REASONS))),
        };
        let owner = Owner { kind: Kind::Gateway, key: key.clone() };
        let listeners = spec.listeners.iter().map(|spec| Listener::new(spec, &owner, &frontend, self.references));
        let mut own = OwnGateway {
            key: key.clone(),
            generation: gateway.record.generation,
            listeners: listeners.collect(),
            sets: Vec::new(),
            own: spec.listeners.len(),
            unaccepted: unknown_parameters(spec).or_else(|| assigned.unsupported.clone()),
            assigned,
            client_certificate,
            cors: gateway.cors.as_ref(),
            unresolved,
            is_insecure: frontend.is_insecure(),
            service: self.load_balancer(key, &spec.gateway_class_name),
        };
        let mut claims = Claims::default();
        claims.settle(&mut own.listeners);
        self.bind(&mut own, 0..spec.listeners.len());
        for (set_key, set) in self.sets.remove(key).unwrap_or_default() {
            self.add_set(&mut own, &mut claims, spec, &frontend, (set_key, set));
        }
        mark_overlaps(&mut own.listeners);
        own
    }

    /// Returns the Service that is the load balancer of a Gateway, if it gets one of its own.
    fn load_balancer(&self, gateway: &ObjectKey, class: &str) -> Option<ObjectKey> {
        let has_own = self.controller.addresses == AddressProvider::Service;
        has_own.then(|| services::key(gateway, class, self.controller)).flatten()
    }

    fn add_set(
        &mut self,
        own: &mut OwnGateway<'w>,
        claims: &mut Claims<'w>,
        spec: &GatewaySpec,
        frontend: &Frontend,
        (key, set): (&ObjectKey, &'w ListenerSetFacts),
    ) {
        let first = own.listeners.len();
        let allowed = spec.allowed_listeners.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
        let allowed = Namespaces { allowed, otherwise: From::None, own: &own.key.namespace };
        let refused = if !allowed.contain(&key.namespace, &self.world.namespaces.objects) {
            let message = "the Gateway's allowedListeners do not allow ListenerSets of this namespace";
            Some(Problem::new(reason::NOT_ALLOWED, message))
        } else if !own.is_accepted() {
            Some(Problem::new(reason::PARENT_NOT_ACCEPTED, "the Gateway is not accepted"))
        } else {
            None
        };
        if refused.is_none() {
            let owner = Owner { kind: Kind::ListenerSet, key: key.clone() };
            let listeners = set.spec.listeners.iter();
            own.listeners.extend(listeners.map(|spec| Listener::new(spec, &owner, frontend, self.references)));
            claims.settle(&mut own.listeners[first..]);
            self.bind(own, first..own.listeners.len());
        }
        let places = first..own.listeners.len();
        own.sets.push(OwnListenerSet { key: key.clone(), generation: set.record.generation, places, refused });
    }

    /// Gives the valid ones of some listeners their sockets, unless another Gateway does not leave them these.
    fn bind(&mut self, gateway: &mut OwnGateway<'w>, places: Range<usize>) {
        if gateway.unaccepted.is_some() {
            return;
        }
        let service = gateway.service.clone();
        for listener in gateway.listeners[places].iter_mut().filter(|listener| listener.is_valid()) {
            for address in &gateway.assigned.local {
                let port = service
                    .as_ref()
                    .map_or(Some(listener.port), |service| self.container_ports.port(service, listener.port));
                // There are fewer ports than listeners can have.
                let Some(port) = port else { break };
                let bind = Bind { address: *address, port };
                let speaks_tls = listener.protocol == Protocol::Https || self.controller.speaks_tls(bind);
                if let Some(conflict) = self.shared.claim(bind, listener, speaks_tls) {
                    listener.problems.conflict = Some(conflict);
                    listener.binds.clear();
                    break;
                }
                listener.binds.push(bind);
            }
        }
    }
}

/// Returns the problem with a Gateway that refers to parameters: the router knows none.
fn unknown_parameters(spec: &GatewaySpec) -> Option<Problem> {
    let parameters = spec.infrastructure.as_ref()?.parameters_ref.as_ref()?;
    let message = format!(
        "infrastructure.parametersRef names `{}` of kind `{}` in group `{}`, and no kind of parameters is known",
        parameters.name, parameters.kind, parameters.group
    );
    Some(Problem::new(reason::INVALID_PARAMETERS, message))
}

impl OwnGateway<'_> {
    /// Returns the places of the Gateway's own listeners.
    pub fn places(&self) -> Range<usize> {
        0..self.own
    }

    /// Returns whether the Gateway is accepted.
    pub fn is_accepted(&self) -> bool {
        self.unaccepted.is_none() && self.listeners[self.places()].iter().any(Listener::is_valid)
    }

    /// Returns for each port that listeners are served on the router's own port.
    pub fn ports(&self) -> BTreeMap<u16, u16> {
        self.listeners.iter().filter_map(|listener| Some((listener.port, listener.binds.first()?.port))).collect()
    }

    /// Returns how many ListenerSets are attached: only accepted ones are.
    pub fn attached_sets(&self) -> usize {
        self.sets.iter().filter(|set| self.is_set_accepted(set)).count()
    }

    fn is_set_accepted(&self, set: &OwnListenerSet) -> bool {
        self.listeners[set.places.clone()].iter().any(Listener::is_valid)
    }

    /// Returns the Gateway's conditions.
    pub fn conditions(&self, binds: &HashMap<Bind, BindState>) -> Vec<Condition> {
        let listeners = &self.listeners[self.places()];
        let accepted = match &self.unaccepted {
            Some(problem) => Condition::judge(kind::ACCEPTED, reason::ACCEPTED, [problem]),
            None => accepted(listeners),
        };
        let programmed = if !accepted.status {
            Condition::fails(kind::PROGRAMMED, reason::INVALID, "the Gateway is not accepted")
        } else if let Some(problem) = &self.assigned.unusable {
            Condition::judge(kind::PROGRAMMED, reason::PROGRAMMED, [problem])
        } else {
            programmed(listeners, binds)
        };
        let unresolved = listeners.iter().find(|listener| !listener.problems.unresolved.is_empty()).map(|listener| {
            Problem::new(reason::LISTENERS_NOT_RESOLVED, format!("see the listener `{}`", listener.name))
        });
        let unresolved = self.unresolved.iter().chain(&unresolved);
        let insecure = self.is_insecure.then(|| {
            let message = "clients without a valid certificate are let in";
            let problem = Problem::new(reason::CONFIGURATION_CHANGED, message);
            Condition::warns(kind::INSECURE_FRONTEND, &problem)
        });
        let resolved = Condition::judge(kind::RESOLVED_REFS, reason::RESOLVED_REFS, unresolved);
        [accepted, programmed, resolved].into_iter().chain(insecure).chain(self.unserved()).collect()
    }

    /// Returns the condition of a Gateway that asks for something and does not get it.
    fn unserved(&self) -> Option<Condition> {
        let fault = self.cors?.as_ref().as_ref().err()?;
        Condition::unserved(&[&*format!("the annotation `{CORS}` cannot be used, and lets nobody in: {fault}")])
    }

    /// Returns the conditions of one of the Gateway's ListenerSets.
    pub fn set_conditions(&self, set: &OwnListenerSet, binds: &HashMap<Bind, BindState>) -> Vec<Condition> {
        let listeners = &self.listeners[set.places.clone()];
        let accepted = match &set.refused {
            Some(problem) => Condition::judge(kind::ACCEPTED, reason::ACCEPTED, [problem]),
            None => accepted(listeners),
        };
        let programmed = match accepted.status {
            true => programmed(listeners, binds),
            false => Condition { kind: kind::PROGRAMMED, ..accepted.clone() },
        };
        vec![accepted, programmed]
    }
}

/// Returns the condition of an object that is accepted when any of its listeners is valid.
fn accepted(listeners: &[Listener<'_>]) -> Condition {
    let invalid = listeners.iter().filter(|listener| !listener.is_valid());
    let invalid: Vec<String> = invalid.map(|listener| format!("`{}`", listener.name)).collect();
    if invalid.is_empty() && !listeners.is_empty() {
        return Condition::holds(kind::ACCEPTED, reason::ACCEPTED);
    }
    if invalid.len() == listeners.len() {
        return Condition::fails(kind::ACCEPTED, reason::LISTENERS_NOT_VALID, "no listener is valid");
    }
    let message = format!("these listeners are not valid: {}", invalid.join(", "));
    Condition::warns(kind::ACCEPTED, &Problem::new(reason::LISTENERS_NOT_VALID, message))
}

/// Returns the condition of an object with valid listeners that is programmed when any of them is open.
fn programmed(listeners: &[Listener<'_>], binds: &HashMap<Bind, BindState>) -> Condition {
    if listeners.iter().any(|listener| listener.is_open(binds)) {
        Condition::holds(kind::PROGRAMMED, reason::PROGRAMMED)
    } else {
        Condition::fails(kind::PROGRAMMED, reason::PENDING, "no listener's port is open")
    }
}
