//! InferencePools behind HTTPRoutes, with the router's own picker.

use std::net::IpAddr;

use serde_json::{Value, json};
use simulated_engine::EngineConfig;

use crate::harness::{Answer, Harness, Network, PORT, gateway_yaml, read};

/// The flag without which nothing of it works.
pub(crate) const EXTENSION: &str = "--enable-gateway-api-inference-extension";

/// A Gateway with the HTTPRoute to the pool `p`, as guides have it, and the pool of all Pods that have the label `app: p`.
pub(crate) fn pool_yaml(gateway: &str, rest: &str) -> String {
    format!(
        "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {{name: p}}\nspec:\n  \
         targetPorts: [{{number: 8000}}]\n  selector: {{matchLabels: {{app: p}}}}\n{rest}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: p}}\nspec:\n  \
         parentRefs: [{{name: {gateway}}}]\n  rules:\n    - backendRefs: [{{group: inference.networking.k8s.io, kind: InferencePool, name: p}}]\n      \
         matches: [{{path: {{type: PathPrefix, value: /}}}}]\n      timeouts: {{request: 300s}}\n---\n"
    )
}

pub(crate) fn pod_yaml(name: &str, address: IpAddr) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: p}}}}\n\
         status: {{podIP: {address}, conditions: [{{type: Ready, status: 'True'}}]}}\n---\n"
    )
}

async fn complete(harness: &Harness, model: &str, stream: bool, headers: &[(&str, &str)]) -> Answer {
    let body = json!({"model": model, "prompt": "Say something.", "max_tokens": 5, "stream": stream});
    let request = harness.post_to(PORT, "/v1/completions");
    let request = headers.iter().fold(request, |request, header| request.insert_header(*header));
    read(request.send_body(body.to_string()).await.unwrap()).await
}

#[actix_web::test]
async fn a_pool_serves_without_a_model_server_and_without_a_picker() {
    let network = Network::new();
    let _engines = (network.engine(10, "m").await, network.engine(11, "m").await);
    network.write("pods.yaml", &(pod_yaml("p-0", network.host(10)) + &pod_yaml("p-1", network.host(11))));
    network.write("gateway.yaml", &gateway_yaml("g", &[(PORT, None)]));
    network.write("pool.yaml", &pool_yaml("g", ""));
    let harness = network.start(&[EXTENSION]).await;
    let answer = complete(&harness, "m", false, &[]).await;
    assert_eq!((answer.status, &answer.json()["model"]), (200, &json!("m")));
    let streamed = complete(&harness, "m", true, &[]).await;
    assert!(streamed.text().ends_with("data: [DONE]\n\n"), "{}", streamed.text());
    assert!(!streamed.text().contains("prompt_tokens\":"), "the usage that only the router asked for is taken out");
    assert_eq!(harness.get("/v1/models").await.status, 200, "a request without a body is the engine's");
    let of_each = answer.json()["usage"]["completion_tokens"].as_u64().unwrap();
    let counted = async || {
        let page = harness.get_metrics_page("/metrics").await.text();
        let outputs = page.lines().filter(|line| line.contains("tokens_total{") && line.contains("\"output\""));
        outputs.filter_map(|line| line.rsplit_once(' ')?.1.parse::<u64>().ok()).sum::<u64>() == 2 * of_each
    };
    harness.until("the tokens of both answers are counted", counted).await;
    let pools = harness.dump("inferencepools").await.json();
    assert_eq!(pools["inferencepools"][0]["status"]["parents"][0]["parentRef"]["name"], "g");
    harness.write("pods.yaml", "# nothing\n");
    let gone = async || complete(&harness, "m", false, &[]).await.status == 503;
    harness.until("a pool without Pods answers 503", gone).await;
    harness.remove("pool.yaml");
}

#[actix_web::test]
async fn pools_that_cannot_be_used_answer_with_500() {
    let network = Network::new();
    let _engine = network.engine(10, "m").await;
    network.write("pods.yaml", &pod_yaml("p-0", network.host(10)));
    network.write("gateway.yaml", &gateway_yaml("g", &[(PORT, None)]));
    let good = pool_yaml("g", "");
    network.write("pool.yaml", &good);
    let harness = network.start(&[EXTENSION]).await;
    assert_eq!(complete(&harness, "m", false, &[]).await.status, 200);
    for (case, pool) in [
        ("an empty selector", good.replace("{app: p}", "{}")),
        ("no ports", good.replace("[{number: 8000}]", "[]")),
        ("a port twice", good.replace("[{number: 8000}]", "[{number: 8000}, {number: 8000}]")),
        ("no such pool", good.replace("name: p}\nspec:\n  targetPorts", "name: q}\nspec:\n  targetPorts")),
        ("a picker that is missing", pool_yaml("g", "  endpointPickerRef: {name: x, port: {number: 9002}}")),
    ] {
        harness.write("pool.yaml", &pool);
        let refused = async || complete(&harness, "m", false, &[]).await.status == 500;
        harness.until(case, refused).await;
        harness.write("pool.yaml", &good);
        let serves = async || complete(&harness, "m", false, &[]).await.status == 200;
        harness.until("it serves again", serves).await;
    }
}

#[actix_web::test]
async fn models_are_rewritten_and_their_names_given_back() {
    let network = Network::new();
    let engine = network.engine(10, "food-v1").await;
    network.write("pods.yaml", &pod_yaml("p-0", network.host(10)));
    network.write("gateway.yaml", &gateway_yaml("g", &[(PORT, None)]));
    let rewrite = "apiVersion: llm-d.ai/v1alpha2\nkind: InferenceModelRewrite\nmetadata: {name: r}\nspec:\n  poolRef: {name: p}\n  \
         rules: [{matches: [{model: {value: food-review}}], targets: [{modelRewrite: food-v1}]}]\n";
    network.write("pool.yaml", &(pool_yaml("g", "") + rewrite));
    let harness = network.start(&[EXTENSION]).await;
    for stream in [false, true] {
        let answer = complete(&harness, "food-review", stream, &[]).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("\"model\":\"food-review\""), "{}", answer.text());
        assert!(!answer.text().contains("\"model\":\"food-v1\""), "{}", answer.text());
        let asked: Value = serde_json::from_slice(&engine.last_request().unwrap().body).unwrap();
        assert_eq!(asked["model"], "food-v1");
    }
    let direct = complete(&harness, "food-v1", false, &[]).await;
    assert_eq!(direct.json()["model"], "food-v1", "other names are left alone");
    let unnamed = harness.post_to(PORT, "/v1/completions").send_body("{}").await.unwrap();
    assert_eq!(unnamed.status().as_u16(), 400, "a rule needs a model");
}

#[actix_web::test]
async fn sheddable_requests_are_refused_while_the_pool_is_saturated() {
    let network = Network::new();
    let _engine = network.engine_with(10, EngineConfig::new("m")).await;
    network.write("pods.yaml", &(pod_yaml("p-0", network.host(10)) + &pod_yaml("p-1", network.host(11))));
    network.write("gateway.yaml", &gateway_yaml("g", &[(PORT, None)]));
    let objective = |name: &str, group: &str, priority: i32| {
        format!(
            "---\napiVersion: {group}/v1alpha2\nkind: InferenceObjective\nmetadata: {{name: {name}}}\nspec: {{poolRef: {{name: p}}, priority: {priority}}}\n"
        )
    };
    let objectives = objective("batch", "llm-d.ai", -1) + &objective("gold", "inference.networking.x-k8s.io", 5);
    network.write("pool.yaml", &(pool_yaml("g", "") + &objectives));
    let harness = network.start(&[EXTENSION]).await;
    // Of two endpoints one is idle, so that the pool is not full.
    let served =
        async |name| complete(&harness, "m", false, &[("x-llm-d-inference-objective", name)]).await.status == 200;
    harness.until("an idle pool refuses nobody", async || served("batch").await).await;
    harness.write("pods.yaml", &pod_yaml("p-1", harness.host(12)));
    for header in ["x-llm-d-inference-objective", "x-gateway-inference-objective"] {
        let refused = async || complete(&harness, "m", false, &[(header, "batch")]).await.status == 429;
        harness.until("a pool of which nothing is known is full", refused).await;
        let answer = complete(&harness, "m", false, &[(header, "batch")]).await;
        assert_eq!(answer.header("x-llm-d-request-dropped-reason"), Some("rejected-saturated"));
        for name in ["gold", "unknown"] {
            let answer = complete(&harness, "m", false, &[(header, name)]).await;
            assert_eq!(answer.status, 503, "others are tried, {name}: nobody is there");
        }
    }
}
