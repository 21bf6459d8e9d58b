//! ModelServers that list their instances, as the Go router's file mode has them.

use std::net::Ipv4Addr;

use serde_json::json;
use simulated_engine::EngineConfig;

use crate::harness::{ENGINE_PORT, Harness, Network, free_port, route_yaml};

/// The Go router's file mode has no Gateways, and so its routes name none.
const NO_GATEWAYS: &str = "--enable-gateway-api=false";

/// Returns a ModelServer of the model `m` with these endpoints, as the Go router's guide has it.
fn server(endpoints: &str, more: &str) -> String {
    format!(
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata:\n  name: m\n  \
         namespace: default\nspec:\n  endpoints:\n{endpoints}  model: m\n  inferenceEngine: vLLM\n{more}---\n"
    )
}

fn route() -> String {
    route_yaml("route", "public", "m").replace("  parentRefs: [{name: default}]\n", "")
}

/// Waits until requests are answered, and returns the status of one more.
async fn served(harness: &Harness) -> u16 {
    harness.until("the model is served", async || harness.complete("public").await.status == 200).await;
    harness.complete("public").await.status
}

#[actix_web::test]
async fn listed_instances_serve_without_pods_at_addresses_and_names() {
    let network = Network::new();
    let port = free_port(Ipv4Addr::LOCALHOST.into());
    let local =
        EngineConfig { addresses: vec![Ipv4Addr::LOCALHOST.into()], ports: vec![port], ..EngineConfig::new("m") };
    let by_name = simulated_engine::start(local).await.unwrap();
    let by_address = network.engine(10, "m").await;
    let endpoints = format!(
        "  - name: vllm-0\n    address: {}\n    port: {ENGINE_PORT}\n  - name: vllm-1\n    address: localhost\n    port: {port}\n",
        network.host(10)
    );
    network.write("all.yaml", &(server(&endpoints, "") + &route()));
    let harness = network.start(&[NO_GATEWAYS]).await;
    let both = async || {
        assert_eq!(served(&harness).await, 200);
        by_name.requests() > 0 && by_address.requests() > 0
    };
    harness.until("both instances get requests", both).await;
    let known = async || {
        let pools = harness.dump("pools").await.text();
        ["default/m:vllm-0", "default/m:vllm-1"].iter().all(|name| pools.contains(name))
    };
    harness.until("they are called by the server's name and their own", known).await;
    let server = &harness.dump("modelservers").await.json()["modelservers"][0];
    assert_eq!(server["associatedPods"], json!([]), "no Pod is one of them");
}

#[actix_web::test]
async fn a_list_that_changes_is_followed() {
    let network = Network::new();
    let engines = [network.engine(10, "m").await, network.engine(11, "m").await];
    let list = |host: u8| format!("  - name: only\n    address: {}\n", network.host(host));
    let port = format!("  workloadPort: {{port: {ENGINE_PORT}}}\n");
    let texts = [
        server(&list(10), &port),
        server(&list(11), &port),
        server("  - {name: x, address: no.such.name.invalid}\n", &port),
    ];
    network.write("server.yaml", &texts[0]);
    network.write("route.yaml", &route());
    let harness = network.start(&[NO_GATEWAYS]).await;
    assert_eq!(served(&harness).await, 200);
    assert_eq!(engines[1].requests(), 0);
    harness.write("server.yaml", &texts[1]);
    let follows = async || harness.complete("public").await.status == 200 && engines[1].requests() > 0;
    harness.until("the other instance serves", follows).await;
    harness.write("server.yaml", &texts[2]);
    let gone = async || {
        let answer = harness.complete("public").await;
        (answer.status, &answer.json()["error"]["code"]) == (503, &json!("pod_discovery"))
    };
    harness.until("a name that is not found is no endpoint", gone).await;
}

#[actix_web::test]
async fn labels_tell_which_instance_prefills() {
    let network = Network::new();
    let [prefill, decode] = [10, 11].map(|host| network.host(host));
    let engines = [network.engine(10, "m").await, network.engine(11, "m").await];
    let endpoint = |role: &str, address| {
        format!(
            "  - {{name: {role}-0, address: {address}, port: {ENGINE_PORT}, labels: {{role: {role}, pd-group: a}}}}\n"
        )
    };
    let group = "  workloadSelector:\n    pdGroup:\n      groupKey: pd-group\n      prefillLabels: {role: prefill}\n      \
                 decodeLabels: {role: decode}\n";
    network
        .write("all.yaml", &(server(&(endpoint("prefill", prefill) + &endpoint("decode", decode)), group) + &route()));
    let harness = network.start(&[NO_GATEWAYS]).await;
    let pairs = ["pool=\"ModelServer default/m\"", "group=\"a\""];
    let is_paired = async || harness.metric("kthena_router_disaggregation_pairs", &pairs).await == 1.0;
    harness.until("the two are a pair", is_paired).await;
    // A short prompt may be answered by either of them.
    let answers = async || served(&harness).await == 200 && engines[1].requests() > 0;
    harness.until("the one that decodes answers", answers).await;
}
