//! A router with an InferencePool of three endpoints, and the pickers that it asks.

use std::net::IpAddr;

use awc::ClientRequest;

use super::fake::{Conduct, FakePicker, PICKER_PORT};
use crate::harness::{Answer, Harness, Network, client, gateway_yaml, pod_yaml, read};
use crate::http_routes::backends::{BACKEND_PORT, Backend};
use crate::http_routes::scene::{answered, route_yaml};

/// The number of the first picker's host.
const FIRST_PICKER: u8 = 20;
/// A rule that leads to the pool.
pub(crate) const TO_POOL: &str =
    "- backendRefs: [{group: inference.networking.k8s.io, kind: InferencePool, name: pool}]\n";

/// How a pool and its picker are set up.
pub(crate) struct Setting<'s> {
    /// The pool's `failureMode`.
    pub(crate) failure_mode: &'s str,
    /// The rules of the route.
    pub(crate) rules: &'s str,
    /// What belongs to the port of the picker's Service.
    pub(crate) port: &'s str,
    /// Hosts that the picker's Service names as ready.
    pub(crate) pickers: &'s [u8],
    /// Options of the router.
    pub(crate) flags: &'s [&'s str],
}

/// A router and the endpoints `v1`, `v2` and `v3` of its pool.
pub(crate) struct Scene {
    pub(crate) harness: Harness,
    pub(crate) backends: [Backend; 3],
}

impl Default for Setting<'_> {
    fn default() -> Self {
        Self {
            failure_mode: "FailClose",
            rules: TO_POOL,
            port: ", appProtocol: kubernetes.io/h2c",
            pickers: &[FIRST_PICKER],
            flags: &[],
        }
    }
}

/// Starts a router, and a picker of this conduct.
pub(crate) async fn scene(setting: &Setting<'_>, conduct: impl FnOnce(&Network) -> Conduct) -> (Scene, FakePicker) {
    let network = Network::new();
    let picker = FakePicker::start(network.host(FIRST_PICKER), conduct(&network)).await;
    (scene_on(network, setting).await, picker)
}

/// Starts a router; pickers are the test's own.
pub(crate) async fn scene_on(network: Network, setting: &Setting<'_>) -> Scene {
    let names = ["v1", "v2", "v3"];
    let backends = [
        Backend::start(network.host(10), names[0]).await,
        Backend::start(network.host(11), names[1]).await,
        Backend::start(network.host(12), names[2]).await,
    ];
    let pods: String = (10..).zip(names).map(|(host, name)| pod_yaml(name, "model", network.host(host))).collect();
    let pickers: Vec<_> = setting.pickers.iter().map(|host| network.host(*host)).collect();
    network.write("pool.yaml", &(pods + &pool_yaml(setting.failure_mode)));
    network.write("picker.yaml", &picker_yaml(&pickers, setting.port));
    network.write("routes.yaml", &(gateway_yaml("gateway", &[(8080, None)]) + &route_yaml("r", setting.rules)));
    let own = ["--enable-gateway-api=true", "--enable-gateway-api-inference-extension=true"];
    let flags: Vec<_> = own.iter().chain(setting.flags).copied().collect();
    Scene { harness: network.start(&flags).await, backends }
}

/// Returns where an endpoint of the pool is.
pub(crate) fn endpoint(network: &Network, host: u8) -> String {
    format!("{}:{BACKEND_PORT}", network.host(host))
}

impl Scene {
    /// Returns where an endpoint of the pool is.
    pub(crate) fn endpoint(&self, host: u8) -> String {
        format!("{}:{BACKEND_PORT}", self.harness.host(host))
    }

    /// Begins a request to the pool.
    pub(crate) fn post(&self) -> ClientRequest {
        client().post(format!("http://{}:8080/v1/completions", self.harness.host(1)))
    }

    /// Sends a request with a small body to the pool.
    pub(crate) async fn ask(&self) -> Answer {
        read(self.post().send_body("{}").await.unwrap()).await
    }

    /// Sends a request, and returns the endpoint that answered or the status of the router's own answer.
    pub(crate) async fn asked(&self) -> String {
        answered(&self.ask().await)
    }

    /// Returns how many requests had this outcome.
    pub(crate) async fn outcomes(&self, outcome: &str) -> f64 {
        let label = format!("outcome=\"{outcome}\"");
        self.harness.metric("kthena_router_endpoint_picker_requests_total", &[&label]).await
    }
}

fn pool_yaml(failure_mode: &str) -> String {
    format!(
        "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {{name: pool}}\nspec:\n  \
         selector: {{matchLabels: {{app: model}}}}\n  targetPorts: [{{number: {BACKEND_PORT}}}]\n  \
         endpointPickerRef: {{name: picker, port: {{number: {PICKER_PORT}}}, failureMode: {failure_mode}}}\n---\n"
    )
}

/// Returns the YAML of the picker's Service, whose ready endpoints are these; `more` belongs to its port.
pub(crate) fn picker_yaml(addresses: &[IpAddr], more: &str) -> String {
    let endpoints: Vec<_> = addresses.iter().map(|address| format!("{{addresses: [{address}]}}")).collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: picker}}\n\
         spec: {{ports: [{{name: grpc, port: {PICKER_PORT}{more}}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{name: picker-1, labels: {{kubernetes.io/service-name: picker}}}}\n\
         ports: [{{name: grpc, port: {PICKER_PORT}}}]\nendpoints: [{}]\n---\n",
        endpoints.join(", ")
    )
}
