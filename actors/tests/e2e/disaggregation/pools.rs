//! InferencePools whose Pods tell their role.

use serde_json::json;
use simulated_engine::Engine;

use super::{ALWAYS, complete, decision, last_body, reserved};
use crate::harness::{Harness, Network, PORT, gateway_yaml};

const EXTENSION: &str = "--enable-gateway-api-inference-extension";

/// Starts a prefill and a decode engine behind an InferencePool with these annotations.
async fn start(annotations: &str, roles: [&str; 2]) -> (Harness, Engine, Engine) {
    let network = Network::new();
    let (prefill, decode) = (network.engine(10, "public").await, network.engine(20, "public").await);
    let pods = [("p", 10, roles[0]), ("d", 20, roles[1])].map(|(name, host, role)| {
        let address = network.host(host);
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: p, {role}}}}}\n\
             status: {{podIP: {address}, conditions: [{{type: Ready, status: 'True'}}]}}\n---\n"
        )
    });
    network.write("pods.yaml", &pods.concat());
    network.write("gateway.yaml", &gateway_yaml("g", &[(PORT, None)]));
    network.write(
        "pool.yaml",
        &format!(
            "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {{name: p, annotations: {{{annotations}}}}}\n\
             spec:\n  targetPorts: [{{number: 8000}}]\n  selector: {{matchLabels: {{app: p}}}}\n---\n\
             apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: p}}\nspec:\n  \
             parentRefs: [{{name: g}}]\n  rules:\n    - backendRefs: [{{group: inference.networking.k8s.io, kind: InferencePool, name: p}}]\n"
        ),
    );
    let file = network.directory().join("scheduler.config");
    std::fs::write(&file, ALWAYS).unwrap();
    let harness = network.start(&[EXTENSION, &format!("--scheduler-config={}", file.display())]).await;
    (harness, prefill, decode)
}

#[actix_web::test]
async fn a_sidecar_is_told_where_the_prompt_is_computed() {
    let (harness, prefill, decode) = start("", ["llm-d.ai/role: prefill", "llm-d.ai/role: decode"]).await;
    let request = harness.post_to(PORT, super::PATH).insert_header(("x-prefiller-host-port", "evil:1"));
    let body = json!({"model": "public", "prompt": "Say something."}).to_string();
    assert_eq!(crate::harness::read(request.send_body(body).await.unwrap()).await.status, 200);
    assert_eq!((prefill.requests(), decode.requests()), (0, 1));
    let told = decode.last_request().unwrap().headers;
    let told: Vec<_> = told.iter().filter(|(name, _)| name == "x-prefiller-host-port").collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(told[0].1, format!("{}:8000", harness.host(10)));
    let pick = decision(&harness).await["attempts"][0]["pick"]["disaggregation"].clone();
    assert_eq!((&pick["decision"], &pick["prefill"]), (&json!("remote"), &json!("default/p")), "{pick}");
    let idle = async || reserved(&harness).await == 0;
    harness.until("both reservations are given back", idle).await;
}

#[actix_web::test]
async fn an_annotation_has_the_router_send_both_legs() {
    let annotation = "networking.serving.volcano.sh/kv-connector: http";
    let (harness, prefill, decode) = start(annotation, ["llm-d.ai/role: prefill", "llm-d.ai/role: decode"]).await;
    assert_eq!(complete(&harness, json!({})).await.status, 200);
    assert_eq!((prefill.requests(), decode.requests()), (1, 1));
    assert_eq!(last_body(&prefill)["max_tokens"], 1);
}

#[actix_web::test]
async fn a_pool_in_which_nobody_only_prefills_is_as_any_other() {
    for roles in [["llm-d.ai/role: decode", "llm-d.ai/role: both"], ["a: b", "llm-d.ai/role: decode"]] {
        let (harness, first, second) = start("", roles).await;
        for _ in 0..20 {
            assert_eq!(complete(&harness, json!({})).await.status, 200);
        }
        assert!(first.requests() > 0 && second.requests() > 0, "{roles:?}");
        let pick = decision(&harness).await["attempts"][0]["pick"].clone();
        assert!(pick.get("disaggregation").is_none(), "{roles:?}: {pick}");
    }
}

#[actix_web::test]
async fn the_status_of_a_pool_says_whether_its_pods_can_be_paired() {
    for (roles, expected) in [
        (["llm-d.ai/role: prefill", "llm-d.ai/role: decode"], "1 pairs in 1 groups"),
        (["llm-d.ai/role: prefill", "llm-d.ai/role: prefill"], "no decode Pod in the group `all`"),
    ] {
        let annotation = "networking.serving.volcano.sh/kv-connector: nonsense";
        let (harness, ..) = start(annotation, roles).await;
        let told = harness.dump("inferencepools").await.text();
        assert!(told.contains(expected) && told.contains("Paired"), "{told}");
        assert!(told.contains("UnservedFields"), "the one does not hide the other: {told}");
    }
}

#[actix_web::test]
async fn an_annotation_that_means_nothing_is_told_and_leaves_the_sidecar() {
    let annotation = "networking.serving.volcano.sh/kv-connector: nonsense";
    let (harness, _prefill, _decode) = start(annotation, ["llm-d.ai/role: prefill", "llm-d.ai/role: decode"]).await;
    assert_eq!(complete(&harness, json!({})).await.status, 200);
    let status = harness.dump("inferencepools").await.text();
    assert!(status.contains("UnservedFields") && status.contains("nonsense"), "{status}");
}
