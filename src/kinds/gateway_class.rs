//! GatewayClass: which controller serves the Gateways of a class.
//!
//! Source: Gateway API, `GatewayClassSpec`.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// Names the controller of a class of Gateways.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "GatewayClass",
    plural = "gatewayclasses",
    status = "serde_json::Value",
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct GatewayClassSpec {
    /// The controller, as a domain-prefixed path.
    pub controller_name: String,
}
