//! What is kept of an object of each kind.

use std::net::IpAddr;
use std::sync::Arc;

use gateway_api::experimental::gatewayclasses::GatewayClass;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service, ServiceSpec, ServiceStatus};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;

use super::{Effect, Record, Table, World, WorldKind};
use crate::kinds::gateway::{Gateway, GatewaySpec};
use crate::kinds::model_route::ModelRoute;
use crate::kinds::model_server::ModelServer;
use crate::native::route::{Route, Server};
use crate::object::{Kind, ObjectKey};
use crate::selector::{Labels, has_all};

/// The annotation of the Gateway API's CustomResourceDefinitions that says which release they are of.
const BUNDLE_VERSION: &str = "gateway.networking.k8s.io/bundle-version";

/// What is kept of a GatewayClass.
#[derive(Clone, Debug)]
pub struct GatewayClassFacts {
    /// What the API server records of it.
    pub record: Record,
    /// Which controller the class belongs to.
    pub controller_name: String,
}

/// What is kept of a Gateway.
#[derive(Clone, Debug)]
pub struct GatewayFacts {
    /// What the API server records of it.
    pub record: Record,
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

/// What is kept of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    /// The ports, in the order of the spec.
    pub ports: Vec<ServicePort>,
    /// Where clients reach it: IP addresses and host names of its load balancer, or else its cluster IPs.
    pub addresses: Vec<String>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// The port's name; empty for a Service's only port.
    pub name: String,
    /// The port that clients use.
    pub port: i32,
    /// The transport protocol, for example `TCP`.
    pub protocol: String,
}

/// What is kept of a CustomResourceDefinition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionFacts {
    /// The release of the Gateway API that the definition says it is of.
    pub bundle_version: Option<String>,
}

impl WorldKind for GatewayClass {
    const KIND: Kind = Kind::GatewayClass;
    type Stored = GatewayClassFacts;

    fn key(&self) -> ObjectKey {
        ObjectKey { namespace: "".into(), ..ObjectKey::of(&self.metadata) }
    }

    fn digest(self) -> Self::Stored {
        let record = Record::of(&self.metadata, self.status);
        GatewayClassFacts { record, controller_name: self.spec.controller_name }
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        after.record.effect(&before.record)
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
        GatewayFacts { record: Record::of(&self.metadata, self.status), spec: Arc::new(self.spec) }
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        after.record.effect(&before.record)
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
        Arc::new(Route::compile(key, Record::of(&self.metadata, self.status), self.spec))
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        after.record.effect(&before.record)
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
        Server::compile(key, Record::of(&self.metadata, self.status), self.spec)
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        after.record.effect(&before.record)
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

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        effect(before, after)
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

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        effect(before, after)
    }

    /// Most Pods of a cluster are no engines, and something about some of them changes all the time.
    fn concerns_plans(world: &World, key: &ObjectKey, pod: &Self::Stored) -> bool {
        let first = ObjectKey { namespace: Arc::clone(&key.namespace), name: "".into() };
        let servers = world.model_servers.objects.range(first..);
        servers
            .take_while(|(server, _)| server.namespace == key.namespace)
            .any(|(_, server)| has_all(&pod.labels, &server.spec.workload_selector.match_labels))
    }

    fn table(world: &mut World) -> &mut Table<Self::Stored> {
        &mut world.pods
    }
}

impl WorldKind for Service {
    const KIND: Kind = Kind::Service;
    type Stored = ServiceFacts;

    fn key(&self) -> ObjectKey {
        ObjectKey::of(&self.metadata)
    }

    fn digest(self) -> Self::Stored {
        let spec = self.spec.unwrap_or_default();
        let addresses = service_addresses(&spec, self.status.unwrap_or_default());
        let ports = spec.ports.unwrap_or_default().into_iter().map(|port| ServicePort {
            name: port.name.unwrap_or_default(),
            port: port.port,
            protocol: port.protocol.unwrap_or_else(|| "TCP".to_owned()),
        });
        ServiceFacts { ports: ports.collect(), addresses }
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        effect(before, after)
    }

    fn table(world: &mut World) -> &mut Table<Self::Stored> {
        &mut world.services
    }
}

impl WorldKind for CustomResourceDefinition {
    const KIND: Kind = Kind::CustomResourceDefinition;
    type Stored = DefinitionFacts;

    fn key(&self) -> ObjectKey {
        ObjectKey { namespace: "".into(), ..ObjectKey::of(&self.metadata) }
    }

    fn digest(mut self) -> Self::Stored {
        DefinitionFacts {
            bundle_version: self.metadata.annotations.as_mut().and_then(|all| all.remove(BUNDLE_VERSION)),
        }
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        effect(before, after)
    }

    fn table(world: &mut World) -> &mut Table<Self::Stored> {
        &mut world.definitions
    }
}

/// Returns what it changes that an object of which only facts about plans are kept is no longer `before` but `after`.
fn effect<S: PartialEq>(before: &S, after: &S) -> Effect {
    if before == after { Effect::Nothing } else { Effect::Plan }
}

/// Returns where clients reach a Service: at its load balancer if it has one, else at its external and cluster IPs.
fn service_addresses(spec: &ServiceSpec, status: ServiceStatus) -> Vec<String> {
    let external = spec.external_ips.iter().flatten().cloned();
    if spec.type_.as_deref() == Some("LoadBalancer") {
        let ingress = status.load_balancer.and_then(|balancer| balancer.ingress).unwrap_or_default();
        return external.chain(ingress.into_iter().filter_map(|ingress| ingress.ip.or(ingress.hostname))).collect();
    }
    // A headless Service has the word `None` in place of an address.
    let internal = spec.cluster_ips.iter().flatten().filter(|address| *address != "None").cloned();
    external.chain(internal).collect()
}
