//! Endpoints are told who has the beginning of a prompt.

use serde_json::json;
use simulated_engine::Engine;

use super::{decision, start_with};
use crate::harness::{Harness, Network, PORT, read};

const HEADER: &str = "x-kv-cache-source-host-port";
/// Requests go to either engine, whatever it has.
const NAMED: &str = "scheduler: {plugins: {Score: {enabled: [{name: random, weight: 1}]}}, \
                     pluginConfig: [{name: kv-cache-source, args: {minCachedTokens: 256}}]}";
const UNNAMED: &str = "scheduler: {plugins: {Score: {enabled: [{name: random, weight: 1}]}}}";

/// Has a prompt answered, for a client that names an endpoint itself.
async fn ask(harness: &Harness, prompt: &str) {
    let body = json!({"model": "public", "prompt": prompt, "max_tokens": 4}).to_string();
    let request = harness.post_to(PORT, super::PATH).insert_header((HEADER, "192.0.2.1:8000"));
    let answer = read(request.send_body(body).await.unwrap()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

/// Returns what the last request of an engine says of where the beginning can be pulled from.
fn told(engine: &Engine) -> Vec<String> {
    let headers = engine.last_request().unwrap().headers;
    headers.into_iter().filter(|(name, _)| name == HEADER).map(|(_, value)| value).collect()
}

#[actix_web::test]
async fn who_has_less_of_a_prompt_is_told_who_has_more() {
    for (scheduler, prompt, is_named) in
        [(NAMED, "word ".repeat(400), true), (NAMED, "word ".repeat(100), false), (UNNAMED, "word ".repeat(400), false)]
    {
        let network = Network::new();
        let engines = [network.engine(10, "m").await, network.engine(20, "m").await];
        let server = network.model_server_yaml("m", "m", &[10, 20], "");
        let harness = start_with(network, &server, scheduler, &[]).await;
        let sockets = [10, 20].map(|host| format!("{}:8000", harness.host(host)));
        ask(&harness, &prompt).await;
        let (has, lacks) = if engines[0].requests() == 1 { (0, 1) } else { (1, 0) };
        assert_eq!(told(&engines[has]), [""; 0], "nobody has anything");
        let goes_there = async || {
            ask(&harness, &prompt).await;
            engines[lacks].requests() == 1
        };
        harness.until("the other engine gets it", goes_there).await;
        let expected = is_named.then(|| sockets[has].clone());
        assert_eq!(told(&engines[lacks]), expected.into_iter().collect::<Vec<_>>(), "{scheduler} {}", prompt.len());
        let pick = decision(&harness).await["attempts"][0]["pick"].clone();
        assert_eq!(pick.get("kvCacheSource").is_some(), is_named, "{pick}");
        assert_eq!(told(&engines[has]), [""; 0], "who has all of it is told of nobody");
    }
}
