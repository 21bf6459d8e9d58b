//! The nouns that every layer shares: which object, which socket, which pool.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Serialize, Serializer};

/// The API group of the router's own kinds.
pub const GROUP: &str = "networking.serving.volcano.sh";

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

/// Gives every kind to a macro, which is the one place where a kind is described. Of each kind:
///
/// * the variant of [`Kind`], which is also the name of its type in [`kinds`](crate::kinds), and its
///   [label](Kind::label);
/// * `in`: the table of the [`World`](crate::world::World) that has its objects;
/// * `version`: the `apiVersion` that its objects are read and written in;
/// * `needs`: the [`Api`] without which the router does not read it;
/// * `reach`: which objects are watched, a [`Reach`], and `only`: the fields that they must have, a field selector;
/// * `reports`: the field of [`Reports`](crate::plan::Reports) that tells of them, which is what their status, their
///   complaints and their debug page are made from; `none` for kinds without a status.
///
/// A macro that does not need the facts in braces takes them as `$facts:tt`.
#[macro_export]
macro_rules! for_each_kind {
    ($callback:ident) => {
        $callback! {
            GatewayClass "GatewayClass" in gateway_classes {
                version: "gateway.networking.k8s.io/v1", needs: GatewayApi, reach: Cluster, only: "", reports: classes
            },
            Gateway "Gateway" in gateways {
                version: "gateway.networking.k8s.io/v1", needs: GatewayApi, reach: WatchedAndOwn, only: "", reports: gateways
            },
            ListenerSet "ListenerSet" in listener_sets {
                version: "gateway.networking.k8s.io/v1", needs: GatewayApi, reach: WatchedAndOwn, only: "", reports: listener_sets
            },
            HttpRoute "HTTPRoute" in http_routes {
                version: "gateway.networking.k8s.io/v1", needs: GatewayApi, reach: WatchedAndOwn, only: "", reports: http_routes
            },
            BackendTlsPolicy "BackendTLSPolicy" in backend_tls_policies {
                version: "gateway.networking.k8s.io/v1", needs: GatewayApi, reach: WatchedAndOwn, only: "", reports: policies
            },
            ReferenceGrant "ReferenceGrant" in reference_grants {
                version: "gateway.networking.k8s.io/v1beta1", needs: GatewayApi, reach: WatchedAndOwn, only: "", reports: none
            },
            ModelRoute "ModelRoute" in model_routes {
                version: "networking.serving.volcano.sh/v1alpha1", needs: Models, reach: Watched, only: "", reports: routes
            },
            ModelServer "ModelServer" in model_servers {
                version: "networking.serving.volcano.sh/v1alpha1", needs: Models, reach: Watched, only: "", reports: servers
            },
            InferencePool "InferencePool" in inference_pools {
                version: "inference.networking.k8s.io/v1", needs: InferenceExtension, reach: WatchedAndOwn, only: "", reports: inference_pools
            },
            InferenceObjective "InferenceObjective" in inference_objectives {
                version: "llm-d.ai/v1alpha2", needs: InferenceExtension, reach: WatchedAndOwn, only: "", reports: none
            },
            XInferenceObjective "XInferenceObjective" in former_inference_objectives {
                version: "inference.networking.x-k8s.io/v1alpha2", needs: InferenceExtension, reach: WatchedAndOwn, only: "", reports: none
            },
            InferenceModelRewrite "InferenceModelRewrite" in model_rewrites {
                version: "llm-d.ai/v1alpha2", needs: InferenceExtension, reach: WatchedAndOwn, only: "", reports: none
            },
            XInferenceModelRewrite "XInferenceModelRewrite" in former_model_rewrites {
                version: "inference.networking.x-k8s.io/v1alpha2", needs: InferenceExtension, reach: WatchedAndOwn, only: "", reports: none
            },
            Namespace "Namespace" in namespaces {
                version: "v1", needs: GatewayApi, reach: Cluster, only: "", reports: none
            },
            Pod "Pod" in pods {
                version: "v1", needs: Models, reach: Watched, only: "", reports: none
            },
            Service "Service" in services {
                version: "v1", needs: GatewayApi, reach: WatchedAndOwn, only: "", reports: none
            },
            EndpointSlice "EndpointSlice" in endpoint_slices {
                version: "discovery.k8s.io/v1", needs: GatewayApi, reach: WatchedAndOwn, only: "", reports: none
            },
            Secret "Secret" in secrets {
                version: "v1", needs: GatewayApi, reach: WatchedAndOwn, only: "type=kubernetes.io/tls", reports: none
            },
            ConfigMap "ConfigMap" in config_maps {
                version: "v1", needs: GatewayApi, reach: WatchedAndOwn, only: "", reports: none
            },
            CustomResourceDefinition "CustomResourceDefinition" in definitions {
                version: "apiextensions.k8s.io/v1", needs: GatewayApi, reach: Cluster, only: "metadata.name=gatewayclasses.gateway.networking.k8s.io", reports: none
            },
        }
    };
}

/// What the router was told to serve.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Api {
    /// Models, which are always served.
    Models,
    /// Gateways and their routes. Without it the router neither needs their kinds nor asks for the right to read them.
    GatewayApi,
    /// HTTPRoutes to InferencePools.
    InferenceExtension,
}

/// Which objects of a kind are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// All objects of a cluster-scoped kind.
    Cluster,
    /// Those in the namespaces that the router was told to watch.
    Watched,
    /// Those in these namespaces, and in the router's own.
    WatchedAndOwn,
}

macro_rules! all_kinds {
    ($($kind:ident $name:literal in $table:ident {
        version: $version:literal, needs: $api:ident, reach: $reach:ident, only: $only:literal, reports: $reports:ident
    },)*) => {
        impl Kind {
            /// Every kind, in their order.
            pub const ALL: &[Self] = &[$(Self::$kind),*];

            /// Returns a name that no other kind has: as Kubernetes spells it, but for the kinds of a former group.
            pub const fn label(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)*
                }
            }

            /// Returns the `apiVersion` that objects of the kind are read and written in.
            pub const fn api_version(self) -> &'static str {
                match self {
                    $(Self::$kind => $version,)*
                }
            }

            /// Returns the API that the kind belongs to.
            pub const fn api(self) -> Api {
                match self {
                    $(Self::$kind => Api::$api,)*
                }
            }

            /// Returns which objects of the kind are watched.
            pub const fn reach(self) -> Reach {
                match self {
                    $(Self::$kind => Reach::$reach,)*
                }
            }

            /// Returns the fields that the watched objects must have, as a field selector of Kubernetes.
            pub const fn field_selector(self) -> Option<&'static str> {
                let only = match self {
                    $(Self::$kind => $only,)*
                };
                if only.is_empty() { None } else { Some(only) }
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

impl PoolKey {
    /// Returns the key of a ModelServer's pool.
    pub fn of_server(server: &ObjectKey) -> Self {
        Self { kind: Kind::ModelServer, object: server.clone(), port: None }
    }
}

impl Kind {
    /// Returns the kind's name as Kubernetes spells it, which kinds of several groups may have.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::XInferenceObjective => Self::InferenceObjective.label(),
            Self::XInferenceModelRewrite => Self::InferenceModelRewrite.label(),
            Self::GatewayClass | Self::Gateway | Self::ListenerSet | Self::HttpRoute | Self::BackendTlsPolicy => {
                self.label()
            }
            Self::ReferenceGrant | Self::ModelRoute | Self::ModelServer | Self::InferencePool => self.label(),
            Self::InferenceObjective | Self::InferenceModelRewrite | Self::Namespace | Self::Pod => self.label(),
            Self::Service | Self::EndpointSlice | Self::Secret | Self::ConfigMap => self.label(),
            Self::CustomResourceDefinition => self.label(),
        }
    }

    /// Returns the API group of the kind; empty for the core group.
    pub fn group(self) -> &'static str {
        self.api_version().split_once('/').map_or("", |(group, _)| group)
    }

    /// Returns whether objects of the kind live in namespaces.
    pub const fn is_namespaced(self) -> bool {
        match self.reach() {
            Reach::Cluster => false,
            Reach::Watched | Reach::WatchedAndOwn => true,
        }
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

    /// Returns the object that a reference in this one names: one of this one's namespace where it says no other.
    pub fn referred(&self, namespace: Option<&str>, name: &str) -> Self {
        let namespace = namespace.map_or_else(|| Arc::clone(&self.namespace), Arc::from);
        Self { namespace, name: name.into() }
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
