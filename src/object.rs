//! The nouns that every layer shares: which object, which socket, which pool.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Serialize, Serializer};

/// The kinds of object that the router reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// `gateway.networking.k8s.io/v1` GatewayClass, cluster-scoped.
    GatewayClass,
    /// `gateway.networking.k8s.io/v1` Gateway.
    Gateway,
    /// `networking.serving.volcano.sh/v1alpha1` ModelRoute.
    ModelRoute,
    /// `networking.serving.volcano.sh/v1alpha1` ModelServer.
    ModelServer,
    /// `v1` Namespace, cluster-scoped.
    Namespace,
    /// `v1` Pod.
    Pod,
    /// `v1` Service.
    Service,
    /// `apiextensions.k8s.io/v1` CustomResourceDefinition, cluster-scoped.
    CustomResourceDefinition,
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

/// Names a pool: the set of endpoints that one backend object stands for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey {
    /// The kind of the backend object.
    pub kind: Kind,
    /// The backend object.
    pub object: ObjectKey,
}

impl Kind {
    /// Every kind, in the order in which a report lists them.
    pub const ALL: [Self; 8] = [
        Self::GatewayClass,
        Self::Gateway,
        Self::ModelRoute,
        Self::ModelServer,
        Self::Namespace,
        Self::Pod,
        Self::Service,
        Self::CustomResourceDefinition,
    ];

    /// Returns the kind's name as Kubernetes spells it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::GatewayClass => "GatewayClass",
            Self::Gateway => "Gateway",
            Self::ModelRoute => "ModelRoute",
            Self::ModelServer => "ModelServer",
            Self::Namespace => "Namespace",
            Self::Pod => "Pod",
            Self::Service => "Service",
            Self::CustomResourceDefinition => "CustomResourceDefinition",
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
        write!(formatter, "{} {}", self.kind, self.object)
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
