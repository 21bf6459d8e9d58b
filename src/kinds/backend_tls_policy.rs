//! BackendTLSPolicies as the router reads them: how the connections to a Service are secured.
//!
//! Source: <https://gateway-api.sigs.k8s.io/reference/spec/#backendtlspolicy>.

use kube::CustomResource;
use serde::{Deserialize, Serialize};

use super::gateway::LocalObjectReference;

/// Asks for TLS to the Pods of Services.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "BackendTLSPolicy",
    root = "BackendTlsPolicy",
    plural = "backendtlspolicies",
    namespaced,
    status = "serde_json::Value",
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsPolicySpec {
    /// The Services, in the policy's namespace.
    #[serde(default)]
    pub target_refs: Vec<PolicyTargetReference>,

    /// How a backend proves who it is.
    pub validation: BackendTlsValidation,
}

/// Names what a policy is for, or one port of it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PolicyTargetReference {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,

    /// Kind.
    pub kind: String,

    /// Name.
    pub name: String,

    /// Name of the one port of a Service that is meant; all ports if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub section_name: Option<String>,
}

/// How a backend proves who it is.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTlsValidation {
    /// ConfigMaps with the certificates of the authorities.
    #[serde(default, rename = "caCertificateRefs", skip_serializing_if = "Vec::is_empty")]
    pub ca_certificate_refs: Vec<LocalObjectReference>,

    /// A well-known set of authorities instead, for example `System`.
    #[serde(default, rename = "wellKnownCACertificates", skip_serializing_if = "Option::is_none")]
    pub well_known_ca_certificates: Option<String>,

    /// The name that the backend is addressed by, and that its certificate must be for unless `subject_alt_names` says
    /// otherwise.
    pub hostname: String,

    /// The certificate must have at least one of these names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subject_alt_names: Vec<PolicySubjectAltName>,
}

/// A name that a certificate may be for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PolicySubjectAltName {
    /// What kind of name: `Hostname` or `URI`.
    #[serde(rename = "type")]
    pub kind: String,

    /// The host name; `*.` in place of its first label stands for any one label.
    #[serde(default)]
    pub hostname: String,

    /// The URI.
    #[serde(default)]
    pub uri: String,
}
