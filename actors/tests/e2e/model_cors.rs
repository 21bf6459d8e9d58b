//! What browsers are told about calls of ModelRoutes from other origins, where a Gateway says something about them.

use serde_json::json;

use crate::harness::{Answer, Harness, Network, PORT, gateway_yaml, route_yaml};
use crate::wire::{Wire, post};

const CHAT: &str = "/v1/chat/completions";
const ORIGIN: &str = "https://chat.example.com";
const POLICY: &str = "{allowOrigins: ['https://chat.example.com'], allowHeaders: [authorization, content-type], \
                      exposeHeaders: [x-request-id], maxAge: 600}";

/// Starts a router in front of an engine, whose Gateway has this annotation.
async fn start(policy: Option<&str>) -> (Harness, simulated_engine::Engine) {
    let network = Network::new();
    let engine = network.engine(10, "m").await;
    network.model_server("m", "m", &[10]);
    network.write("route.yaml", &route_yaml("route", "public", "m"));
    let annotations = policy
        .map(|policy| format!("{{name: default, annotations: {{networking.serving.volcano.sh/cors: \"{policy}\"}}}}"));
    let metadata = annotations.unwrap_or_else(|| "{name: default}".to_owned());
    network.write("gateway.yaml", &gateway_yaml("default", &[(PORT, None)]).replace("{name: default}", &metadata));
    (network.start(&[]).await, engine)
}

async fn preflight(harness: &Harness, path: &str, origin: &str, method: &str) -> Answer {
    let asks = format!(
        "OPTIONS {path} HTTP/1.1\r\nhost: router\r\norigin: {origin}\r\naccess-control-request-method: {method}\r\n\
         access-control-request-headers: authorization,content-type\r\n\r\n"
    );
    Wire::open(harness).await.ask(asks).await
}

/// Sends a call from an origin.
async fn call(harness: &Harness, origin: &str, model: &str) -> Answer {
    let body = json!({"model": model, "messages": []}).to_string();
    Wire::open(harness).await.ask(post(CHAT, &format!("origin: {origin}\r\n"), &body)).await
}

fn allowed(answer: &Answer) -> Option<&str> {
    answer.header("access-control-allow-origin")
}

#[actix_web::test]
async fn nothing_is_shared_until_a_gateway_says_so() {
    let (harness, engine) = start(None).await;
    let answer = preflight(&harness, CHAT, ORIGIN, "POST").await;
    assert_eq!((answer.status, allowed(&answer)), (404, None), "{}", answer.text());
    let answer = call(&harness, ORIGIN, "public").await;
    assert_eq!((answer.status, allowed(&answer), answer.header("vary")), (200, None, None));
    assert_eq!(engine.requests(), 1);
}

#[actix_web::test]
async fn a_gateway_lets_origins_in_and_tells_them_of_errors_as_well() {
    let (harness, engine) = start(Some(POLICY)).await;
    for (path, method) in
        [(CHAT, "POST"), ("/v1/models", "GET"), ("/v1/models/org/m", "GET"), ("/v1/responses/resp_1", "DELETE")]
    {
        let answer = preflight(&harness, path, ORIGIN, method).await;
        assert_eq!((answer.status, allowed(&answer)), (204, Some(ORIGIN)), "{path}");
        assert_eq!(answer.header("access-control-allow-headers"), Some("authorization, content-type"), "{path}");
        assert_eq!(answer.header("access-control-max-age"), Some("600"), "{path}");
        let stranger = preflight(&harness, path, "https://evil.example.com", method).await;
        assert_eq!((stranger.status, allowed(&stranger)), (204, None), "{path}");
    }
    for (path, method) in [("/v1/load_lora_adapter", "POST"), (CHAT, "PATCH")] {
        let answer = preflight(&harness, path, ORIGIN, method).await;
        assert_eq!(answer.status, 404, "{method} {path} is no call");
    }
    assert_eq!(engine.requests(), 0, "no engine is asked");
    for (model, status) in [("public", 200), ("unknown", 404)] {
        let answer = call(&harness, ORIGIN, model).await;
        assert_eq!((answer.status, allowed(&answer)), (status, Some(ORIGIN)), "{model}");
        assert_eq!(answer.header("access-control-expose-headers"), Some("x-request-id"), "{model}");
        let stranger = call(&harness, "https://evil.example.com", model).await;
        assert_eq!((stranger.status, allowed(&stranger), stranger.header("vary")), (status, None, Some("Origin")));
    }
    let models = harness.get("/v1/models").await;
    assert_eq!((models.status, models.header("vary")), (200, Some("Origin")), "it is for those who share it as well");
}

#[actix_web::test]
async fn a_policy_that_cannot_be_used_lets_nobody_in_and_is_told_of() {
    for (policy, fault) in [
        ("{allowOrigins: [chat.example.com]}", "cors.allowOrigins[0]"),
        ("{allowHeaders: [authorization]}", "cors.allowOrigins"),
        ("[", ""),
    ] {
        let (harness, _engine) = start(Some(policy)).await;
        assert_eq!(preflight(&harness, CHAT, ORIGIN, "POST").await.status, 404, "{policy}");
        assert_eq!(call(&harness, ORIGIN, "public").await.status, 200, "{policy}: all else is served");
        let gateways = harness.dump("gateways").await.text();
        assert!(gateways.contains("UnservedFields") && gateways.contains(fault), "{policy}: {gateways}");
    }
}
