//! Which engine answers.

use serde_json::json;

use crate::harness::{Network, PORT, gateway_yaml, read, route_with, route_yaml};

#[actix_web::test]
async fn one_model_name_on_two_gateways_leads_to_two_models() {
    let network = Network::new();
    let _engines = (network.engine(10, "small").await, network.engine(11, "large").await);
    network.model_server("small", "small", &[10]);
    network.model_server("large", "large", &[11]);
    network.write("gateway.yaml", &gateway_yaml("other", &[(8081, None)]));
    network.write(
        "routes.yaml",
        &(route_yaml("first", "shared", "small")
            + &route_with("second", "modelName: shared", "other", "- targetModels: [{modelServerName: large}]")),
    );
    let harness = network.start(&[]).await;
    for _ in 0..5 {
        assert_eq!(harness.complete_on(PORT, "shared").await.answered_by(), "small");
        assert_eq!(harness.complete_on(8081, "shared").await.answered_by(), "large");
    }
}

#[actix_web::test]
async fn a_lora_name_reaches_the_engine_unchanged_and_never_hides_a_model() {
    let network = Network::new();
    let config = simulated_engine::EngineConfig {
        loras: vec!["adapter".to_owned(), "shadowed".to_owned()],
        ..simulated_engine::EngineConfig::new("base")
    };
    let _engines = (network.engine_with(10, config).await, network.engine(11, "other").await);
    network.model_server("base", "base", &[10]);
    network.model_server("other", "other", &[11]);
    network.write(
        "routes.yaml",
        &(route_with(
            "lora",
            "modelName: chat\n  loraAdapters: [adapter, shadowed]",
            "default",
            "- targetModels: [{modelServerName: base}]",
        ) + &route_yaml("model", "shadowed", "other")),
    );
    let harness = network.start(&[]).await;
    assert_eq!(harness.complete("adapter").await.answered_by(), "adapter");
    assert_eq!(harness.complete("chat").await.answered_by(), "base");
    assert_eq!(harness.complete("shadowed").await.answered_by(), "other");
    assert_eq!(harness.complete("unknown").await.status, 404);
    let models = harness.get("/v1/models").await.json();
    let ids: Vec<_> = models["data"].as_array().unwrap().iter().map(|model| model["id"].clone()).collect();
    assert_eq!(json!(ids), json!(["adapter", "chat", "shadowed"]));
}

#[actix_web::test]
async fn an_adapter_that_one_engine_of_three_has_is_found_every_time() {
    let network = Network::new();
    let config = simulated_engine::EngineConfig {
        loras: vec!["adapter".to_owned()],
        ..simulated_engine::EngineConfig::new("base")
    };
    let (with, without) =
        (network.engine_with(10, config).await, (network.engine(11, "base").await, network.engine(12, "base").await));
    network.model_server("base", "base", &[10, 11, 12]);
    network.write(
        "route.yaml",
        &route_with("lora", "loraAdapters: [adapter]", "default", "- targetModels: [{modelServerName: base}]"),
    );
    let harness = network.start(&[]).await;
    for _ in 0..30 {
        assert_eq!(harness.complete("adapter").await.answered_by(), "adapter");
    }
    assert_eq!(with.requests(), 30);
    drop(without);
}

#[actix_web::test]
async fn the_requests_of_a_session_stay_at_one_engine() {
    let network = Network::new();
    let engines = (network.engine(10, "m").await, network.engine(11, "m").await);
    let sources = "[{type: Header, name: X-Session}, {type: Query, name: session}, {type: Cookie, name: sid}]";
    let policy = format!("  trafficPolicy: {{sessionSticky: {{sources: {sources}}}}}");
    network.write("server.yaml", &network.model_server_yaml("server", "m", &[10, 11], &policy));
    network.write("route.yaml", &route_yaml("route", "m", "server"));
    let harness = network.start(&[]).await;
    let mut before = (0, 0);
    for session in 0..20 {
        for (path, header) in [
            ("/v1/completions".to_owned(), ("x-session", format!("user-{session}"))),
            (format!("/v1/completions?session=user-{session}"), ("x-other", String::new())),
            ("/v1/completions".to_owned(), ("cookie", format!("a=b; sid=user-{session}"))),
        ] {
            let body = json!({"model": "m", "prompt": "x"}).to_string();
            let request = harness.post_to(PORT, &path).insert_header(header);
            assert_eq!(read(request.send_body(body).await.unwrap()).await.status, 200);
        }
        let after = (engines.0.requests(), engines.1.requests());
        let got = (after.0 - before.0, after.1 - before.1);
        assert!(got == (3, 0) || got == (0, 3), "session {session}: {got:?}");
        before = after;
    }
    assert!(before.0 > 0 && before.1 > 0, "sessions are spread: {before:?}");
}

#[actix_web::test]
async fn weights_of_seventy_to_thirty_hold_within_five_points() {
    let network = Network::new();
    let engines = (network.engine(10, "a").await, network.engine(11, "b").await);
    network.model_server("a", "a", &[10]);
    network.model_server("b", "b", &[11]);
    let rules = "- targetModels: [{modelServerName: a, weight: 70}, {modelServerName: b, weight: 30}]";
    network.write("route.yaml", &route_with("split", "modelName: m", "default", rules));
    let harness = network.start(&[]).await;
    // Of 500 draws, one series in seventy is off by more than five points by chance alone; of 2000, one in a million.
    let mut first = 0;
    for _ in 0..2000 {
        first += u32::from(harness.complete("m").await.answered_by() == "a");
    }
    assert!((1300..=1500).contains(&first), "{first} of 2000 went to the target of weight 70");
    assert_eq!(engines.0.requests() + engines.1.requests(), 2000);
}

#[actix_web::test]
async fn headers_paths_and_rule_order_choose_the_target() {
    let network = Network::new();
    let _engines = (network.engine(10, "basic").await, network.engine(11, "premium").await);
    network.model_server("basic", "basic", &[10]);
    network.model_server("premium", "premium", &[11]);
    let rules = "- modelMatch: {headers: {user-type: {exact: premium}}}\n  targetModels: [{modelServerName: premium}]\n\
                 - modelMatch: {uri: {prefix: /v1/chat}}\n  targetModels: [{modelServerName: premium}]\n\
                 - targetModels: [{modelServerName: basic}]";
    network.write("route.yaml", &route_with("tiers", "modelName: m", "default", rules));
    let harness = network.start(&[]).await;
    let body = json!({"model": "m", "prompt": "x"}).to_string();
    for (value, expected) in [("premium", "premium"), ("basic", "basic"), ("", "basic")] {
        let request = harness.post_to(PORT, "/v1/completions").insert_header(("User-Type", value));
        let answer = read(request.send_body(body.clone()).await.unwrap()).await;
        assert_eq!(answer.answered_by(), expected, "user-type {value:?}");
    }
    let chat = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]}).to_string();
    let answer = read(harness.post_to(PORT, "/v1/chat/completions").send_body(chat).await.unwrap()).await;
    assert!(answer.text().contains("premium"), "{}", answer.text());
}

#[actix_web::test]
async fn gateways_share_a_port_by_hostname() {
    let network = Network::new();
    let _engines = (network.engine(10, "a").await, network.engine(11, "b").await);
    network.model_server("a", "a", &[10]);
    network.model_server("b", "b", &[11]);
    network.write(
        "gateways.yaml",
        &(gateway_yaml("exact", &[(8082, Some("a.example.com"))])
            + &gateway_yaml("wild", &[(8082, Some("*.example.com"))])),
    );
    network.write(
        "routes.yaml",
        &(route_with("a", "modelName: m", "exact", "- targetModels: [{modelServerName: a}]")
            + &route_with("b", "modelName: m", "wild", "- targetModels: [{modelServerName: b}]")),
    );
    let harness = network.start(&[]).await;
    let body = json!({"model": "m", "prompt": "x"}).to_string();
    for (host, expected) in [
        ("a.example.com", Some("a")),
        ("A.Example.com:8082", Some("a")),
        ("x.example.com", Some("b")),
        ("example.com", None),
    ] {
        let request = harness.post_to(8082, "/v1/completions").insert_header(("host", host));
        let answer = read(request.send_body(body.clone()).await.unwrap()).await;
        match expected {
            Some(model) => assert_eq!(answer.answered_by(), model, "{host}"),
            None => assert_eq!(answer.status, 404, "{host}"),
        }
    }
}
