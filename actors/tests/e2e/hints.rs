//! A model that a header names ahead of its body: large bodies pass unread, and nothing is let through that the body would not be.

use crate::harness::{Answer, Harness, Network, route_with, route_yaml};
use crate::wire::{Reply, ScriptedEngine, Wire, behind_script, post};

const CHAT: &str = "/v1/chat/completions";
const ANSWER: Reply = Reply::Keep("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
/// No body of a megabyte fits in it.
const NARROW: &[&str] = &["--max-buffered-bytes=1000000"];
const MIB: usize = 1 << 20;

/// Returns a body with these fields behind a long text.
fn body(fields: &str) -> String {
    format!(r#"{{"messages":[{{"role":"user","content":"{}","model":"inner"}}]{fields}}}"#, "x".repeat(MIB))
}

async fn send(harness: &Harness, hint: &str, body: &str) -> Answer {
    let headers = format!("content-type: application/json\r\nx-model: {hint}\r\n");
    let is_empty = async || harness.metric("kthena_router_buffered_bytes", &[]).await == 0.0;
    harness.until("what a refused request has left is given back", is_empty).await;
    let mut client = Wire::open(harness).await;
    // The router may stop to listen before it has heard everything.
    client.try_send(post(CHAT, &headers, body)).await.ok();
    client.answer().await.unwrap()
}

/// Starts a router that keeps little in front of an engine, which knows the model by its clients' name.
async fn start(more: &str) -> (Harness, ScriptedEngine) {
    let network = Network::new();
    let engine = ScriptedEngine::on(&network, 10, &[ANSWER]).await;
    network.write("m.yaml", &network.model_server_yaml("m", "m", &[10], more));
    network.write("routes.yaml", &(route_yaml("m", "m", "m") + &route_yaml("other", "other", "m")));
    (network.start(NARROW).await, engine)
}

#[actix_web::test]
async fn a_large_body_passes_unread_where_a_header_names_its_model() {
    let (harness, engine) = start("").await;
    for fields in [r#","model":"m""#, r#", "mod\u0065l" : "\u006d" , "stream":true"#] {
        let body = body(fields);
        let answer = send(&harness, "m", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(engine.received().pop().unwrap().body == body.as_bytes(), "not a byte is changed");
    }
    let text = body(r#","model":"m""#);
    let mut client = Wire::open(&harness).await;
    client.try_send(post(CHAT, "", &text)).await.ok();
    assert_eq!(client.answer().await.unwrap().status, 503, "without the header it does not fit");
    harness.logged("model_name=m ").await;
}

#[actix_web::test]
async fn a_body_that_names_another_model_than_the_header_reaches_no_engine() {
    let (harness, engine) = start("").await;
    for (case, hint, text) in [
        ("another one, at the end", "m", body(r#","model":"other""#)),
        ("another one, at the beginning", "m", body("").replacen('{', r#"{"model":"other","#, 1)),
        ("none", "m", body("")),
        ("two", "m", body(r#","model":"m","model":"other""#)),
        ("no JSON", "m", "x".repeat(MIB)),
        ("a small body", "m", r#"{"model":"other"}"#.to_owned()),
        ("a small body for a model that nobody serves", "nobody", r#"{"model":"m"}"#.to_owned()),
    ] {
        let answer = send(&harness, hint, &text).await;
        assert_eq!(answer.status, 400, "{case}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "request_parsing", "{case}");
    }
    assert_eq!(send(&harness, "nobody", &body(r#","model":"m""#)).await.status, 404, "it is routed by the header");
    assert!(engine.received().is_empty(), "no engine got one whole");
}

#[actix_web::test]
async fn a_body_is_read_where_more_of_it_is_needed_than_its_model() {
    let (harness, engine) = behind_script(&[ANSWER]).await;
    let answer = send(&harness, "public", &body(r#","model":"public""#)).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let sent = String::from_utf8(engine.received().pop().unwrap().body).unwrap();
    assert!(sent.contains(r#""model":"m""#) && !sent.contains("public"), "the engine's own name is written into it");
    let answer = send(&harness, "public", &body(r#","model":"m""#)).await;
    assert_eq!((answer.status, engine.received().len()), (400, 1), "{}", answer.text());

    let (harness, engine) = start("  trafficPolicy: {retry: {attempts: 1, retryInterval: 0s}}").await;
    let answer = send(&harness, "m", &body(r#","model":"m""#)).await;
    assert_eq!((answer.status, engine.received().len()), (503, 0), "a written retry has it kept: {}", answer.text());
}

#[actix_web::test]
async fn a_header_passes_by_no_limit_on_tokens() {
    let network = Network::new();
    let engine = ScriptedEngine::on(&network, 10, &[ANSWER]).await;
    network.model_server("m", "m", &[10]);
    let serves = "modelName: m\n  rateLimit: {inputTokensPerUnit: 1000, unit: hour}";
    network.write("m.yaml", &route_with("m", serves, "default", "- targetModels: [{modelServerName: m}]"));
    let harness = network.start(&[]).await;
    // One that is larger than the limit takes all of it.
    let answers = [send(&harness, "m", &body(r#","model":"m""#)).await, send(&harness, "m", r#"{"model":"m"}"#).await];
    assert_eq!(answers[1].json()["error"]["code"], "rate_limit_exceeded", "{}", answers[1].text());
    assert!(engine.received().len() < 2);
}
