//! ListenerSets as the router reads them: listeners that are added to a Gateway from elsewhere.
//!
//! Source: <https://gateway-api.sigs.k8s.io/reference/spec/#listenerset>.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::gateway::Listener;
use super::parent_reference::{GATEWAY_GROUP, GATEWAY_KIND};

/// Adds listeners to a Gateway.
#[derive(Clone, CustomResource, Debug, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "ListenerSet",
    namespaced,
    status = "serde_json::Value",
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct ListenerSetSpec {
    /// The Gateway.
    pub parent_ref: ParentGatewayReference,

    /// The listeners.
    #[serde(default)]
    pub listeners: Vec<Listener>,
}

/// Names the Gateway that a ListenerSet adds to.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ParentGatewayReference {
    /// API group.
    #[serde(default = "gateway_group")]
    pub group: String,

    /// Kind.
    #[serde(default = "gateway_kind")]
    pub kind: String,

    /// Name.
    pub name: String,

    /// Namespace; the ListenerSet's if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

impl ParentGatewayReference {
    /// Returns whether the parent is a Gateway, the only kind that a ListenerSet can add to.
    pub fn is_gateway(&self) -> bool {
        self.group == GATEWAY_GROUP && self.kind == GATEWAY_KIND
    }
}

fn gateway_group() -> String {
    GATEWAY_GROUP.to_owned()
}

fn gateway_kind() -> String {
    GATEWAY_KIND.to_owned()
}
