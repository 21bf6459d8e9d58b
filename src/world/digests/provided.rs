//! The facts kept about a Service that the router made for a Gateway, and how it is recognized.
//!
//! Source: Gateway API, the label `gateway.networking.k8s.io/gateway-name`, which every object that is made for a
//! Gateway has.

use std::collections::BTreeMap;

use crate::selector::Labels;

/// The label with the name of the Gateway that an object is made for.
pub const GATEWAY_NAME: &str = "gateway.networking.k8s.io/gateway-name";

/// The label that says who made an object, and who it is that made ours.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "kthena-router");

/// The facts kept about a Service that the router made for a Gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvidedFacts {
    /// The object's `metadata.uid`.
    pub uid: String,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
    /// For each of its ports the router's own port.
    pub targets: BTreeMap<u16, u16>,
}

/// Returns whether an object with these labels was made for a Gateway.
pub(super) fn is_provided(labels: &Labels) -> bool {
    labels.get(MANAGED_BY.0).is_some_and(|value| value == MANAGED_BY.1) && labels.contains_key(GATEWAY_NAME)
}
