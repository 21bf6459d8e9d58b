//! The listeners of Gateways and ListenerSets: which are valid, how they speak TLS, and what is reported of them.
//!
//! Source: Gateway API, `Listener` and `ListenerStatus`. A listener is served when its protocol, port and TLS settings
//! can be, when it can be told apart from all others, and when it takes some kind of route. One reference that leads
//! nowhere is reported, but the listener is served as long as another one of the same meaning is left.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::HashMap;

use super::admission::{Namespaces, SERVED_ROUTES, route_kinds};
use super::frontend::{Frontend, Validation};
use super::references::{Reasons, References, Referrer};
use super::tls::ListenerTls;
use crate::conditions::{Condition, Problem, kind, reason};
use crate::hostname::Hostname;
use crate::kinds::gateway::{AllowedRoutes, From, Listener as ListenerSpec, TlsMode};
use crate::object::{Bind, BindState, Kind, ObjectKey};
use crate::selector::Labels;

/// How conditions tell of references to certificates that listeners offer.
const CERTIFICATE_REASONS: Reasons =
    Reasons { kind: reason::INVALID_CERTIFICATE_REF, unusable: reason::INVALID_CERTIFICATE_REF };

/// A listener of a Gateway or of a ListenerSet.
#[derive(Debug)]
pub struct Listener<'w> {
    /// The listener's name, which routes refer to as `sectionName`.
    pub name: &'w str,
    /// The Gateway or ListenerSet that has the listener.
    pub owner: Owner,
    /// The port of the spec; 0 if it is not a port.
    pub port: u16,
    /// The protocol.
    pub protocol: Protocol<'w>,
    /// The hosts that it serves.
    pub hostname: Hostname,
    /// The kinds of route that it takes.
    pub kinds: Vec<Kind>,
    /// How it speaks TLS, if it is an HTTPS listener that can.
    pub tls: Option<Arc<ListenerTls>>,
    /// The sockets that it is served on; none while it or its Gateway is not served.
    pub binds: Vec<Bind>,
    /// What is wrong with it.
    pub problems: Problems,
    admission: Admission<'w>,
}

/// The Gateway or ListenerSet that has a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `Gateway` or `ListenerSet`.
    pub kind: Kind,
    /// The object.
    pub key: ObjectKey,
}

/// The protocol of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol<'w> {
    /// HTTP in plain text.
    Http,
    /// HTTP over TLS that ends here.
    Https,
    /// A protocol that is not served.
    Other(&'w str),
}

/// What is wrong with a listener, by the condition that tells of it.
#[derive(Debug, Default)]
pub struct Problems {
    /// What makes its spec unusable.
    pub unaccepted: Vec<Problem>,
    /// References that lead nowhere.
    pub unresolved: Vec<Problem>,
    /// Why it cannot be told apart from another listener.
    pub conflict: Option<Problem>,
    /// The name that another TLS listener of its port serves too, which is worth a warning only.
    pub overlap: Option<Problem>,
}

/// Whose routes a listener lets in.
#[derive(Debug)]
enum Admission<'w> {
    /// Everyone's: the default Gateway that nobody wrote.
    Everyone,
    /// The namespaces that the listener's spec allows; its own namespace if it says nothing.
    Allowed(Option<&'w AllowedRoutes>),
}

impl<'w> Listener<'w> {
    /// Reads a listener; `frontend` says what the clients of its Gateway must show.
    pub fn new(spec: &'w ListenerSpec, owner: &Owner, frontend: &Frontend, references: &References<'_>) -> Self {
        let mut problems = Problems::default();
        let protocol = Protocol::parse(&spec.protocol);
        if let Protocol::Other(protocol) = protocol {
            let message = format!("protocol `{protocol}` is not supported, only `HTTP` and `HTTPS` are");
            problems.unaccepted.push(Problem::new(reason::UNSUPPORTED_PROTOCOL, message));
        }
        let port = u16::try_from(spec.port).ok().filter(|port| *port > 0);
        if port.is_none() {
            let message = format!("port {} is not between 1 and 65535", spec.port);
            problems.unaccepted.push(Problem::new(reason::PORT_UNAVAILABLE, message));
        }
        let (kinds, unknown_kinds) = route_kinds(spec.allowed_routes.as_ref(), protocol.routes());
        if protocol.is_served() {
            problems.unresolved.extend(unknown_kinds);
        }
        let validation = frontend.on_port(spec.port);
        let tls = (protocol == Protocol::Https)
            .then(|| listener_tls(spec, owner, validation, references, &mut problems))
            .flatten();
        Self {
            name: &spec.name,
            owner: owner.clone(),
            port: port.unwrap_or_default(),
            protocol,
            hostname: Hostname::parse(spec.hostname.as_deref()),
            kinds,
            tls,
            binds: Vec::new(),
            problems,
            admission: Admission::Allowed(spec.allowed_routes.as_ref()),
        }
    }

    /// Makes the listener of the default Gateway that nobody wrote.
    pub fn open_to_everyone(gateway: &ObjectKey, port: u16) -> Self {
        Self {
            name: "default",
            owner: Owner { kind: Kind::Gateway, key: gateway.clone() },
            port,
            protocol: Protocol::Http,
            hostname: Hostname::Any,
            kinds: SERVED_ROUTES.to_vec(),
            tls: None,
            binds: Vec::new(),
            problems: Problems::default(),
            admission: Admission::Everyone,
        }
    }

    /// Returns whether the listener can be served, as far as it is up to its spec and to the other listeners.
    pub fn is_valid(&self) -> bool {
        let has_tls = self.protocol != Protocol::Https || self.tls.is_some();
        self.problems.unaccepted.is_empty() && self.problems.conflict.is_none() && !self.kinds.is_empty() && has_tls
    }

    /// Returns whether a route of this kind in this namespace may attach.
    pub fn allows(&self, route: Kind, namespace: &str, namespaces: &BTreeMap<ObjectKey, Labels>) -> bool {
        let Admission::Allowed(allowed) = self.admission else { return true };
        let allowed = allowed.and_then(|allowed| allowed.namespaces.as_ref());
        let own = &*self.owner.key.namespace;
        self.kinds.contains(&route) && Namespaces { allowed, otherwise: From::Same, own }.contain(namespace, namespaces)
    }

    /// Returns the listener's conditions.
    pub fn conditions(&self, binds: &HashMap<Bind, BindState>) -> Vec<Condition> {
        let Problems { unaccepted, unresolved, conflict, overlap } = &self.problems;
        let unavailable = self.binds.iter().find_map(|bind| match binds.get(bind) {
            Some(BindState::Failed(error)) => Some(Problem::new(reason::PORT_UNAVAILABLE, format!("{bind}: {error}"))),
            _ => None,
        });
        let unaccepted = conflict.iter().chain(unaccepted).chain(&unavailable);
        let conflicted = match conflict {
            Some(problem) => Condition::warns(kind::CONFLICTED, problem),
            None => Condition::fails(kind::CONFLICTED, reason::NO_CONFLICTS, ""),
        };
        let overlapping = overlap.as_ref().map(|problem| Condition::warns(kind::OVERLAPPING_TLS, problem));
        let conditions = [
            Condition::judge(kind::ACCEPTED, reason::ACCEPTED, unaccepted),
            self.programmed(binds),
            Condition::judge(kind::RESOLVED_REFS, reason::RESOLVED_REFS, unresolved),
            conflicted,
        ];
        conditions.into_iter().chain(overlapping).collect()
    }

    fn programmed(&self, binds: &HashMap<Bind, BindState>) -> Condition {
        if let Some(conflict) = &self.problems.conflict {
            return Condition::fails(kind::PROGRAMMED, conflict.reason, "the listener is not served");
        }
        let is_failed = |bind| matches!(binds.get(bind), Some(BindState::Failed(_)));
        if !self.is_valid() || self.binds.iter().any(is_failed) {
            return Condition::fails(kind::PROGRAMMED, reason::INVALID, "the listener is not served");
        }
        if self.binds.is_empty() {
            return Condition::fails(kind::PROGRAMMED, reason::PENDING, "the Gateway is not served");
        }
        match self.is_open(binds) {
            true => Condition::holds(kind::PROGRAMMED, reason::PROGRAMMED),
            false => Condition::fails(kind::PROGRAMMED, reason::PENDING, "the port is not open yet"),
        }
    }

    /// Returns whether all sockets of the listener accept connections.
    pub fn is_open(&self, binds: &HashMap<Bind, BindState>) -> bool {
        !self.binds.is_empty() && self.binds.iter().all(|bind| binds.get(bind) == Some(&BindState::Open))
    }
}

impl<'w> Protocol<'w> {
    fn parse(protocol: &'w str) -> Self {
        match protocol {
            "HTTP" => Self::Http,
            "HTTPS" => Self::Https,
            other => Self::Other(other),
        }
    }

    /// Returns whether the router speaks it.
    pub fn is_served(self) -> bool {
        !matches!(self, Self::Other(_))
    }

    fn routes(self) -> &'static [Kind] {
        if self.is_served() { SERVED_ROUTES } else { &[] }
    }
}

/// Reads how an HTTPS listener speaks TLS, and notes what is wrong with that; returns nothing if it cannot.
fn listener_tls(
    spec: &ListenerSpec,
    owner: &Owner,
    validation: Option<&Validation>,
    references: &References<'_>,
    problems: &mut Problems,
) -> Option<Arc<ListenerTls>> {
    let settings = spec.tls.as_ref();
    if settings.is_some_and(|tls| tls.mode != TlsMode::Terminate) {
        let message = "tls.mode of an HTTPS listener can only be `Terminate`";
        problems.unaccepted.push(Problem::new(reason::UNSUPPORTED_VALUE, message));
        return None;
    }
    let named = settings.map(|tls| &*tls.certificate_refs).unwrap_or_default();
    if named.is_empty() {
        let message = "an HTTPS listener needs tls.certificateRefs";
        problems.unresolved.push(Problem::new(reason::INVALID_CERTIFICATE_REF, message));
    }
    let from = Referrer { kind: owner.kind, namespace: &owner.key.namespace };
    let mut certificates = Vec::new();
    for reference in named {
        match references.certificate(from, reference) {
            Ok(certificate) => certificates.push(certificate),
            Err(fault) => problems.unresolved.push(fault.problem(CERTIFICATE_REASONS)),
        }
    }
    let client = match validation {
        None => None,
        Some(Validation { client, problems: unresolved }) => {
            problems.unresolved.extend(unresolved.iter().cloned());
            if client.is_none() {
                let message = "no certificate of an authority is left to validate those of clients with";
                problems.unaccepted.push(Problem::new(reason::NO_VALID_CA_CERTIFICATE, message));
                return None;
            }
            client.clone()
        }
    };
    (!certificates.is_empty()).then(|| Arc::new(ListenerTls { certificates, validation: client }))
}
