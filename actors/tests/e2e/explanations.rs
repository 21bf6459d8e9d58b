//! Why requests went where they went, and where one would go that is not sent.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::harness::{ENGINE_PORT, Harness, Network, PORT, free_port, read, route_with, route_yaml};
use crate::process::Process;

/// Starts a router with two engines; `gold` decides between the two rules of the route.
async fn router() -> (Harness, Vec<simulated_engine::Engine>) {
    let network = Network::new();
    let engines = vec![network.engine(10, "a").await, network.engine(11, "a").await];
    network.model_server("a", "a", &[10, 11]);
    let target = "targetModels: [{modelServerName: a}]";
    let rules = format!("- modelMatch: {{headers: {{x-tier: {{exact: gold}}}}}}\n  {target}\n- {target}");
    network.write("route.yaml", &route_with("r", "modelName: m", "default", &rules));
    network.model_server("down", "down", &[12, 13]);
    network.write("down.yaml", &route_yaml("down", "down", "down"));
    let harness = network.start(&[]).await;
    (harness, engines)
}

async fn decisions(harness: &Harness, what: &str) -> Vec<Value> {
    let page = harness.get_debug_page(&format!("/debug/decisions{what}")).await;
    page.json()["decisions"].as_array().cloned().unwrap_or_default()
}

async fn send(harness: &Harness, id: &str, headers: &[(&str, &str)]) -> u16 {
    let body = json!({"model": "m", "prompt": "A secret that nobody is to read.", "max_tokens": 1}).to_string();
    let mut request = harness.post_to(PORT, "/v1/completions?key=secret").insert_header(("x-request-id", id));
    for (name, value) in headers {
        request = request.insert_header((*name, *value));
    }
    read(request.send_body(body).await.unwrap()).await.status
}

#[actix_web::test]
async fn every_decision_can_be_read_back() {
    let (harness, _engines) = router().await;
    harness
        .until("figures are known", async || {
            harness.dump("pools").await.json()["pools"][0]["endpoints"][0]["scraped"] == json!(true)
        })
        .await;
    assert_eq!(send(&harness, "first", &[]).await, 200);
    assert_eq!(send(&harness, "second", &[("x-tier", "gold"), ("authorization", "Bearer secret")]).await, 200);
    let all = decisions(&harness, "?last=10").await;
    let ids: Vec<_> = all.iter().map(|decision| decision["request"]["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["second", "first"], "the latest comes first");
    assert_eq!(decisions(&harness, "?last=1").await.len(), 1);
    let text = json!(all).to_string();
    assert!(!text.contains("secret") && !text.contains("gold"), "{text}");

    let [first] = &decisions(&harness, "/first").await[..] else { panic!("one has this id") };
    assert_eq!((&first["route"], &first["pool"]), (&json!("ModelRoute default/r"), &json!("ModelServer default/a")));
    let rules: Vec<_> = first["rules"].as_array().unwrap().iter().map(|rule| (&rule["won"], &rule["why"])).collect();
    let why = json!("the header `x-tier` does not match");
    assert_eq!(rules, [(&json!(false), &why), (&json!(true), &json!(""))], "{first}");
    let [attempt] = &first["attempts"].as_array().unwrap()[..] else { panic!("{first}") };
    assert_eq!(attempt["outcome"], "answered");
    let endpoints = attempt["pick"]["endpoints"].as_array().unwrap();
    assert_eq!(endpoints.len(), 2, "{attempt}");
    assert_eq!(attempt["pick"]["picked"], attempt["endpoint"]);
    for endpoint in endpoints {
        assert_eq!(endpoint["scores"][0]["score"], "expected-wait", "{endpoint}");
        assert!(endpoint["inputs"]["scrapeAgeSeconds"].as_f64().unwrap() < 5.0, "{endpoint}");
    }
    assert_eq!(first["outcome"], "200 answered");
    assert_eq!(harness.get_debug_page("/debug/decisions/missing").await.status, 404);

    let status = harness.complete("down").await.status;
    let [down, ..] = &decisions(&harness, "").await[..] else { panic!("it is the latest") };
    assert!(status >= 500 && down["outcome"].as_str().unwrap().starts_with(&status.to_string()), "{down}");
    let attempts = down["attempts"].as_array().unwrap();
    assert!(attempts.len() > 1 && attempts.iter().all(|attempt| attempt["outcome"] == "refused"), "{down}");
    let again = &attempts[1]["pick"]["endpoints"].to_string();
    assert!(again.contains(r#"{"filter":"tried","verdict":"passedOver"}"#), "{down}");
}

#[actix_web::test]
async fn a_request_is_explained_that_is_not_sent() {
    let (harness, engines) = router().await;
    let body = harness.manifests.path().join("body.txt");
    std::fs::write(&body, json!({"model": "m", "prompt": "A few words. ".repeat(200)}).to_string()).unwrap();
    let (body, debug_port) = (body.display().to_string(), harness.debug_port.to_string());
    let explain = ["explain", "--body", &body, "--path", "/v1/completions", "--debug-port", &debug_port];
    let gold = [&explain[..], &["--header", "X-Tier: gold"]].concat();
    let (code, printed, complaints) = Process::run(&gold, &[]).await;
    assert_eq!((code, complaints.as_str()), (Some(0), ""), "{printed}");
    assert!(
        printed.contains("* ModelRoute default/r rule 0 (model m, header x-tier): serves the request"),
        "{printed}"
    );
    assert!(printed.contains("2 endpoints were equally good; one of them was drawn"), "{printed}");
    let (code, printed, _) = Process::run(&[&explain[..], &["--json"]].concat(), &[]).await;
    let answer: Value = serde_json::from_str(&printed).unwrap();
    assert_eq!((code, &answer["rules"][1]["won"]), (Some(0), &json!(true)), "{printed}");
    assert!(answer["attempts"][0]["pick"]["promptBlocks"].as_u64() > Some(8), "{printed}");
    assert_eq!(answer["attempts"][0]["pick"]["endpoints"][0]["inputs"]["cachedTokens"], 0, "nothing was noted");
    assert_eq!(answer["attempts"][0]["pick"]["endpoints"][0]["inputs"]["inFlight"], 0, "nothing was reserved");
    assert!(engines.iter().all(|engine| engine.requests() == 0), "nothing was sent");
    assert_eq!(decisions(&harness, "").await, [] as [Value; 0], "nothing is remembered");

    let (code, _, complaints) =
        Process::run(&["explain", "--debug-port", &free_port(Ipv4Addr::LOCALHOST.into()).to_string()], &[]).await;
    assert_eq!(code, Some(1));
    assert!(complaints.contains("no router answers on the debug port"), "{complaints}");
}

#[actix_web::test]
async fn a_check_explains_a_request_without_a_router() {
    let network = Network::new();
    network.model_server("a", "a", &[10, 11]);
    network.write("route.yaml", &route_yaml("r", "m", "a"));
    let body = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(body.path(), r#"{"model": "m", "messages": []}"#).unwrap();
    let (directory, body) = (network.directory().display().to_string(), body.path().display().to_string());
    let arguments = ["check", &directory, "--pod-namespace=default", "--request", &body];
    let (code, printed, _) = Process::run(&arguments, &[]).await;
    assert_eq!(code, Some(0), "{printed}");
    assert!(printed.contains("* ModelRoute default/r rule 0 (model m): serves the request"), "{printed}");
    assert!(printed.contains(&format!("({}:{ENGINE_PORT})", network.host(11))), "{printed}");
    assert!(printed.contains("no figures of the engine"), "{printed}");
}
