//! The kinds that the router reads, as types.
//!
//! Those of `networking.serving.volcano.sh/v1alpha1` are the single source: the CRDs are generated from them ([`crds()`]),
//! objects are deserialized into them, and what a schema cannot say is checked by [`faults`]. Those of the Gateway API
//! are the fields of it that the router reads.

pub mod backend_tls_policy;
pub mod crds;
pub mod duration;
pub mod faults;
pub mod gateway;
pub mod listener_set;
pub mod model_route;
pub mod model_server;
pub mod names;
pub mod parent_reference;

pub use backend_tls_policy::{BackendTLSPolicy, BackendTlsPolicySpec};
pub use crds::{crd_files, crds, crds_yaml};
pub use faults::{Fault, REGEX_SIZE_LIMIT, compile_regex, model_route_faults, model_server_faults};
pub use gateway::{Gateway, GatewaySpec};
pub use listener_set::{ListenerSet, ListenerSetSpec};
pub use model_route::{ModelRoute, ModelRouteSpec, ModelRouteStatus};
pub use model_server::{ModelServer, ModelServerSpec, ModelServerStatus};
pub use parent_reference::ParentReference;

/// The API group of the router's own kinds.
pub const GROUP: &str = "networking.serving.volcano.sh";

/// The `apiVersion` of the router's own kinds.
pub const API_VERSION: &str = "networking.serving.volcano.sh/v1alpha1";
