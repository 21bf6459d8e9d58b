//! Requests that two engines work on: one computes the prompt, the other answers.

use std::fs;

use serde_json::{Value, json};
use simulated_engine::Engine;

use crate::harness::{Answer, ENGINE_PORT, Harness, Network, PORT, read, route_yaml};

mod failures;
mod fault_table;
mod fleet;
mod pools;
mod sources;
mod strict;

const PATH: &str = "/v1/completions";
/// Every prompt that may be computed elsewhere is.
const ALWAYS: &str = "scheduler: {pluginConfig: [{name: remote-prefill, args: {always: 1}}]}";
/// Short prompts stay with those that decode.
const STAYING: &str = "scheduler: {pluginConfig: [{name: remote-prefill, args: {shortAnywhere: 0}}]}";
/// As without a file.
const DEFAULT: &str = "scheduler: {}";

/// A Pod: its name, the last number of its address, its role and its group.
type Pod = (&'static str, u8, &'static str, &'static str);

/// A prefill Pod and a decode Pod of one group.
const PAIR: [Pod; 2] = [("p", 10, "prefill", "g0"), ("d", 20, "decode", "g0")];

/// Returns the YAML of a ModelServer with prefill and decode Pods; `more` belongs to its spec.
fn server_yaml(network: &Network, engine: &str, more: &str, pods: &[Pod]) -> String {
    let server = format!(
        "apiVersion: networking.serving.volcano.sh/v1alpha1\nkind: ModelServer\nmetadata: {{name: m}}\nspec:\n  \
         model: m\n  inferenceEngine: {engine}\n  workloadPort: {{port: {ENGINE_PORT}}}\n  workloadSelector:\n    \
         matchLabels: {{app: m}}\n    pdGroup: {{groupKey: group, prefillLabels: {{role: prefill}}, \
         decodeLabels: {{role: decode}}}}\n{more}\n---\n"
    );
    let pod = |(name, host, role, group): &Pod| {
        let address = network.host(*host);
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: m, role: {role}, group: {group}}}}}\n\
             status: {{podIP: {address}}}\n---\n"
        )
    };
    server + &pods.iter().map(pod).collect::<String>()
}

/// Starts a router in front of these Pods.
async fn start(network: Network, engine: &str, more: &str, scheduler: &str, pods: &[Pod]) -> Harness {
    let server = server_yaml(&network, engine, more, pods);
    start_with(network, &server, scheduler, &[]).await
}

/// Starts a router with this ModelServer and its Pods, and with these flags.
async fn start_with(network: Network, server: &str, scheduler: &str, flags: &[&str]) -> Harness {
    network.write("server.yaml", server);
    network.write("route.yaml", &route_yaml("route", "public", "m"));
    // What is not YAML by its name is no manifest.
    let file = network.directory().join("scheduler.config");
    fs::write(&file, scheduler).unwrap();
    let file = format!("--scheduler-config={}", file.display());
    network.start(&[&[&*file], flags].concat()).await
}

async fn complete(harness: &Harness, more: Value) -> Answer {
    let mut body = json!({"model": "public", "prompt": "Say something.", "max_tokens": 100});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    read(harness.post_to(PORT, PATH).send_body(body.to_string()).await.unwrap()).await
}

/// Returns the body of the last request that an engine got.
fn last_body(engine: &Engine) -> Value {
    serde_json::from_slice(&engine.last_request().unwrap().body).unwrap()
}

/// Returns the latest decision.
async fn decision(harness: &Harness) -> Value {
    harness.get_debug_page("/debug/decisions?last=1").await.json()["decisions"][0].clone()
}

/// Returns how many requests the router has in flight at all endpoints.
async fn reserved(harness: &Harness) -> u64 {
    let pools = harness.dump("pools").await.json();
    let endpoints = pools["pools"].as_array().unwrap().iter().flat_map(|pool| pool["endpoints"].as_array().unwrap());
    endpoints.map(|endpoint| endpoint["inFlight"].as_u64().unwrap()).sum()
}

async fn count(harness: &Harness, decision: &str) -> f64 {
    harness.metric("kthena_router_disaggregation_decisions_total", &[&format!("decision=\"{decision}\"")]).await
}

#[actix_web::test]
async fn a_prompt_is_computed_by_one_engine_and_answered_by_another() {
    let network = Network::new();
    let (prefill, decode) = (network.engine(10, "m").await, network.engine(20, "m").await);
    let harness = start(network, "vLLM", "", ALWAYS, &PAIR).await;
    for stream in [false, true] {
        let answer = complete(&harness, json!({"stream": stream})).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.text().contains("simulated"), "{}", answer.text());
        let (first, second) = (last_body(&prefill), last_body(&decode));
        assert_eq!((&first["max_tokens"], &second["max_tokens"]), (&json!(1), &json!(100)));
        assert_ne!(first["stream"], json!(true), "a prefill is answered in one piece");
        assert_eq!(second["stream"], json!(stream));
    }
    assert_eq!((prefill.requests(), decode.requests()), (2, 2));

    let told = decision(&harness).await;
    let pick = &told["attempts"][0]["pick"];
    assert_eq!(told["attempts"][0]["endpoint"], "default/d", "{told}");
    assert_eq!(pick["disaggregation"]["decision"], "remote", "{pick}");
    assert_eq!(pick["disaggregation"]["prefill"], "default/p", "{pick}");
    assert_eq!(count(&harness, "remote").await, 2.0);
    for name in ["request_prefill_duration_seconds_count", "request_decode_duration_seconds_count"] {
        let labels = ["model=\"public\"", "path=\"/v1/completions\"", "status_code=\"200\""];
        assert_eq!(harness.metric(&format!("kthena_router_{name}"), &labels).await, 2.0, "{name}");
    }
    let pairs = ["pool=\"ModelServer default/m\"", "group=\"g0\""];
    assert_eq!(harness.metric("kthena_router_disaggregation_pairs", &pairs).await, 1.0);
    let log = harness.logged("prefill_pod=p").await;
    assert!(log.contains("selected_pod=d prefill_pod=p"), "{log}");
    assert_eq!(harness.metric("kthena_router_active_upstream_requests", &[]).await, 0.0);
}

#[actix_web::test]
async fn a_short_prompt_stays_where_it_is_answered() {
    let network = Network::new();
    let (prefill, decode) = (network.engine(10, "m").await, network.engine(20, "m").await);
    let harness = start(network, "vLLM", "", STAYING, &PAIR).await;
    assert_eq!(complete(&harness, json!({"kv_transfer_params": {"remote_host": "evil"}})).await.status, 200);
    assert_eq!((prefill.requests(), decode.requests()), (0, 1));
    assert!(last_body(&decode).get("kv_transfer_params").is_none(), "clients do not tell engines where to connect to");
    let pick = decision(&harness).await["attempts"][0]["pick"].clone();
    assert_eq!(pick["disaggregation"]["decision"], "short", "{pick}");
    assert!(pick["disaggregation"]["remoteSeconds"].as_f64().unwrap() > 0.0, "{pick}");
    assert_eq!(count(&harness, "short").await, 1.0);
}

#[actix_web::test]
async fn other_calls_go_to_an_engine_that_decodes() {
    let network = Network::new();
    let (prefill, decode) = (network.engine(10, "m").await, network.engine(20, "m").await);
    let harness = start(network, "SGLang", "", ALWAYS, &PAIR).await;
    for _ in 0..4 {
        let body = json!({"model": "public", "input": "x"}).to_string();
        let answer = read(harness.post_to(PORT, "/v1/embeddings").send_body(body).await.unwrap()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!((prefill.requests(), decode.requests()), (0, 4));
    assert_eq!(count(&harness, "api").await, 4.0);
}

#[actix_web::test]
async fn pairs_are_of_one_group() {
    let network = Network::new();
    let engines = [
        network.engine(10, "m").await,
        network.engine(11, "m").await,
        network.engine(20, "m").await,
        network.engine(21, "m").await,
    ];
    let pods = [
        ("p0", 10, "prefill", "g0"),
        ("p1", 11, "prefill", "g1"),
        ("d0", 20, "decode", "g0"),
        ("d1", 21, "decode", "g1"),
    ];
    let harness = start(network, "SGLang", "", ALWAYS, &pods).await;
    for _ in 0..20 {
        assert_eq!(complete(&harness, json!({})).await.status, 200);
        let told = decision(&harness).await["attempts"][0].clone();
        let (decode, prefill) = (&told["endpoint"], &told["pick"]["disaggregation"]["prefill"]);
        let expected = decode.as_str().unwrap().replace('d', "p").replace("pefault", "default");
        assert_eq!(prefill, &json!(expected), "{told}");
    }
    assert_eq!(engines[0].requests(), engines[2].requests());
    assert_eq!(engines[1].requests(), engines[3].requests());
    assert!(engines.iter().all(|engine| engine.requests() > 0), "both groups take their part");
}

#[actix_web::test]
async fn roles_that_change_are_followed() {
    let network = Network::new();
    let (first, second) = (network.engine(10, "m").await, network.engine(20, "m").await);
    let other = server_yaml(&network, "vLLM", "", &[("p", 10, "decode", "g0"), ("d", 20, "prefill", "g0")]);
    let harness = start(network, "vLLM", "", ALWAYS, &PAIR).await;
    assert_eq!(complete(&harness, json!({})).await.status, 200);
    assert_eq!(last_body(&first)["max_tokens"], 1);
    harness.write("server.yaml", &other);
    let changed = async || {
        assert_eq!(complete(&harness, json!({})).await.status, 200, "no request is lost");
        last_body(&second)["max_tokens"] == 1 && last_body(&first)["max_tokens"] == 100
    };
    harness.until("the roles are the other way round", changed).await;
}
