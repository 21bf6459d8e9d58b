//! The listeners of the Gateways that are ours: which are valid, and whom they let in.
//!
//! Source: Gateway API, `Listener` and `AllowedRoutes`. Within one Gateway, listeners that cannot be told apart by port
//! and hostname are all conflicted. Listeners of different Gateways may share a port and even a hostname; requests are
//! then offered to the older Gateway first. Only HTTP listeners are served as yet.

use std::collections::BTreeMap;

use foldhash::{HashMap, HashMapExt};

use super::class;
use super::conditions::{Condition, kind, reason};
use super::hostname::Hostname;
use crate::kinds::gateway::{AllowedRoutes, From, FromNamespaces, Listener as ListenerSpec};
use crate::object::{Bind, Kind, ObjectKey};
use crate::plan::Controller;
use crate::selector::{Expression, Labels, has_all};
use crate::world::{BindState, GatewayFacts, World};

/// The label that Kubernetes gives every Namespace: its own name.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A Gateway of one of our classes.
#[derive(Debug)]
pub struct OwnGateway<'w> {
    /// The Gateway.
    pub key: ObjectKey,
    /// The object's generation; 0 for the default Gateway that nobody wrote.
    pub generation: i64,
    /// Its listeners, in the order of the spec.
    pub listeners: Vec<Listener<'w>>,
}

/// A listener of one of our Gateways.
#[derive(Debug)]
pub struct Listener<'w> {
    /// The listener's name, which routes refer to as `sectionName`.
    pub name: &'w str,
    /// The socket that it is served on.
    pub bind: Bind,
    /// The hosts that it serves.
    pub hostname: Hostname,
    admission: Admission<'w>,
    /// Why the listener is not served, if it is not.
    pub fault: Option<ListenerFault>,
}

/// Whose routes a listener lets in.
#[derive(Debug)]
enum Admission<'w> {
    /// Everyone's: the default Gateway that nobody wrote.
    Everyone,
    /// Those that the listener's spec allows; without a word of it, those of the Gateway's namespace.
    Allowed(Option<&'w AllowedRoutes>),
}

/// Why a listener is not served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenerFault {
    /// Its protocol is not served.
    Protocol(String),
    /// Its port is not between 1 and 65535.
    Port(i32),
    /// Another listener of the Gateway has the same port and hostname.
    Conflict,
    /// It allows no kind of route that the router knows.
    RouteKinds,
}

/// Returns our Gateways, the oldest first, then by namespace and name; with the default Gateway if nobody wrote it.
pub fn own_gateways<'w>(world: &'w World, controller: &Controller) -> Vec<OwnGateway<'w>> {
    if !controller.gateway_api {
        return Vec::new();
    }
    let mut ours: Vec<(&ObjectKey, &GatewayFacts)> =
        world.gateways.iter().filter(|(_, gateway)| class::is_own(world, &gateway.spec.gateway_class_name)).collect();
    // They are in the order of their keys, and a stable sort keeps it among those of one age.
    ours.sort_by_key(|(_, gateway)| gateway.record.created);
    let mut gateways: Vec<_> = ours
        .into_iter()
        .map(|(key, gateway)| OwnGateway {
            key: key.clone(),
            generation: gateway.record.generation,
            listeners: listeners(&gateway.spec.listeners, controller),
        })
        .collect();
    let default = controller.default_gateway();
    if world.gateways.find(&default).is_none() {
        let listener = Listener {
            name: "default",
            bind: Bind { address: controller.bind_address, port: controller.port },
            hostname: Hostname::Any,
            admission: Admission::Everyone,
            fault: None,
        };
        gateways.insert(0, OwnGateway { key: default, generation: 0, listeners: vec![listener] });
    }
    gateways
}

fn listeners<'w>(specs: &'w [ListenerSpec], controller: &Controller) -> Vec<Listener<'w>> {
    let mut counts: HashMap<(i32, Hostname), usize> = HashMap::new();
    for spec in specs {
        *counts.entry((spec.port, Hostname::parse(spec.hostname.as_deref()))).or_default() += 1;
    }
    specs
        .iter()
        .map(|spec| {
            let hostname = Hostname::parse(spec.hostname.as_deref());
            let port = u16::try_from(spec.port).ok().filter(|port| *port > 0);
            let fault = if spec.protocol != "HTTP" {
                Some(ListenerFault::Protocol(spec.protocol.clone()))
            } else if port.is_none() {
                Some(ListenerFault::Port(spec.port))
            } else if counts[&(spec.port, hostname.clone())] > 1 {
                Some(ListenerFault::Conflict)
            } else if !allows_a_known_kind(spec.allowed_routes.as_ref()) {
                Some(ListenerFault::RouteKinds)
            } else {
                None
            };
            let bind = Bind { address: controller.bind_address, port: port.unwrap_or_default() };
            Listener {
                name: &spec.name,
                bind,
                hostname,
                admission: Admission::Allowed(spec.allowed_routes.as_ref()),
                fault,
            }
        })
        .collect()
}

fn allows_a_known_kind(allowed: Option<&AllowedRoutes>) -> bool {
    let kinds = allowed.map(|allowed| &*allowed.kinds).unwrap_or_default();
    kinds.is_empty() || kinds.iter().any(|kind| matches!(kind.kind.as_str(), "ModelRoute" | "HTTPRoute"))
}

impl OwnGateway<'_> {
    /// Returns the Gateway's conditions.
    pub fn conditions(&self, binds: &HashMap<Bind, BindState>) -> Vec<Condition> {
        let valid = self.listeners.iter().filter(|listener| listener.fault.is_none()).count();
        let accepted = match valid {
            0 => Condition::fails(kind::ACCEPTED, reason::LISTENERS_NOT_VALID, "no listener is valid"),
            _ if valid < self.listeners.len() => Condition::holds(kind::ACCEPTED, reason::LISTENERS_NOT_VALID),
            _ => Condition::holds(kind::ACCEPTED, reason::ACCEPTED),
        };
        let open = self
            .listeners
            .iter()
            .any(|listener| listener.fault.is_none() && binds.get(&listener.bind) == Some(&BindState::Open));
        let programmed = match (valid, open) {
            (0, _) => Condition::fails(kind::PROGRAMMED, reason::INVALID, "no listener is valid"),
            (_, false) => Condition::fails(kind::PROGRAMMED, reason::PENDING, "no listener's port is open"),
            (_, true) => Condition::holds(kind::PROGRAMMED, reason::PROGRAMMED),
        };
        vec![accepted, programmed]
    }
}

impl Listener<'_> {
    /// Returns whether a route of this kind in this namespace may attach to the listener of a Gateway in `own`.
    pub fn allows(&self, route: Kind, namespace: &str, own: &str, namespaces: &BTreeMap<ObjectKey, Labels>) -> bool {
        let Admission::Allowed(allowed) = self.admission else { return true };
        let kinds = allowed.map(|allowed| &*allowed.kinds).unwrap_or_default();
        let kind_allowed = kinds.is_empty() || kinds.iter().any(|kind| kind.kind == route.as_str());
        let from = allowed.and_then(|allowed| allowed.namespaces.as_ref());
        kind_allowed && namespace_allowed(from, namespace, own, namespaces)
    }

    /// Returns the kinds of route that the listener serves: those that it allows, of those that the router knows.
    pub fn supported_kinds(&self) -> Vec<Kind> {
        let Admission::Allowed(allowed) = self.admission else { return vec![Kind::ModelRoute] };
        let kinds = allowed.map(|allowed| &*allowed.kinds).unwrap_or_default();
        let is_allowed = kinds.is_empty() || kinds.iter().any(|kind| kind.kind == Kind::ModelRoute.as_str());
        let is_served = !matches!(self.fault, Some(ListenerFault::Protocol(_)));
        if is_allowed && is_served { vec![Kind::ModelRoute] } else { Vec::new() }
    }

    /// Returns the listener's conditions.
    pub fn conditions(&self, binds: &HashMap<Bind, BindState>) -> Vec<Condition> {
        let accepted = match &self.fault {
            Some(ListenerFault::Protocol(protocol)) => {
                let message = format!("protocol `{protocol}` is not supported, only `HTTP` is");
                Condition::fails(kind::ACCEPTED, reason::UNSUPPORTED_PROTOCOL, message)
            }
            Some(ListenerFault::Port(port)) => {
                let message = format!("port {port} is not between 1 and 65535");
                Condition::fails(kind::ACCEPTED, reason::PORT_UNAVAILABLE, message)
            }
            Some(ListenerFault::Conflict) => {
                Condition::fails(kind::ACCEPTED, reason::HOSTNAME_CONFLICT, "see the condition Conflicted")
            }
            Some(ListenerFault::RouteKinds) | None => match binds.get(&self.bind) {
                Some(BindState::Failed(error)) => {
                    Condition::fails(kind::ACCEPTED, reason::PORT_UNAVAILABLE, format!("{}: {error}", self.bind))
                }
                Some(BindState::Open) | None => Condition::holds(kind::ACCEPTED, reason::ACCEPTED),
            },
        };
        let programmed = match (&self.fault, binds.get(&self.bind)) {
            (Some(_), _) | (None, Some(BindState::Failed(_))) => {
                Condition::fails(kind::PROGRAMMED, reason::INVALID, "the listener is not served")
            }
            (None, None) => Condition::fails(kind::PROGRAMMED, reason::PENDING, "the port is not open yet"),
            (None, Some(BindState::Open)) => Condition::holds(kind::PROGRAMMED, reason::PROGRAMMED),
        };
        let resolved = if self.fault == Some(ListenerFault::RouteKinds) {
            let message = "allowedRoutes.kinds has none of `ModelRoute`, `HTTPRoute`";
            Condition::fails(kind::RESOLVED_REFS, reason::INVALID_ROUTE_KINDS, message)
        } else {
            Condition::holds(kind::RESOLVED_REFS, reason::RESOLVED_REFS)
        };
        vec![accepted, programmed, resolved, self.conflicted()]
    }

    fn conflicted(&self) -> Condition {
        if self.fault == Some(ListenerFault::Conflict) {
            let message = "another listener of this Gateway has the same port and hostname";
            Condition { message: message.into(), ..Condition::holds(kind::CONFLICTED, reason::HOSTNAME_CONFLICT) }
        } else {
            Condition::fails(kind::CONFLICTED, reason::NO_CONFLICTS, "")
        }
    }
}

fn namespace_allowed(
    allowed: Option<&FromNamespaces>,
    namespace: &str,
    own: &str,
    namespaces: &BTreeMap<ObjectKey, Labels>,
) -> bool {
    let from = allowed.and_then(|allowed| allowed.from);
    match from {
        None | Some(From::Same) => namespace == own,
        Some(From::All) => true,
        Some(From::None) => false,
        Some(From::Selector) => {
            let Some(selector) = allowed.and_then(|allowed| allowed.selector.as_ref()) else { return false };
            let mut labels = namespaces.get(&ObjectKey::new("", namespace)).cloned().unwrap_or_default();
            labels.entry(NAMESPACE_NAME_LABEL.to_owned()).or_insert_with(|| namespace.to_owned());
            selector.match_labels.as_ref().is_none_or(|required| has_all(&labels, required))
                && selector.match_expressions.iter().flatten().all(|expression| {
                    let values = expression.values.as_deref().unwrap_or_default();
                    Expression { key: &expression.key, operator: &expression.operator, values }.holds(&labels)
                })
        }
    }
}
