//! The kinds that the router reads, as types.
//!
//! Those of `networking.serving.volcano.sh/v1alpha1` are the router's own, and the types are their single source: the CRDs
//! are generated from them ([`crds()`]), objects are deserialized into them, and what a schema cannot say is checked by
//! [`faults`]. Of the Gateway API the kinds with listeners, routes and policies have types here, with the fields that the
//! router reads: one type for each structure, wherever it occurs, and fields newer than any library's types.

pub mod backend_tls_policy;
pub mod connection_pool;
pub mod crds;
pub mod duration;
pub mod faults;
pub mod gateway;
pub mod gateway_class;
pub mod gateway_faults;
pub mod http_route;
pub mod inference_policy;
pub mod inference_pool;
pub mod listener_set;
pub mod model_route;
pub mod model_server;
pub mod names;
pub mod parent_reference;
pub mod redis_address;
pub mod reference_grant;
pub mod static_endpoint;

pub use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Secret, Service};
pub use k8s_openapi::api::discovery::v1::EndpointSlice;
pub use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

pub use backend_tls_policy::{BackendTlsPolicy, BackendTlsPolicySpec};
pub use crds::{crd_files, crds, crds_yaml};
pub use faults::{Fault, REGEX_SIZE_LIMIT, compile_regex, model_route_faults, model_server_faults};
pub use gateway::{Gateway, GatewaySpec};
pub use gateway_class::{GatewayClass, GatewayClassSpec};
pub use gateway_faults::{gateway_faults, listener_set_faults, pod_faults};
pub use http_route::{HttpRoute, HttpRouteSpec};
pub use inference_policy::{InferenceModelRewrite, InferenceObjective, XInferenceModelRewrite, XInferenceObjective};
pub use inference_policy::{InferenceModelRewriteSpec, InferenceObjectiveSpec, model_rewrite_faults};
pub use inference_pool::{InferencePool, InferencePoolSpec, inference_pool_faults};
pub use listener_set::{ListenerSet, ListenerSetSpec};
pub use model_route::{ModelRoute, ModelRouteSpec, ModelRouteStatus};
pub use model_server::{ModelServer, ModelServerSpec, ModelServerStatus};
pub use parent_reference::ParentReference;
pub use reference_grant::{ReferenceGrant, ReferenceGrantSpec};
