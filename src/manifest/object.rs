//! The objects that a manifest may hold, by kind.

use gateway_api::experimental::gatewayclasses::GatewayClass;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde_json::Value;

use super::LineFault;
use super::decode::decode;
use super::place::Place;
use crate::kinds::{API_VERSION, Fault, Gateway, ModelRoute, ModelServer, model_route_faults, model_server_faults};
use crate::object::{Kind, ObjectKey};

/// The namespace of a namespaced object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// The `apiVersion`s of the Gateway API's kinds: one shape under two names.
const GATEWAY_API_VERSIONS: &[&str] = &["gateway.networking.k8s.io/v1", "gateway.networking.k8s.io/v1beta1"];

/// An object of a kind that the router reads.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// A CustomResourceDefinition.
    CustomResourceDefinition(Box<CustomResourceDefinition>),
    /// A Gateway.
    Gateway(Box<Gateway>),
    /// A GatewayClass.
    GatewayClass(Box<GatewayClass>),
    /// A ModelRoute.
    ModelRoute(Box<ModelRoute>),
    /// A ModelServer.
    ModelServer(Box<ModelServer>),
    /// A Namespace.
    Namespace(Box<Namespace>),
    /// A Pod.
    Pod(Box<Pod>),
    /// A Service.
    Service(Box<Service>),
}

/// What the `apiVersion` and `kind` of an object say about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recognized {
    /// The router reads objects of this kind.
    Read(Kind),
    /// The kind is one that the router reads, but the `apiVersion` should be another.
    WrongVersion(&'static str),
    /// The router does not read objects of this kind.
    Ignored,
}

impl Object {
    /// Returns the object's kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::CustomResourceDefinition(_) => Kind::CustomResourceDefinition,
            Self::Gateway(_) => Kind::Gateway,
            Self::GatewayClass(_) => Kind::GatewayClass,
            Self::ModelRoute(_) => Kind::ModelRoute,
            Self::ModelServer(_) => Kind::ModelServer,
            Self::Namespace(_) => Kind::Namespace,
            Self::Pod(_) => Kind::Pod,
            Self::Service(_) => Kind::Service,
        }
    }

    /// Returns the object's metadata.
    pub fn metadata(&self) -> &ObjectMeta {
        match self {
            Self::CustomResourceDefinition(definition) => definition.meta(),
            Self::Gateway(gateway) => gateway.meta(),
            Self::GatewayClass(class) => class.meta(),
            Self::ModelRoute(route) => route.meta(),
            Self::ModelServer(server) => server.meta(),
            Self::Namespace(namespace) => namespace.meta(),
            Self::Pod(pod) => pod.meta(),
            Self::Service(service) => service.meta(),
        }
    }

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
            Self::ModelRoute(route) => model_route_faults(&route.spec),
            Self::ModelServer(server) => model_server_faults(&server.spec),
            Self::CustomResourceDefinition(_)
            | Self::Gateway(_)
            | Self::GatewayClass(_)
            | Self::Namespace(_)
            | Self::Pod(_)
            | Self::Service(_) => Vec::new(),
        }
    }

    /// Makes a typed object of JSON; `None` if a part of it does not fit its type.
    pub(super) fn from_json(kind: Kind, value: Value, places: &Place, faults: &mut Vec<LineFault>) -> Option<Self> {
        let mut object = match kind {
            Kind::CustomResourceDefinition => decode(value, places, faults).map(Self::CustomResourceDefinition),
            Kind::Gateway => decode(value, places, faults).map(Self::Gateway),
            Kind::GatewayClass => decode(value, places, faults).map(Self::GatewayClass),
            Kind::ModelRoute => decode(value, places, faults).map(Self::ModelRoute),
            Kind::ModelServer => decode(value, places, faults).map(Self::ModelServer),
            Kind::Namespace => decode(value, places, faults).map(Self::Namespace),
            Kind::Pod => decode(value, places, faults).map(Self::Pod),
            Kind::Service => decode(value, places, faults).map(Self::Service),
        }?;
        let namespace = &mut object.metadata_mut().namespace;
        if is_namespaced(kind) {
            namespace.get_or_insert_with(|| DEFAULT_NAMESPACE.to_owned());
        } else {
            *namespace = None;
        }
        Some(object)
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        match self {
            Self::CustomResourceDefinition(definition) => definition.meta_mut(),
            Self::Gateway(gateway) => gateway.meta_mut(),
            Self::GatewayClass(class) => class.meta_mut(),
            Self::ModelRoute(route) => route.meta_mut(),
            Self::ModelServer(server) => server.meta_mut(),
            Self::Namespace(namespace) => namespace.meta_mut(),
            Self::Pod(pod) => pod.meta_mut(),
            Self::Service(service) => service.meta_mut(),
        }
    }
}

/// Tells from `apiVersion` and `kind` what the router makes of an object.
pub(super) fn recognize(api_version: &str, kind: &str) -> Recognized {
    let Some(known) = Kind::ALL.into_iter().find(|known| known.as_str() == kind) else { return Recognized::Ignored };
    let versions = api_versions(known);
    if versions.contains(&api_version) {
        Recognized::Read(known)
    } else if is_foreign(known, api_version) {
        Recognized::Ignored
    } else {
        Recognized::WrongVersion(versions[0])
    }
}

/// Returns whether another project has a kind of the same name that is nothing like it.
fn is_foreign(kind: Kind, api_version: &str) -> bool {
    match kind {
        Kind::Gateway => api_version.starts_with("networking.istio.io/"),
        Kind::Service => api_version.starts_with("serving.knative.dev/"),
        _ => false,
    }
}

/// Returns whether objects of the kind live in namespaces.
fn is_namespaced(kind: Kind) -> bool {
    !matches!(kind, Kind::GatewayClass | Kind::Namespace | Kind::CustomResourceDefinition)
}

/// Returns the `apiVersion`s under which a kind is read, the preferred one first.
fn api_versions(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Gateway | Kind::GatewayClass => GATEWAY_API_VERSIONS,
        Kind::ModelRoute | Kind::ModelServer => &[API_VERSION],
        Kind::Namespace | Kind::Pod | Kind::Service => &["v1"],
        Kind::CustomResourceDefinition => &["apiextensions.k8s.io/v1"],
    }
}
