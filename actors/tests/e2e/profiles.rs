//! The scheduler's configuration file while the router runs, and pools that name a profile of it.

use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Harness, Network, PORT, read, route_yaml};

const FILE: &str = "scheduler: {plugins: {Score: {enabled: [{name: SCORE, weight: 1}]}}}
profiles: {documents: {plugins: {Score: {enabled: [{name: prefix-cache, weight: 2}]}}}}
";

/// Sends a request for a model, and returns the scores by which its endpoint was picked.
async fn scores(harness: &Harness, model: &str) -> Vec<String> {
    let body = json!({"model": model, "prompt": "x", "max_tokens": 1}).to_string();
    let answer = read(harness.post_to(PORT, "/v1/completions").send_body(body).await.unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let page = harness.get_debug_page("/debug/decisions?last=1").await.json();
    let scores = &page["decisions"][0]["attempts"][0]["pick"]["endpoints"][0]["scores"];
    scores.as_array().unwrap().iter().map(|score| score["score"].as_str().unwrap().to_owned()).collect()
}

async fn fault(harness: &Harness) -> Value {
    harness.get_debug_page("/debug/actors").await.json()["RouteRegistry"]["scheduler_fault"].clone()
}

#[actix_web::test]
async fn the_schedulers_file_is_followed_while_the_router_runs() {
    let network = Network::new();
    let _engines = (network.engine(10, "a").await, network.engine(11, "b").await);
    network.model_server("a", "a", &[10]);
    network.write("a.yaml", &route_yaml("a", "a", "a"));
    let annotated = |profile: &str| {
        let name = format!("{{name: b, annotations: {{networking.serving.volcano.sh/scheduler-profile: {profile}}}}}");
        network.model_server_yaml("b", "b", &[11], "").replacen("{name: b}", &name, 1)
    };
    let (documents, unknown) = (annotated("documents"), annotated("unknown"));
    network.write("server-b.yaml", &documents);
    network.write("b.yaml", &route_yaml("b", "b", "b"));
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("scheduler.yaml");
    fs::write(&file, FILE.replace("SCORE", "random")).unwrap();
    let harness = network.start(&[&format!("--scheduler-config={}", file.display())]).await;
    assert_eq!(scores(&harness, "a").await, ["random"]);
    assert_eq!(scores(&harness, "b").await, ["prefix-cache"]);

    fs::write(&file, FILE.replace("SCORE", "least-request")).unwrap();
    harness.until("a change is followed", async || scores(&harness, "a").await == ["least-request"]).await;
    assert_eq!(scores(&harness, "b").await, ["prefix-cache"]);

    fs::write(&file, FILE.replace("SCORE", "nonsense")).unwrap();
    harness.router.reload.reload();
    harness.until("a fault is shown", async || fault(&harness).await.is_string()).await;
    assert!(fault(&harness).await.as_str().unwrap().starts_with("line 1: "), "{}", fault(&harness).await);
    assert_eq!(scores(&harness, "a").await, ["least-request"], "the last good text stays in use");
    let faults = harness.metric("kthena_router_scheduler_config_loads_total", &["outcome=\"fault\""]).await;
    assert!((faults - 1.0).abs() < f64::EPSILON, "{faults}");

    fs::write(&file, FILE.replace("SCORE", "gpu-usage")).unwrap();
    harness.until("the next good text is followed", async || scores(&harness, "a").await == ["gpu-usage"]).await;
    assert_eq!(fault(&harness).await, Value::Null);
    harness.write("server-b.yaml", &unknown);
    harness
        .until("a profile that is not there is the scheduler's own", async || {
            scores(&harness, "b").await == ["gpu-usage"]
        })
        .await;
    let conditions = harness.dump("namespaces/default/modelservers/b").await.text();
    assert!(conditions.contains("names the profile `unknown`"), "{conditions}");
}
