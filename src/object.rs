//! The nouns that every layer shares: which object, which socket, which pool.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Serialize, Serializer};

/// The API group of the router's own kinds.
pub const GROUP: &str = "networking.serving.volcano.sh";

/// The `apiVersion` of the router's own kinds.
pub const API_VERSION: &str = "networking.serving.volcano.sh/v1alpha1";

/// The kinds of object that the router reads, in the order in which a report lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `gateway.networking.k8s.io/v1` GatewayClass, cluster-scoped.
    GatewayClass,
    /// `gateway.networking.k8s.io/v1` Gateway.
    Gateway,
    /// `gateway.networking.k8s.io/v1` ListenerSet.
    ListenerSet,
    /// `gateway.networking.k8s.io/v1` HTTPRoute.
    HttpRoute,
    /// `gateway.networking.k8s.io/v1` BackendTLSPolicy.
    BackendTlsPolicy,
    /// `gateway.networking.k8s.io/v1beta1` ReferenceGrant.
    ReferenceGrant,
    /// `networking.serving.volcano.sh/v1alpha1` ModelRoute.
    ModelRoute,
    /// `networking.serving.volcano.sh/v1alpha1` ModelServer.
    ModelServer,
    /// `inference.networking.k8s.io/v1` InferencePool.
    InferencePool,
    /// `llm-d.ai/v1alpha2` InferenceObjective.
    InferenceObjective,
    /// `inference.networking.x-k8s.io/v1alpha2` InferenceObjective.
    XInferenceObjective,
    /// `llm-d.ai/v1alpha2` InferenceModelRewrite.
    InferenceModelRewrite,
    /// `inference.networking.x-k8s.io/v1alpha2` InferenceModelRewrite.
    XInferenceModelRewrite,
    /// `v1` Namespace, cluster-scoped.
    Namespace,
    /// `v1` Pod.
    Pod,
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `v1` Secret.
    Secret,
    /// `v1` ConfigMap.
    ConfigMap,
    /// `apiextensions.k8s.io/v1` CustomResourceDefinition, cluster-scoped.
    CustomResourceDefinition,
}

/// Gives every kind to a macro: the variant of [`Kind`], which is also the name of its type in
/// [`kinds`](crate::kinds), its [label](Kind::label), and the table of the [`World`](crate::world::World) that has its
/// objects.
#[macro_export]
macro_rules! for_each_kind {
    ($callback:ident) => {
        $callback! {
            GatewayClass "GatewayClass" in gateway_classes,
            Gateway "Gateway" in gateways,
            ListenerSet "ListenerSet" in listener_sets,
            HttpRoute "HTTPRoute" in http_routes,
            BackendTlsPolicy "BackendTLSPolicy" in backend_tls_policies,
            ReferenceGrant "ReferenceGrant" in reference_grants,
            ModelRoute "ModelRoute" in model_routes,
            ModelServer "ModelServer" in model_servers,
            InferencePool "InferencePool" in inference_pools,
            InferenceObjective "InferenceObjective" in inference_objectives,
            XInferenceObjective "XInferenceObjective" in former_inference_objectives,
            InferenceModelRewrite "InferenceModelRewrite" in model_rewrites,
            XInferenceModelRewrite "XInferenceModelRewrite" in former_model_rewrites,
            Namespace "Namespace" in namespaces,
            Pod "Pod" in pods,
            Service "Service" in services,
            EndpointSlice "EndpointSlice" in endpoint_slices,
            Secret "Secret" in secrets,
            ConfigMap "ConfigMap" in config_maps,
            CustomResourceDefinition "CustomResourceDefinition" in definitions,
        }
    };
}

macro_rules! all_kinds {
    ($($kind:ident $name:literal in $table:ident,)*) => {
        impl Kind {
            /// Every kind, in their order.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Returns a name that no other kind has: as Kubernetes spells it, but for the kinds of a former group.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }
        }
    };
}

/// Names one object of a kind that is known from the context.
///
/// Its parts are shared: plans, reports and pools hold many copies of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// The object's namespace; empty for cluster-scoped kinds.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
}

/// A socket that the router listens on.
///
/// Called a bind because "listener" already means an entry of `Gateway.spec.listeners`, and several of those
/// may share one bind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bind {
    /// The local address.
    pub address: IpAddr,
    /// The local port, 1 to 65535.
    pub port: u16,
}

/// What became of a socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindState {
    /// It accepts connections.
    Open,
    /// It could not be opened, for this reason; it is tried again.
    Failed(String),
}

/// Names a pool: the set of endpoints that one backend object stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey {
    /// The kind of the backend object.
    pub kind: Kind,
    /// The backend object.
    pub object: ObjectKey,
    /// The port of a Service; other backends are meant as a whole.
    pub port: Option<u16>,
}

for_each_kind!(all_kinds);

impl Kind {
    /// Returns the kind's name as Kubernetes spells it, which kinds of several groups may have.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::XInferenceObjective => Self::InferenceObjective.label(),
            Self::XInferenceModelRewrite => Self::InferenceModelRewrite.label(),
            other => other.label(),
        }
    }

    /// Returns the `apiVersion` that objects of the kind are read and written in.
    pub const fn api_version(self) -> &'static str {
        match self {
            Self::GatewayClass | Self::Gateway | Self::ListenerSet | Self::HttpRoute | Self::BackendTlsPolicy => {
                "gateway.networking.k8s.io/v1"
            }
            // The only version that all releases of the Gateway API serve.
            Self::ReferenceGrant => "gateway.networking.k8s.io/v1beta1",
            Self::ModelRoute | Self::ModelServer => API_VERSION,
            Self::InferencePool => "inference.networking.k8s.io/v1",
            Self::InferenceObjective | Self::InferenceModelRewrite => "llm-d.ai/v1alpha2",
            Self::XInferenceObjective | Self::XInferenceModelRewrite => "inference.networking.x-k8s.io/v1alpha2",
            Self::Namespace | Self::Pod | Self::Service | Self::Secret | Self::ConfigMap => "v1",
            Self::EndpointSlice => "discovery.k8s.io/v1",
            Self::CustomResourceDefinition => "apiextensions.k8s.io/v1",
        }
    }

    /// Returns the API group of the kind; empty for the core group.
    pub fn group(self) -> &'static str {
        self.api_version().split_once('/').map_or("", |(group, _)| group)
    }

    /// Returns whether objects of the kind live in namespaces.
    pub const fn is_namespaced(self) -> bool {
        !matches!(self, Self::GatewayClass | Self::Namespace | Self::CustomResourceDefinition)
    }
}

impl ObjectKey {
    /// Makes a key from its parts.
    pub fn new(namespace: impl Into<Arc<str>>, name: impl Into<Arc<str>>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// Reads the key out of an object's metadata; absent parts are empty.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
    }
}

impl Bind {
    /// Returns the socket address to bind.
    pub fn socket(self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            formatter.write_str(&self.name)
        } else {
            write!(formatter, "{}/{}", self.namespace, self.name)
        }
    }
}

impl fmt::Display for Bind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.socket().fmt(formatter)
    }
}

impl fmt::Display for PoolKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {}", self.kind, self.object)?;
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

impl Serialize for ObjectKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for Bind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for PoolKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
