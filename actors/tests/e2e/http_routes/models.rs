//! ModelRoutes and HTTPRoutes on one listener: model paths are the ModelRoutes' first, and all others the HTTPRoutes'.

use serde_json::json;
use simulated_engine::EngineConfig;

use super::backends::Backend;
use super::scene::{answered, route_on, rule, service_yaml};
use crate::harness::{Answer, Harness, Network, gateway_yaml, read, route_with};

const HTTP_ONLY: u16 = 8081;

/// A router with two listeners: on 8080 the model `m` and an HTTPRoute of everything, on 8081 the HTTPRoute alone.
async fn both() -> (Harness, Backend, simulated_engine::Engine) {
    let network = Network::new();
    let backend = Backend::start(network.host(20), "v1").await;
    let engine = network.engine_with(10, EngineConfig::new("m")).await;
    network.model_server("m", "m", &[10]);
    let model = route_with("m", "modelName: m", "gateway", "- targetModels: [{modelServerName: m}]");
    network.write("model.yaml", &model.replace("{name: gateway}", "{name: gateway, sectionName: l0}"));
    network.write("gateway.yaml", &gateway_yaml("gateway", &[(8080, None), (HTTP_ONLY, None)]));
    network.write("backend.yaml", &service_yaml("v1", &[network.host(20)], ""));
    network.write("http.yaml", &route_on("h", "{name: gateway}", "[]", &rule(&["path: {value: /v1}"], "v1")));
    (network.start(&[]).await, backend, engine)
}

async fn post(harness: &Harness, port: u16, path: &str, body: &str) -> Answer {
    read(harness.post_to(port, path).send_body(body.to_owned()).await.unwrap()).await
}

#[actix_web::test]
async fn a_model_path_is_for_a_model_route_if_one_serves_the_model() {
    let (harness, backend, engine) = both().await;
    let request = |model: &str| json!({"model": model, "prompt": "x"}).to_string();
    let completion = "/v1/completions";
    assert_eq!(post(&harness, 8080, completion, &request("m")).await.answered_by(), "m");
    assert_eq!((engine.requests(), backend.requests()), (1, 0));
    for (case, port, path, body) in [
        ("a model that no ModelRoute serves", 8080, completion, request("other")),
        ("a body that is no request for a model", 8080, completion, "no JSON".to_owned()),
        ("a path that is none of a model", 8080, "/v1/load_lora_adapter", request("m")),
        ("a listener without ModelRoutes", HTTP_ONLY, completion, request("m")),
        ("a body that is not read", HTTP_ONLY, completion, "no JSON".to_owned()),
    ] {
        let answer = post(&harness, port, path, &body).await;
        assert_eq!(answered(&answer), "v1", "{case}");
        assert_eq!(answer.json()["body"], body, "{case}: the body is passed on as it came");
    }
    assert_eq!(engine.requests(), 1);
}

#[actix_web::test]
async fn what_no_http_route_takes_is_answered_as_if_there_were_none() {
    let (harness, backend, _engine) = both().await;
    harness.write("http.yaml", &route_on("h", "{name: gateway}", "[]", &rule(&["path: {value: /other}"], "v1")));
    let moved = async || answered(&post(&harness, HTTP_ONLY, "/other", "").await) == "v1";
    harness.until("the route has changed", moved).await;
    let before = backend.requests();
    for (path, body, status, code) in [
        ("/v1/completions", r#"{"model":"other"}"#, 404, "route_not_found"),
        ("/v1/completions", "no JSON", 400, "request_parsing"),
        ("/elsewhere", "", 404, "route_not_found"),
    ] {
        let answer = post(&harness, 8080, path, body).await;
        assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (status, Some(code)), "{path} {body}");
    }
    assert_eq!(backend.requests(), before);
}

#[actix_web::test]
async fn models_are_listed_where_there_are_any_and_by_the_backend_elsewhere() {
    let (harness, ..) = both().await;
    assert_eq!(harness.get("/v1/models").await.json()["data"][0]["id"], "m");
    let listed = read(harness.post_to(HTTP_ONLY, "/v1/models").send().await.unwrap()).await;
    assert_eq!(answered(&listed), "v1");
}
