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
    /// The backend has endpoints that can serve.
    pub const READY: &str = "Ready";
    /// The installed CustomResourceDefinitions of the Gateway API are of a release that the router serves.
    pub const SUPPORTED_VERSION: &str = "SupportedVersion";
}

/// Condition reasons.
pub mod reason {
    /// The object is accepted.
    pub const ACCEPTED: &str = "Accepted";
    /// A route names a backend that does not exist.
    pub const BACKEND_NOT_FOUND: &str = "BackendNotFound";
    /// Another listener of the Gateway has the same port and hostname.
    pub const HOSTNAME_CONFLICT: &str = "HostnameConflict";
    /// Something about the object makes it unusable; its other conditions say what.
    pub const INVALID: &str = "Invalid";
    /// A reference is of a kind that cannot be used there.
    pub const INVALID_KIND: &str = "InvalidKind";
    /// A listener allows no kind of route that the router knows.
    pub const INVALID_ROUTE_KINDS: &str = "InvalidRouteKinds";
    /// At least one listener is not valid.
    pub const LISTENERS_NOT_VALID: &str = "ListenersNotValid";
    /// Nothing conflicts.
    pub const NO_CONFLICTS: &str = "NoConflicts";
    /// The backend selects no endpoint that is ready.
    pub const NO_READY_ENDPOINTS: &str = "NoReadyEndpoints";
    /// The parent exists, but its listeners allow no route like this one.
    pub const NOT_ALLOWED_BY_LISTENERS: &str = "NotAllowedByListeners";
    /// The parent, or the section or port of it that the route names, does not exist.
    pub const NO_MATCHING_PARENT: &str = "NoMatchingParent";
    /// The socket is not open yet.
    pub const PENDING: &str = "Pending";
    /// The port cannot be opened.
    pub const PORT_UNAVAILABLE: &str = "PortUnavailable";
    /// The configuration reached the data plane.
    pub const PROGRAMMED: &str = "Programmed";
    /// The backend has endpoints that can serve.
    pub const READY: &str = "Ready";
    /// Every reference is resolved.
    pub const RESOLVED_REFS: &str = "ResolvedRefs";
    /// The installed release is served.
    pub const SUPPORTED_VERSION: &str = "SupportedVersion";
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
}
