//! What is kept of an object of each kind.

use std::net::IpAddr;
use std::sync::Arc;

use gateway_api::experimental::gatewayclasses::GatewayClass;
use gateway_api::experimental::gateways::{Gateway, GatewaySpec};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Table, World, WorldKind};
use crate::kinds::model_route::ModelRoute;
use crate::kinds::model_server::ModelServer;
use crate::native::route::{Route, Server};
use crate::object::{Kind, ObjectKey};
use crate::selector::Labels;

/// What is kept of a GatewayClass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayClassFacts {
    /// Which controller the class belongs to.
    pub controller_name: String,
}

/// What is kept of a Gateway.
#[derive(Clone, Debug)]
pub struct GatewayFacts {
    /// When it was created, in seconds since the epoch; 0 when unknown.
    pub created: i64,
    /// The object's `metadata.generation`.
    pub generation: i64,
    /// The object's spec.
    pub spec: Arc<GatewaySpec>,
}

/// What is kept of a Pod: a few fields out of many, because clusters have thousands of Pods.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodFacts {
    /// The labels that ModelServers select by.
    pub labels: Labels,
    /// The Pod's address, once it has one.
    pub address: Option<IpAddr>,
    /// The `Ready` condition; `None` while the Pod has no status conditions at all.
    pub ready: Option<bool>,
    /// Whether the Pod is being deleted.
    pub terminating: bool,
    /// The Pod's phase, for example `Running`.
    pub phase: Option<String>,
    /// The Node that the Pod runs on.
    pub node: Option<String>,
}

impl WorldKind for GatewayClass {
    const KIND: Kind = Kind::GatewayClass;
    type Stored = GatewayClassFacts;

    fn key(&self) -> ObjectKey {
        ObjectKey { namespace: "".into(), ..ObjectKey::of(&self.metadata) }
    }

    fn digest(self) -> Self::Stored {
        GatewayClassFacts { controller_name: self.spec.controller_name }
    }

    fn table(world: &mut World) -> &mut Table<Self::Stored> {
        &mut world.gateway_classes
    }
}

impl WorldKind for Gateway {
    const KIND: Kind = Kind::Gateway;
    type Stored = GatewayFacts;

    fn key(&self) -> ObjectKey {
        ObjectKey::of(&self.metadata)
    }

    fn digest(self) -> Self::Stored {
        GatewayFacts {
            created: created(&self.metadata),
            generation: self.metadata.generation.unwrap_or_default(),
            spec: Arc::new(self.spec),
        }
    }

    fn table(world: &mut World) -> &mut Table<Self::Stored> {
        &mut world.gateways
    }
}

impl WorldKind for ModelRoute {
    const KIND: Kind = Kind::ModelRoute;
    type Stored = Arc<Route>;

    fn key(&self) -> ObjectKey {
        ObjectKey::of(&self.metadata)
    }

    fn digest(self) -> Self::Stored {
        let key = WorldKind::key(&self);
        let generation = self.metadata.generation.unwrap_or_default();
        Arc::new(Route::compile(key, created(&self.metadata), generation, self.spec))
    }

    fn table(world: &mut World) -> &mut Table<Self::Stored> {
        &mut world.model_routes
    }
}

impl WorldKind for ModelServer {
    const KIND: Kind = Kind::ModelServer;
    type Stored = Server;

    fn key(&self) -> ObjectKey {
        ObjectKey::of(&self.metadata)
    }

    fn digest(self) -> Self::Stored {
        let key = WorldKind::key(&self);
        Server::compile(key, self.metadata.generation.unwrap_or_default(), self.spec)
    }

    fn table(world: &mut World) -> &mut Table<Self::Stored> {
        &mut world.model_servers
    }
}

impl WorldKind for Namespace {
    const KIND: Kind = Kind::Namespace;
    type Stored = Labels;

    fn key(&self) -> ObjectKey {
        ObjectKey { namespace: "".into(), ..ObjectKey::of(&self.metadata) }
    }

    fn digest(self) -> Self::Stored {
        self.metadata.labels.unwrap_or_default()
    }

    fn table(world: &mut World) -> &mut Table<Self::Stored> {
        &mut world.namespaces
    }
}

impl WorldKind for Pod {
    const KIND: Kind = Kind::Pod;
    type Stored = PodFacts;

    fn key(&self) -> ObjectKey {
        ObjectKey::of(&self.metadata)
    }

    fn digest(self) -> Self::Stored {
        let status = self.status.unwrap_or_default();
        let ready = status.conditions.filter(|conditions| !conditions.is_empty()).map(|conditions| {
            conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
        });
        PodFacts {
            labels: self.metadata.labels.unwrap_or_default(),
            address: status.pod_ip.and_then(|address| address.parse().ok()),
            ready,
            terminating: self.metadata.deletion_timestamp.is_some(),
            phase: status.phase,
            node: self.spec.and_then(|spec| spec.node_name),
        }
    }

    fn table(world: &mut World) -> &mut Table<Self::Stored> {
        &mut world.pods
    }
}

fn created(metadata: &ObjectMeta) -> i64 {
    metadata.creation_timestamp.as_ref().map_or(0, |time| time.0.as_second())
}
