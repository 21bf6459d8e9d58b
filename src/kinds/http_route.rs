//! HTTPRoute (stub).
use kube::CustomResource;
use serde::{Deserialize, Serialize};
/// Stub.
#[derive(Clone, CustomResource, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "gateway.networking.k8s.io",
    version = "v1",
    kind = "HTTPRoute",
    root = "HttpRoute",
    namespaced,
    status = "serde_json::Value",
    derive = "PartialEq",
    schema = "disabled"
)]
pub struct HttpRouteSpec {}
