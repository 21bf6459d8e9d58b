//! Gateways as the router reads them, with the fields of Gateway API v1.7.
//!
//! Fields that the router has no use for are left out. Words that a later release may add to are read as text, or as
//! the most cautious of the known ones, so that one unknown word does not take a whole Gateway away.
//!
//! Source: <https://gateway-api.sigs.k8s.io/reference/spec/#gateway>.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use serde::{Deserialize, Deserializer, Serialize};

/// Where traffic enters.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "Gateway",
    namespaced,
    status = "serde_json::Value",
    derive = "PartialEq",
    schema = "disabled"
)]
#[serde(rename_all = "camelCase")]
pub struct GatewaySpec {
    /// Name of the GatewayClass, and so who serves the Gateway.
    pub gateway_class_name: String,

    /// The Gateway's own listeners.
    #[serde(default)]
    pub listeners: Vec<Listener>,

    /// The addresses that are asked for; any address if empty.
    #[serde(default, deserialize_with = "null_as_empty", skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<GatewayAddress>,

    /// What is wanted of the objects that are made for the Gateway.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure: Option<GatewayInfrastructure>,

    /// The namespaces whose ListenerSets may add listeners; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_listeners: Option<AllowedListeners>,

    /// TLS settings for clients and for backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<GatewayTls>,
}

/// A port with a protocol and a hostname, of a Gateway or of a ListenerSet.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Name that routes refer to as `sectionName`.
    pub name: String,

    /// The host names that are served; every one if absent or empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,

    /// The port that clients use.
    pub port: i32,

    /// The protocol, for example `HTTPS`.
    pub protocol: String,

    /// How TLS is spoken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,

    /// The routes that may attach; those of the listener's own namespace if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_routes: Option<AllowedRoutes>,
}

/// How a listener speaks TLS.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// Who ends the TLS connection.
    #[serde(default)]
    pub mode: TlsMode,

    /// The certificates that are offered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificate_refs: Vec<SecretObjectReference>,
}

/// Who ends the TLS connection of a client.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum TlsMode {
    /// The router.
    #[default]
    Terminate,
    /// The backend; also what any word stands for that the router does not know.
    #[serde(other)]
    Passthrough,
}

/// Names a Secret, in the namespace of what refers to it unless it says otherwise.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretObjectReference {
    /// API group; empty for the core group.
    #[serde(default)]
    pub group: String,

    /// Kind.
    #[serde(default = "secret_kind")]
    pub kind: String,

    /// Name.
    pub name: String,

    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Names an object of any kind, in the namespace of what refers to it unless it says otherwise.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ObjectReference {
    /// API group; empty for the core group.
    pub group: String,

    /// Kind.
    pub kind: String,

    /// Name.
    pub name: String,

    /// Namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Names an object of any kind in the namespace of what refers to it.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct LocalObjectReference {
    /// API group; empty for the core group.
    pub group: String,

    /// Kind.
    pub kind: String,

    /// Name.
    pub name: String,
}

/// The routes that may attach to a listener.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct AllowedRoutes {
    /// Their namespaces; the listener's own if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<FromNamespaces>,

    /// Their kinds; every kind that the protocol serves if empty.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub kinds: Vec<RouteGroupKind>,
}

/// The ListenerSets that may add listeners to a Gateway.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct AllowedListeners {
    /// Their namespaces; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<FromNamespaces>,
}

/// Some of the namespaces.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct FromNamespaces {
    /// Which ones; what an absent word stands for depends on the field.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<From>,

    /// Their labels, for `Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

/// Which namespaces are meant.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum From {
    /// All of them.
    All,
    /// Those with certain labels.
    Selector,
    /// That of the Gateway or ListenerSet itself.
    Same,
    /// None; also what any word stands for that the router does not know.
    #[serde(other)]
    None,
}

/// A kind of route.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RouteGroupKind {
    /// API group; that of the Gateway API if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,

    /// Kind.
    pub kind: String,
}

/// An address that a Gateway asks for.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct GatewayAddress {
    /// What the value is, for example `IPAddress`, which is also what an absent type means.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,

    /// The address; any address of that type if empty.
    #[serde(default)]
    pub value: String,
}

/// What is wanted of the objects that are made for a Gateway.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayInfrastructure {
    /// Labels that they get.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,

    /// Annotations that they get.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,

    /// An object with further settings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters_ref: Option<LocalObjectReference>,
}

/// TLS settings of a Gateway.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct GatewayTls {
    /// What backends get to see.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendTls>,

    /// What clients must show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontend: Option<FrontendTls>,
}

/// How a Gateway presents itself to backends.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTls {
    /// The certificate that backends are shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<SecretObjectReference>,
}

/// What the clients of a Gateway's HTTPS listeners must show.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontendTls {
    /// On ports that `per_port` does not name.
    #[serde(default)]
    pub default: FrontendTlsConfig,

    /// On single ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub per_port: Vec<PortTls>,
}

/// What clients must show on one port.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct PortTls {
    /// The port of the listeners.
    pub port: i32,

    /// What clients must show there.
    #[serde(default)]
    pub tls: FrontendTlsConfig,
}

/// What clients must show.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct FrontendTlsConfig {
    /// How client certificates are validated; clients are asked for none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<FrontendValidation>,
}

/// How client certificates are validated.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct FrontendValidation {
    /// ConfigMaps with the certificates of the authorities.
    #[serde(default, rename = "caCertificateRefs")]
    pub ca_certificate_refs: Vec<ObjectReference>,

    /// What becomes of clients without a valid certificate.
    #[serde(default)]
    pub mode: FrontendValidationMode,
}

/// What becomes of clients without a valid certificate.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum FrontendValidationMode {
    /// They are let in all the same.
    AllowInsecureFallback,
    /// They are refused; also what any word stands for that the router does not know.
    #[default]
    #[serde(other)]
    AllowValidOnly,
}

fn secret_kind() -> String {
    "Secret".to_owned()
}

fn null_as_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<GatewayAddress>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
