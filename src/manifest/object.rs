//! The objects that a manifest may hold, by kind.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde_json::Value;

use super::LineFault;
use super::decode::decode;
use super::place::Place;
use crate::for_each_kind;
use crate::kinds::{self, Fault};
use crate::object::{Kind, ObjectKey};

/// The namespace of a namespaced object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// What releases of the Gateway API call the version of kinds whose shape never changed.
const GATEWAY_API_VERSIONS: &[&str] = &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"];

macro_rules! object {
    ($($kind:ident $name:literal in $table:ident $facts:tt,)*) => {
        /// An object of a kind that the router reads.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Object {
            $(
                #[doc = concat!("Of kind ", $name, ".")]
                $kind(Box<kinds::$kind>),
            )*
        }

        impl Object {
            /// Returns the object's kind.
            pub fn kind(&self) -> Kind {
                match self {
                    $(Self::$kind(_) => Kind::$kind,)*
                }
            }

            /// Returns the object's metadata.
            pub fn metadata(&self) -> &ObjectMeta {
                match self {
                    $(Self::$kind(object) => object.meta(),)*
                }
            }

            fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self {
                    $(Self::$kind(object) => object.meta_mut(),)*
                }
            }

            /// Makes a typed object of JSON; `None` if a part of it does not fit its type.
            fn decode(kind: Kind, value: Value, places: &Place, faults: &mut Vec<LineFault>) -> Option<Self> {
                match kind {
                    $(Kind::$kind => decode(value, places, faults).map(Self::$kind),)*
                }
            }
        }
    };
}

for_each_kind!(object);

/// What the `apiVersion` and `kind` of an object say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recognized {
    /// The router reads objects of this kind.
    Read(Kind),
    /// The kind is one that the router reads, but the `apiVersion` should be another.
    WrongVersion(&'static str),
    /// The router does not read objects of this kind.
    Ignored,
    /// Nobody reads objects of this kind: the group is one of those that the router knows whole.
    Unknown,
}

impl Object {
    /// Returns the object's name, which is never empty in an object that was read from a manifest.
    pub fn name(&self) -> &str {
        self.metadata().name.as_deref().unwrap_or_default()
    }

    /// Returns the object's namespace; `None` for cluster-scoped kinds.
    pub fn namespace(&self) -> Option<&str> {
        self.metadata().namespace.as_deref()
    }

    /// Returns the key under which the object is known among those of its kind.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::of(self.metadata())
    }

    /// Returns what is wrong with the object beyond its types.
    pub fn faults(&self) -> Vec<Fault> {
        match self {
            Self::Gateway(gateway) => kinds::gateway_faults(&gateway.spec),
            Self::ListenerSet(set) => kinds::listener_set_faults(&set.spec),
            Self::ModelRoute(route) => kinds::model_route_faults(&route.spec),
            Self::ModelServer(server) => kinds::model_server_faults(&server.spec),
            Self::InferencePool(pool) => kinds::inference_pool_faults(&pool.spec),
            Self::InferenceModelRewrite(rewrite) => kinds::model_rewrite_faults(&rewrite.spec),
            Self::XInferenceModelRewrite(rewrite) => kinds::model_rewrite_faults(&rewrite.spec),
            Self::Pod(pod) => kinds::pod_faults(pod),
            // Reports tell what is wrong with these, each rule or reference by itself.
            Self::GatewayClass(_)
            | Self::HttpRoute(_)
            | Self::BackendTlsPolicy(_)
            | Self::ReferenceGrant(_)
            | Self::InferenceObjective(_)
            | Self::XInferenceObjective(_)
            | Self::Namespace(_)
            | Self::Service(_)
            | Self::EndpointSlice(_)
            | Self::Secret(_)
            | Self::ConfigMap(_)
            | Self::CustomResourceDefinition(_) => Vec::new(),
        }
    }

    /// Makes a typed object of JSON; `None` if a part of it does not fit its type.
    pub(super) fn from_json(kind: Kind, value: Value, places: &Place, faults: &mut Vec<LineFault>) -> Option<Self> {
        let mut object = Self::decode(kind, value, places, faults)?;
        let namespace = &mut object.metadata_mut().namespace;
        if kind.is_namespaced() {
            namespace.get_or_insert_with(|| DEFAULT_NAMESPACE.to_owned());
        } else {
            *namespace = None;
        }
        Some(object)
    }
}

/// Tells from `apiVersion` and `kind` what the router makes of an object.
pub(super) fn recognize(api_version: &str, kind: &str) -> Recognized {
    // Groups may have kinds of one name.
    let mut named = Kind::ALL.iter().copied().filter(|known| known.as_str() == kind);
    let Some(preferred) = named.clone().next() else {
        return if is_unknown(api_version, kind) { Recognized::Unknown } else { Recognized::Ignored };
    };
    match named.find(|known| api_versions(*known).contains(&api_version)) {
        Some(known) => Recognized::Read(known),
        None if is_foreign(preferred, api_version) => Recognized::Ignored,
        None => Recognized::WrongVersion(preferred.api_version()),
    }
}

/// Returns whether a group that the router serves has no kind of this name, by no release of it.
fn is_unknown(api_version: &str, kind: &str) -> bool {
    let known: &[&str] = match api_version.split_once('/').map(|(group, _)| group) {
        Some("networking.serving.volcano.sh" | "inference.networking.k8s.io") => &[],
        Some("inference.networking.x-k8s.io") => &["InferenceModel", "InferencePoolImport"],
        Some("gateway.networking.k8s.io") => {
            &["BackendLBPolicy", "BackendTrafficPolicy", "GRPCRoute", "TCPRoute", "TLSRoute", "UDPRoute"]
        }
        _ => return false,
    };
    !known.contains(&kind)
}

/// Returns whether another project has a kind of the same name that is nothing like it.
fn is_foreign(kind: Kind, api_version: &str) -> bool {
    match kind {
        Kind::Gateway => api_version.starts_with("networking.istio.io/"),
        Kind::Service => api_version.starts_with("serving.knative.dev/"),
        // What became of it has another shape.
        Kind::InferencePool => api_version.starts_with("inference.networking.x-k8s.io/"),
        Kind::GatewayClass
        | Kind::ListenerSet
        | Kind::HttpRoute
        | Kind::BackendTlsPolicy
        | Kind::ReferenceGrant
        | Kind::ModelRoute
        | Kind::ModelServer
        | Kind::InferenceObjective
        | Kind::XInferenceObjective
        | Kind::InferenceModelRewrite
        | Kind::XInferenceModelRewrite
        | Kind::Namespace
        | Kind::Pod
        | Kind::EndpointSlice
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::CustomResourceDefinition => false,
    }
}

/// Returns the `apiVersion`s under which a kind is read, the preferred one first.
fn api_versions(kind: Kind) -> Vec<&'static str> {
    let others = match kind {
        Kind::Gateway | Kind::GatewayClass | Kind::HttpRoute | Kind::ReferenceGrant => GATEWAY_API_VERSIONS,
        Kind::ListenerSet
        | Kind::BackendTlsPolicy
        | Kind::ModelRoute
        | Kind::ModelServer
        | Kind::InferencePool
        | Kind::InferenceObjective
        | Kind::XInferenceObjective
        | Kind::InferenceModelRewrite
        | Kind::XInferenceModelRewrite
        | Kind::Namespace
        | Kind::Pod
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::Secret
        | Kind::ConfigMap
        | Kind::CustomResourceDefinition => &[],
    };
    let preferred = kind.api_version();
    std::iter::once(preferred).chain(others.iter().copied().filter(|other| *other != preferred)).collect()
}
