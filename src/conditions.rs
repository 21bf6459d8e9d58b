//! The condition types and reasons that the router reports, as constants.
//!
//! Source: Gateway API, `GatewayConditionType`, `ListenerConditionType`, `RouteConditionType` and their reasons.

use std::borrow::Cow;

use serde::{Serialize, Serializer};

/// One condition of an object, without the times and generations that only matter once it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// The condition's type, for example `Accepted`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Whether the condition holds; written as `True` or `False`.
    #[serde(serialize_with = "serialize_status")]
    pub status: bool,
    /// Why, in one CamelCase word for programs.
    pub reason: &'static str,
    /// Why, in a sentence for people; may be empty where there is nothing to add.
    pub message: Cow<'static, str>,
}

/// What is said of an object, as a whole or at one of its parents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// `Accepted`.
    pub accepted: Condition,
    /// `ResolvedRefs`.
    pub resolved_refs: Condition,
    /// The [occasional](kind::OCCASIONAL) conditions that it has now.
    pub occasional: Vec<Condition>,
}

/// What is wrong with something, as a condition says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Why, in one CamelCase word for programs.
    pub reason: &'static str,
    /// Why, in a sentence for people.
    pub message: Cow<'static, str>,
}

/// Condition types.
pub mod kind {
    /// The object is valid and in use.
    pub const ACCEPTED: &str = "Accepted";
    /// The object's configuration reached the data plane.
    pub const PROGRAMMED: &str = "Programmed";
    /// Every reference of the object leads somewhere that may be used.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// The listener cannot be told apart from another one.
    pub const CONFLICTED: &str = "Conflicted";
    /// The Gateway lets in clients without a valid certificate.
    pub const INSECURE_FRONTEND: &str = "InsecureFrontendValidationMode";
    /// The listener's hostname overlaps that of another TLS listener of the port.
    pub const OVERLAPPING_TLS: &str = "OverlappingTLSConfig";
    /// The Pods of a backend that has prefill and decode done by different ones can be paired, all of them.
    pub const PAIRED: &str = "Paired";
    /// Some of the route's rules are invalid, and the others are served.
    pub const PARTIALLY_INVALID: &str = "PartiallyInvalid";
    /// The conditions that an object has at some times only: when one of them ceases, it goes away.
    pub const OCCASIONAL: &[&str] = &[INSECURE_FRONTEND, OVERLAPPING_TLS, PAIRED, PARTIALLY_INVALID, UNSERVED_FIELDS];
    /// The conditions that are bad news when they hold; of all others it is bad news when they do not.
    pub const BAD_NEWS: &[&str] = &[CONFLICTED, INSECURE_FRONTEND, OVERLAPPING_TLS, PARTIALLY_INVALID, UNSERVED_FIELDS];
    /// The backend has endpoints that can serve.
    pub const READY: &str = "Ready";
    /// The object is served, but for fields that the router accepts and does nothing about.
    pub const UNSERVED_FIELDS: &str = "UnservedFields";
    /// The installed CustomResourceDefinitions of the Gateway API are of a release that the router serves.
    pub const SUPPORTED_VERSION: &str = "SupportedVersion";
}

/// Condition reasons.
pub mod reason {
    /// The object is accepted.
    pub const ACCEPTED: &str = "Accepted";
    /// No address is left for the Gateway.
    pub const ADDRESS_NOT_ASSIGNED: &str = "AddressNotAssigned";
    /// An address that the Gateway asks for cannot be had.
    pub const ADDRESS_NOT_USABLE: &str = "AddressNotUsable";
    /// A route names a backend that does not exist.
    pub const BACKEND_NOT_FOUND: &str = "BackendNotFound";
    /// The configuration asks for it.
    pub const CONFIGURATION_CHANGED: &str = "ConfigurationChanged";
    /// Another policy has precedence.
    pub const CONFLICTED: &str = "Conflicted";
    /// The backend has endpoints that can serve, and others that requests fail at.
    pub const ENDPOINTS_EJECTED: &str = "EndpointsEjected";
    /// A group of Pods lacks a role.
    pub const GROUP_INCOMPLETE: &str = "GroupIncomplete";
    /// A Pod lacks the label that names its group.
    pub const GROUP_MISSING: &str = "GroupMissing";
    /// All Pods of a role of a group are not ready.
    pub const GROUP_NOT_READY: &str = "GroupNotReady";
    /// Another listener of the Gateway has the same port and hostname.
    pub const HOSTNAME_CONFLICT: &str = "HostnameConflict";
    /// A rule has filters that exclude each other.
    pub const INCOMPATIBLE_FILTERS: &str = "IncompatibleFilters";
    /// Something about the object makes it unusable; its other conditions say what.
    pub const INVALID: &str = "Invalid";
    /// A reference to certificates of authorities is of another kind than ConfigMap.
    pub const INVALID_CA_CERTIFICATE_KIND: &str = "InvalidCACertificateKind";
    /// A Pod says in a way that cannot be read where its engine is met.
    pub const INVALID_BOOTSTRAP_PORT: &str = "InvalidBootstrapPort";
    /// A ConfigMap with certificates of authorities is missing or cannot be read.
    pub const INVALID_CA_CERTIFICATE_REF: &str = "InvalidCACertificateRef";
    /// A Secret with a certificate is missing or cannot be read.
    pub const INVALID_CERTIFICATE_REF: &str = "InvalidCertificateRef";
    /// The Secret with the certificate for backends is missing or cannot be read.
    pub const INVALID_CLIENT_CERTIFICATE_REF: &str = "InvalidClientCertificateRef";
    /// The endpoint picker that an InferencePool refers to does not exist.
    pub const INVALID_EXTENSION_REF: &str = "InvalidExtensionRef";
    /// A reference is of a kind that cannot be used there.
    pub const INVALID_KIND: &str = "InvalidKind";
    /// The Gateway refers to parameters that the router does not know.
    pub const INVALID_PARAMETERS: &str = "InvalidParameters";
    /// A listener allows no kind of route that the router knows.
    pub const INVALID_ROUTE_KINDS: &str = "InvalidRouteKinds";
    /// A listener has a reference that leads nowhere.
    pub const LISTENERS_NOT_RESOLVED: &str = "ListenersNotResolved";
    /// At least one listener is not valid.
    pub const LISTENERS_NOT_VALID: &str = "ListenersNotValid";
    /// The Redis that a field names does not answer.
    pub const REDIS_UNAVAILABLE: &str = "RedisUnavailable";
    /// The router does not do yet what a field asks for.
    pub const NOT_IMPLEMENTED: &str = "NotImplemented";
    /// The Gateway does not allow the ListenerSet.
    pub const NOT_ALLOWED: &str = "NotAllowed";
    /// The parent exists, but its listeners allow no route like this one.
    pub const NOT_ALLOWED_BY_LISTENERS: &str = "NotAllowedByListeners";
    /// Nothing conflicts.
    pub const NO_CONFLICTS: &str = "NoConflicts";
    /// The route has hostnames, and the listeners serve none of them.
    pub const NO_MATCHING_LISTENER_HOSTNAME: &str = "NoMatchingListenerHostname";
    /// The parent, or the section or port of it that the route names, does not exist.
    pub const NO_MATCHING_PARENT: &str = "NoMatchingParent";
    /// The InferencePool asks for what the Gateway cannot do.
    pub const NOT_SUPPORTED_BY_PARENT: &str = "NotSupportedByParent";
    /// The backend selects no endpoint that is ready.
    pub const NO_READY_ENDPOINTS: &str = "NoReadyEndpoints";
    /// No certificate of an authority is left to validate others with.
    pub const NO_VALID_CA_CERTIFICATE: &str = "NoValidCACertificate";
    /// Two listeners serve one name.
    pub const OVERLAPPING_HOSTNAMES: &str = "OverlappingHostnames";
    /// Every Pod can be paired.
    pub const PAIRED: &str = "Paired";
    /// The Gateway of the ListenerSet is not accepted.
    pub const PARENT_NOT_ACCEPTED: &str = "ParentNotAccepted";
    /// The socket is not open yet.
    pub const PENDING: &str = "Pending";
    /// The port cannot be opened.
    pub const PORT_UNAVAILABLE: &str = "PortUnavailable";
    /// The configuration reached the data plane.
    pub const PROGRAMMED: &str = "Programmed";
    /// Another listener has the same port and another protocol.
    pub const PROTOCOL_CONFLICT: &str = "ProtocolConflict";
    /// The backend has endpoints that can serve.
    pub const READY: &str = "Ready";
    /// A reference into another namespace is not allowed there.
    pub const REF_NOT_PERMITTED: &str = "RefNotPermitted";
    /// Every reference is resolved.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// A Pod has the labels of two roles.
    pub const ROLE_CONFLICT: &str = "RoleConflict";
    /// The installed release is served.
    pub const SUPPORTED_VERSION: &str = "SupportedVersion";
    /// The policy is for something that does not exist.
    pub const TARGET_NOT_FOUND: &str = "TargetNotFound";
    /// The Gateway asks for an address of a type that is not served.
    pub const UNSUPPORTED_ADDRESS: &str = "UnsupportedAddress";
    /// The listener's protocol is not served.
    pub const UNSUPPORTED_PROTOCOL: &str = "UnsupportedProtocol";
    /// A field has a value that cannot be used.
    pub const UNSUPPORTED_VALUE: &str = "UnsupportedValue";
    /// The installed release is not known to be served.
    pub const UNSUPPORTED_VERSION: &str = "UnsupportedVersion";
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn serialize_status<S: Serializer>(holds: &bool, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(if *holds { "True" } else { "False" })
}

impl Condition {
    /// Makes a condition that holds and needs no explanation.
    pub const fn holds(kind: &'static str, reason: &'static str) -> Self {
        Self { kind, status: true, reason, message: Cow::Borrowed("") }
    }

    /// Makes a condition that does not hold, with an explanation for people.
    pub fn fails(kind: &'static str, reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, status: false, reason, message: message.into() }
    }

    /// Makes a condition that fails with the first of `problems` as its reason and the messages of all of them, or
    /// else holds for `reason`.
    pub fn judge<'p>(
        kind: &'static str,
        reason: &'static str,
        problems: impl IntoIterator<Item = &'p Problem>,
    ) -> Self {
        match Problem::all(problems) {
            Some(Problem { reason, message }) => Self { kind, status: false, reason, message },
            None => Self::holds(kind, reason),
        }
    }

    /// Makes a condition that holds because of a problem: one of those that tell of something bad.
    pub fn warns(kind: &'static str, problem: &Problem) -> Self {
        Self { kind, status: true, reason: problem.reason, message: problem.message.clone() }
    }
}

impl Condition {
    /// Returns whether it tells of something bad.
    pub fn is_bad_news(&self) -> bool {
        self.status == kind::BAD_NEWS.contains(&self.kind)
    }

    /// Makes the condition of an object that is served without what `fields` ask for; none if there are no such fields.
    pub fn unserved(fields: &[&str]) -> Option<Self> {
        let problem = || Problem::new(reason::NOT_IMPLEMENTED, fields.join("; "));
        (!fields.is_empty()).then(|| Self::warns(kind::UNSERVED_FIELDS, &problem()))
    }
}

impl Verdict {
    /// Makes a verdict without an occasional condition.
    pub const fn new(accepted: Condition, resolved_refs: Condition) -> Self {
        Self { accepted, resolved_refs, occasional: Vec::new() }
    }

    /// Iterates over the conditions.
    pub fn iter(&self) -> impl Iterator<Item = &Condition> {
        [&self.accepted, &self.resolved_refs].into_iter().chain(&self.occasional)
    }
}

impl Serialize for Verdict {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl Problem {
    /// Makes a problem.
    pub fn new(reason: &'static str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, message: message.into() }
    }

    /// Makes one problem of several: the reason of the first, and the messages of all; `None` if there is none.
    pub fn all<'p>(problems: impl IntoIterator<Item = &'p Self>) -> Option<Self> {
        let mut problems = problems.into_iter();
        let Self { reason, message } = problems.next()?.clone();
        let message = problems.fold(message, |all, problem| format!("{all}; {}", problem.message).into());
        Some(Self { reason, message })
    }

    /// Makes the problem of a ModelRoute whose tokens are not limited, because the Redis that counts them is away.
    pub fn unlimited(redis: &str) -> Self {
        let message = format!("`spec.rateLimit` is not enforced: the Redis at `{redis}` does not answer");
        Self::new(reason::REDIS_UNAVAILABLE, message)
    }

    /// Makes the problem of a ModelRoute whose priority cannot be read.
    pub fn no_priority(annotation: &str, fault: &str) -> Self {
        let message = format!("the annotation `{annotation}` cannot be used, and the priority is 0: {fault}");
        Self::new(reason::UNSUPPORTED_VALUE, message)
    }
}
