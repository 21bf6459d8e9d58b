//! ReferenceGrant: which references across namespaces their target allows.
//!
//! Source: Gateway API, `ReferenceGrantSpec`. It is read as `v1beta1`, the only version that all releases serve.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

/// Allows references into its own namespace.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1beta1",
    kind = "ReferenceGrant",
    namespaced,
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceGrantSpec {
    /// Who may refer: any one of these.
    #[serde(default)]
    pub from: Vec<ReferenceGrantFrom>,
    /// To what: any one of these.
    #[serde(default)]
    pub to: Vec<ReferenceGrantTo>,
}

/// Objects that may refer.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceGrantFrom {
    /// Their API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// Their kind.
    pub kind: String,
    /// Their namespace.
    pub namespace: String,
}

/// Objects that may be referred to.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceGrantTo {
    /// Their API group; empty for the core group.
    #[serde(default)]
    pub group: String,
    /// Their kind.
    pub kind: String,
    /// The only one of them; all of the grant's namespace if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}
