//! Names the Gateway that a route attaches to.
//!
//! The shape, the defaults and the patterns are those of `ParentReference` in the Gateway API, so that a `parentRefs`
//! entry may be moved between a ModelRoute and an HTTPRoute without a change:
//! <https://gateway-api.sigs.k8s.io/reference/spec/#parentreference>.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The API group of Gateways, and of a reference that names none.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";

/// The kind of a reference that names none.
pub const GATEWAY_KIND: &str = "Gateway";

/// The most entries that `parentRefs` may have.
pub const MAX_PARENT_REFS: usize = 32;

/// The longest name of an object, in bytes: a DNS subdomain.
pub const MAX_NAME: usize = 253;

/// Names the Gateway that a route attaches to, or one of its listeners.
#[derive(Clone, Debug, Deserialize, Eq, Hash, JsonSchema, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ParentReference {
    /// API group of the parent. A reference to a Gateway leaves it out.
    #[serde(default = "default_group")]
    #[schemars(
        length(max = 253),
        regex(pattern = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub group: String,

    /// Kind of the parent. Only Gateways take traffic for a ModelRoute.
    #[serde(default = "default_kind")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"))]
    pub kind: String,

    /// Namespace of the parent; the route's own namespace if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub namespace: Option<String>,

    /// Name of the parent.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Name of the one listener to attach to; every listener of the parent if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(
        length(min = 1, max = 253),
        regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$")
    )]
    pub section_name: Option<String>,

    /// Attaches only to listeners on this port; to listeners on any port if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
}

impl ParentReference {
    /// Makes a reference to the Gateway `name` in the route's own namespace.
    pub fn to_gateway(name: impl Into<String>) -> Self {
        Self {
            group: default_group(),
            kind: default_kind(),
            namespace: None,
            name: name.into(),
            section_name: None,
            port: None,
        }
    }

    /// Returns whether the parent is a Gateway of the Gateway API, the only parent that a ModelRoute can have.
    pub fn is_gateway(&self) -> bool {
        self.group == GATEWAY_GROUP && self.kind == GATEWAY_KIND
    }
}

fn default_group() -> String {
    GATEWAY_GROUP.to_owned()
}

fn default_kind() -> String {
    GATEWAY_KIND.to_owned()
}
