//! What is kept of Kubernetes' own objects: a few fields out of many, because clusters have thousands of them.

use std::net::IpAddr;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, PodStatus, Secret, Service, ServiceSpec, ServiceStatus};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::effect;
use super::provided::{ProvidedFacts, is_provided};
use crate::certificate::{Authorities, Certificate, CertificateFault};
use crate::object::{Kind, ObjectKey};
use crate::record::Effect;
use crate::selector::{Labels, has_all};
use crate::world::{Digest, InferencePoolFacts, Table, World};

/// The annotation of the Gateway API's CustomResourceDefinitions that says which release they are of.
const BUNDLE_VERSION: &str = "gateway.networking.k8s.io/bundle-version";

/// The annotation beside it that names their channel.
const CHANNEL: &str = "gateway.networking.k8s.io/channel";

/// The annotations by which Pods tell other routers, too, where their engines meet those that decode what they have
/// computed: a port, or one for each port that is served, between commas. The first one counts.
pub const BOOTSTRAP_PORTS: [&str; 2] = ["sglang.ai/bootstrap-port", "vllm.ai/bootstrap-port"];

/// The label of an EndpointSlice that names its Service.
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// What is kept of a Pod.
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
    /// Where its engine meets those that decode what it has computed, as an annotation of the Pod says it.
    pub bootstrap_ports: Option<Arc<str>>,
    /// Which life of the Pod this is: its UID and when the newest of its containers started. It changes when the Pod is
    /// made anew and when a container is restarted, and what was in the memory of an engine is gone.
    pub incarnation: Option<Arc<str>>,
}

impl PodFacts {
    /// Makes what is known of an instance that is listed and no Pod: that it should be there.
    pub fn listed(labels: Labels, address: Option<IpAddr>) -> Self {
        Self {
            labels,
            address,
            ready: Some(true),
            terminating: false,
            phase: None,
            node: None,
            bootstrap_ports: None,
            incarnation: None,
        }
    }
}

/// What is kept of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceFacts {
    /// The ports, in the order of the spec.
    pub ports: Vec<ServicePort>,
    /// Where clients reach it: IP addresses and host names of its load balancer, or else its cluster IPs.
    pub addresses: Vec<String>,
    /// The labels of the Pods that it leads to.
    pub selector: Labels,
    /// What is kept besides of a Service that the router made for a Gateway.
    pub provided: Option<Arc<ProvidedFacts>>,
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
    /// What is spoken over it, for example `kubernetes.io/h2c`.
    pub app_protocol: Option<String>,
}

/// What is kept of an EndpointSlice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSliceFacts {
    /// The Service of the slice's namespace that it belongs to.
    pub service: Option<Arc<str>>,
    /// The ports that each endpoint has.
    pub ports: Vec<SlicePort>,
    /// The endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// A port of the endpoints of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// The name of the Service's port; empty for its only port.
    pub name: String,
    /// The endpoints' own port; every port if absent.
    pub port: Option<u16>,
}

/// An endpoint of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SliceEndpoint {
    /// Its addresses, which are interchangeable; none where the slice has host names.
    pub addresses: Vec<IpAddr>,
    /// Whether it takes traffic; the API has an absent condition mean that it does.
    pub ready: bool,
    /// The Pod behind it.
    pub pod: Option<Arc<str>>,
}

/// What is kept of a Secret.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretFacts {
    /// The certificate and key in it.
    pub certificate: Result<Arc<Certificate>, CertificateFault>,
}

/// What is kept of a ConfigMap.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfigMapFacts {
    /// The certificates under its key `ca.crt`.
    pub authorities: Result<Arc<Authorities>, CertificateFault>,
}

/// What is kept of a CustomResourceDefinition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DefinitionFacts {
    /// The release of the Gateway API that the definition says it is of.
    pub bundle_version: Option<String>,
    /// The channel of that release that it says it is of.
    pub channel: Channel,
}

/// The channel of the installed definitions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Channel {
    /// It has the fields that are stable, and is assumed where the definitions do not name their channel.
    #[default]
    Standard,
    /// It has all fields.
    Experimental,
}

impl Digest for Namespace {
    type Stored = Labels;

    fn digest(self) -> Self::Stored {
        self.metadata.labels.unwrap_or_default()
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        effect(before, after)
    }
}

impl Digest for Pod {
    type Stored = PodFacts;

    fn digest(self) -> Self::Stored {
        let status = self.status.unwrap_or_default();
        let annotated = |name: &&str| self.metadata.annotations.as_ref()?.get(*name).map(|ports| ports.as_str().into());
        let bootstrap_ports = BOOTSTRAP_PORTS.iter().find_map(annotated);
        let incarnation = incarnation(self.metadata.uid.as_deref(), &status);
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
            bootstrap_ports,
            incarnation,
        }
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        effect(before, after)
    }

    /// Most Pods of a cluster are no engines, and something about some of them changes all the time.
    fn concerns_plans(world: &World, key: &ObjectKey, pod: &Self::Stored) -> bool {
        let mut servers = within(&world.model_servers, &key.namespace);
        let mut pools = within(&world.inference_pools, &key.namespace);
        let selects = |labels: &Labels| !labels.is_empty() && has_all(&pod.labels, labels);
        servers.any(|server| selects(&server.spec.workload_selector.match_labels))
            || pools.any(|pool| has_all(&pod.labels, &pool.spec.selector.match_labels))
    }
}

impl Digest for Service {
    type Stored = ServiceFacts;

    fn digest(self) -> Self::Stored {
        let mut spec = self.spec.unwrap_or_default();
        let provided = provided(self.metadata, &spec).map(Arc::new);
        let addresses = service_addresses(&spec, self.status.unwrap_or_default());
        let selector = spec.selector.take().unwrap_or_default();
        let ports = spec.ports.unwrap_or_default().into_iter().map(|port| ServicePort {
            name: port.name.unwrap_or_default(),
            port: port.port,
            protocol: port.protocol.unwrap_or_else(|| "TCP".to_owned()),
            app_protocol: port.app_protocol,
        });
        ServiceFacts { ports: ports.collect(), addresses, selector, provided }
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        effect(before, after)
    }
}

impl Digest for EndpointSlice {
    type Stored = EndpointSliceFacts;

    fn digest(self) -> Self::Stored {
        let label = self.metadata.labels.and_then(|mut labels| labels.remove(SERVICE_NAME_LABEL));
        let ports = self.ports.unwrap_or_default().into_iter().map(|port| SlicePort {
            name: port.name.unwrap_or_default(),
            port: port.port.and_then(|port| u16::try_from(port).ok()),
        });
        EndpointSliceFacts {
            service: label.map(Into::into),
            ports: ports.collect(),
            endpoints: self.endpoints.into_iter().map(slice_endpoint).collect(),
        }
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        effect(before, after)
    }

    /// Most Services of a cluster are no backends, and Pods of some of them come and go all the time.
    fn concerns_plans(world: &World, key: &ObjectKey, slice: &Self::Stored) -> bool {
        let Some(service) = &slice.service else { return false };
        let service = ObjectKey { namespace: Arc::clone(&key.namespace), name: Arc::clone(service) };
        let is_picker = |pool: &InferencePoolFacts| {
            pool.spec.endpoint_picker_ref.as_ref().is_some_and(|picker| *picker.name == *service.name)
        };
        within(&world.inference_pools, &key.namespace).any(is_picker)
            || world.http_routes.objects.values().any(|route| route.refers_to(Kind::Service, &service))
    }
}

impl Digest for Secret {
    type Stored = SecretFacts;

    fn digest(self) -> Self::Stored {
        let (data, text) = (self.data.unwrap_or_default(), self.string_data.unwrap_or_default());
        let part = |name: &str| {
            let written = text.get(name).map(String::as_bytes);
            written.or_else(|| data.get(name).map(|ByteString(bytes)| bytes.as_slice())).unwrap_or_default()
        };
        SecretFacts { certificate: Certificate::from_pem(part("tls.crt"), part("tls.key")).map(Arc::new) }
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        effect(before, after)
    }
}

impl Digest for ConfigMap {
    type Stored = ConfigMapFacts;

    fn digest(self) -> Self::Stored {
        let data = self.data.unwrap_or_default();
        let bundle = data.get("ca.crt").map(String::as_bytes).unwrap_or_default();
        ConfigMapFacts { authorities: Authorities::from_pem(bundle).map(Arc::new) }
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        effect(before, after)
    }
}

impl Digest for CustomResourceDefinition {
    type Stored = DefinitionFacts;

    fn digest(self) -> Self::Stored {
        let mut annotations = self.metadata.annotations.unwrap_or_default();
        DefinitionFacts {
            channel: Channel::parse(annotations.get(CHANNEL).map(String::as_str)),
            bundle_version: annotations.remove(BUNDLE_VERSION),
        }
    }

    fn effect(before: &Self::Stored, after: &Self::Stored) -> Effect {
        effect(before, after)
    }
}

impl Channel {
    /// Reads the channel's name; an unknown one counts as the channel with the fewest fields.
    pub fn parse(name: Option<&str>) -> Self {
        if name == Some("experimental") { Self::Experimental } else { Self::Standard }
    }
}

/// Returns the objects of a namespace.
fn within<'w, S>(table: &'w Table<S>, namespace: &'w Arc<str>) -> impl Iterator<Item = &'w S> {
    let first = ObjectKey { namespace: Arc::clone(namespace), name: "".into() };
    table.objects.range(first..).take_while(|(key, _)| key.namespace == *namespace).map(|(_, object)| object)
}

fn incarnation(uid: Option<&str>, status: &PodStatus) -> Option<Arc<str>> {
    let running =
        status.container_statuses.iter().flatten().filter_map(|status| status.state.as_ref()?.running.as_ref());
    let started = running.filter_map(|running| running.started_at.as_ref()).max();
    let uid = uid?;
    Some(started.map_or_else(|| uid.into(), |started| format!("{uid} {}", started.0).into()))
}

fn slice_endpoint(endpoint: Endpoint) -> SliceEndpoint {
    let ready = endpoint.conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let pod = endpoint.target_ref.filter(|target| target.kind.as_deref() == Some("Pod")).and_then(|target| target.name);
    SliceEndpoint {
        addresses: endpoint.addresses.iter().filter_map(|address| address.parse().ok()).collect(),
        ready,
        pod: pod.map(Into::into),
    }
}

/// Returns what is kept besides of a Service that the router made for a Gateway.
fn provided(metadata: ObjectMeta, spec: &ServiceSpec) -> Option<ProvidedFacts> {
    let labels = metadata.labels.filter(is_provided)?;
    let targets = spec.ports.iter().flatten().filter_map(|port| match port.target_port {
        Some(IntOrString::Int(target)) => Some((u16::try_from(port.port).ok()?, u16::try_from(target).ok()?)),
        _ => None,
    });
    Some(ProvidedFacts {
        uid: metadata.uid.unwrap_or_default(),
        labels,
        annotations: metadata.annotations.unwrap_or_default(),
        targets: targets.collect(),
    })
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
