//! A router with three backends behind HTTPRoutes, and requests written in one line.

use std::net::IpAddr;

use awc::ClientRequest;

use super::backends::{BACKEND_PORT, Backend};
use crate::harness::{Answer, Harness, Network, client, gateway_yaml, read};

/// A router and its backends `v1`, `v2` and `v3`, each behind a Service of its own name on port 8080.
pub(crate) struct Scene {
    pub(crate) harness: Harness,
    pub(crate) backends: [Backend; 3],
}

/// A request: method, host and path in one line, with its headers, and what is expected of it: the name of the backend
/// that answers, or a status.
pub(crate) type Case<'c> = (&'c str, &'c [(&'c str, &'c str)], &'c str);

/// Starts a router on `manifests`, with a Gateway `gateway` of one listener for all hosts on port 8080.
pub(crate) async fn scene(manifests: &str) -> Scene {
    scene_of(&(gateway_yaml("gateway", &[(8080, None)]) + manifests)).await
}

/// Starts a router on `manifests` alone.
pub(crate) async fn scene_of(manifests: &str) -> Scene {
    let network = Network::new();
    let names = ["v1", "v2", "v3"];
    let backends = [
        Backend::start(network.host(10), names[0]).await,
        Backend::start(network.host(11), names[1]).await,
        Backend::start(network.host(12), names[2]).await,
    ];
    let services: String =
        (10..).zip(names).map(|(host, name)| service_yaml(name, &[network.host(host)], "")).collect();
    network.write("backends.yaml", &services);
    network.write("gateway-api.yaml", manifests);
    Scene { harness: network.start(&[]).await, backends }
}

impl Scene {
    /// Begins a request that is written as `GET host:port/path`, where the port is 8080 unless it is given.
    pub(crate) fn request(&self, line: &str, headers: &[(&str, &str)]) -> ClientRequest {
        let (method, target) = line.split_once(' ').unwrap();
        let (authority, path) = target.split_once('/').unwrap_or((target, ""));
        let port = authority.rsplit_once(':').map_or("8080", |(_, port)| port);
        let url = format!("http://{}:{port}/{path}", self.harness.host(1));
        let request = client().request(method.parse().unwrap(), url).insert_header(("host", authority));
        headers.iter().fold(request, |request, header| request.append_header(*header))
    }

    /// Sends a request without a body.
    pub(crate) async fn ask(&self, line: &str, headers: &[(&str, &str)]) -> Answer {
        read(self.request(line, headers).no_decompress().send().await.unwrap()).await
    }

    /// Sends each of the requests, and fails if one of them is not answered as expected.
    pub(crate) async fn holds(&self, table: &str, cases: &[Case<'_>]) {
        for (line, headers, expected) in cases {
            let answer = self.ask(line, headers).await;
            assert_eq!(answered(&answer), *expected, "{table}: {line} {headers:?}");
        }
    }
}

/// Returns the backend that answered, or the status of an answer of the router's own.
pub(crate) fn answered(answer: &Answer) -> String {
    let backend = serde_json::from_slice::<serde_json::Value>(&answer.body).ok();
    let backend = backend.and_then(|seen| seen["backend"].as_str().map(str::to_owned));
    backend.filter(|_| answer.status == 200).unwrap_or_else(|| answer.status.to_string())
}

/// Returns the YAML of a Service with one port, 8080, and of its EndpointSlice; `more` belongs to the port.
pub(crate) fn service_yaml(name: &str, addresses: &[IpAddr], more: &str) -> String {
    let endpoints: Vec<_> = addresses.iter().map(|address| format!("{{addresses: [{address}]}}")).collect();
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n\
         spec: {{ports: [{{name: http, port: 8080, targetPort: {BACKEND_PORT}{more}}}]}}\n---\n\
         apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\naddressType: IPv4\n\
         metadata: {{name: {name}-1, labels: {{kubernetes.io/service-name: {name}}}}}\n\
         ports: [{{name: http, port: {BACKEND_PORT}}}]\nendpoints: [{}]\n---\n",
        endpoints.join(", ")
    )
}

/// Returns the YAML of an HTTPRoute on the Gateway `gateway`; `rules` is a YAML list.
pub(crate) fn route_yaml(name: &str, rules: &str) -> String {
    route_on(name, "{name: gateway}", "[]", rules)
}

/// Returns the YAML of an HTTPRoute: its parents, its hostnames, its rules.
pub(crate) fn route_on(name: &str, parents: &str, hostnames: &str, rules: &str) -> String {
    let rules = rules.replace('\n', "\n    ");
    format!(
        "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: {name}}}\nspec:\n  \
         parentRefs: [{parents}]\n  hostnames: {hostnames}\n  rules:\n    {rules}\n---\n"
    )
}

/// Returns the YAML of a rule with these matches, each the inside of a YAML object, to one backend.
pub(crate) fn rule(matches: &[&str], backend: &str) -> String {
    let matches: Vec<_> = matches.iter().map(|matched| format!("{{{matched}}}")).collect();
    format!("- matches: [{}]\n  backendRefs: [{{name: {backend}, port: 8080}}]\n", matches.join(", "))
}

/// Returns a match of an exact path.
pub(crate) fn exact(path: &str) -> String {
    format!("path: {{type: Exact, value: {path}}}")
}

/// Returns a match of a path prefix.
pub(crate) fn prefix(path: &str) -> String {
    format!("path: {{type: PathPrefix, value: {path}}}")
}

/// Returns a match of a header.
pub(crate) fn header(name: &str, value: &str) -> String {
    format!("headers: [{{name: {name}, value: {value}}}]")
}
