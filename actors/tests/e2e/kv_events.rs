//! What engines tell of their KV caches over ZeroMQ, and what the router makes of it.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde_json::{Value, json};
use simulated_engine::{Dialect, Engine, EngineConfig};

use crate::harness::{Answer, ENGINE_PORT, Harness, Network, PORT, client, gateway_yaml, read, route_yaml};
use crate::inference_pools::{EXTENSION, pod_yaml, pool_yaml};

const EVENTS: u16 = 5557;
const REPLAYS: u16 = 5558;

fn engine() -> EngineConfig {
    let (kv_events_port, kv_events_replay_port) = (Some(EVENTS), Some(REPLAYS));
    EngineConfig { kv_events_port, kv_events_replay_port, ..EngineConfig::new("m") }
}

/// Returns the body of a prompt of so many words, the first ones those of its family.
fn body(family: &str, shared: usize, own: &str, words: usize) -> String {
    let mut prompt = String::new();
    for place in 0..words {
        let begin = if place < shared { family } else { own };
        write!(prompt, "{begin}{place} ").unwrap();
    }
    json!({"model": "m", "prompt": prompt, "max_tokens": 1}).to_string()
}

/// Writes the ModelServer of these hosts, whose engines are listened to as the annotation says.
fn model_server(network: &Network, hosts: &[u8], annotation: &str) {
    let annotated = format!("name: s, annotations: {{networking.serving.volcano.sh/kv-events: '{annotation}'}}");
    let yaml = network.model_server_yaml("s", "m", hosts, "").replacen("name: s", &annotated, 1);
    network.write("server.yaml", &(yaml + &route_yaml("r", "m", "s")));
}

/// Writes the InferencePool of these hosts, likewise.
fn inference_pool(network: &Network, hosts: &[u8], annotation: &str) {
    let annotated = format!("name: p, annotations: {{networking.serving.volcano.sh/kv-events: '{annotation}'}}");
    let pods = hosts.iter().map(|host| pod_yaml(&format!("p-{host}"), network.host(*host))).collect::<String>();
    let pool = pool_yaml("g", "").replacen("name: p", &annotated, 1);
    network.write("pool.yaml", &(gateway_yaml("g", &[(PORT, None)]) + &pods + &pool));
}

/// Sends a prompt past the router, as another router does.
async fn send_elsewhere(harness: &Harness, host: u8, path: &str, body: &str) -> Answer {
    let url = format!("http://{}:{ENGINE_PORT}{path}", harness.host(host));
    read(
        client()
            .post(url)
            .insert_header(("content-type", "application/json"))
            .send_body(body.to_owned())
            .await
            .unwrap(),
    )
    .await
}

async fn send(harness: &Harness, body: &str) -> Answer {
    read(harness.post_to(PORT, "/v1/completions").send_body(body.to_owned()).await.unwrap()).await
}

fn cached(answer: &Answer) -> u64 {
    answer.json()["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap()
}

/// Returns what the debug page says of an engine's cache.
async fn cache_of(harness: &Harness, host: u8) -> Value {
    let page = harness.dump("pools").await.json();
    let address = format!("{}:{ENGINE_PORT}", harness.host(host));
    let endpoints = page["pools"][0]["endpoints"].as_array().unwrap();
    endpoints.iter().find(|endpoint| endpoint["address"] == address).unwrap()["cache"].clone()
}

/// Waits until so many blocks are known of an engine's cache, all of whose events were heard.
async fn until_blocks(harness: &Harness, host: u8, blocks: u64) {
    harness
        .until(&format!("{blocks} blocks of host {host} are known"), async || {
            let cache = cache_of(harness, host).await;
            cache["events"] == "whole" && cache["blocks"] == blocks
        })
        .await;
}

/// Lets the router learn a prompt's tokens, and returns the host that has it cached.
async fn learn(harness: &Harness, body: &str, blocks: u64) -> u8 {
    send(harness, body).await;
    let mut holder = 10;
    harness
        .until("an engine tells of the prompt", async || {
            cache_of(harness, 10).await["blocks"] == blocks || cache_of(harness, 11).await["blocks"] == blocks
        })
        .await;
    if cache_of(harness, 11).await["blocks"] == blocks {
        holder = 11;
    }
    send(harness, body).await;
    let answered = ["what=\"answered\""];
    harness
        .until("the prompt's tokens are known", async || {
            harness.metric("kthena_router_kv_event_prompts_total", &answered).await >= 1.0
        })
        .await;
    holder
}

async fn two_engines(dialect: Dialect) -> (Network, [Engine; 2]) {
    let network = Network::new();
    let config = || EngineConfig { dialect, ..engine() };
    let engines = [network.engine_with(10, config()).await, network.engine_with(11, config()).await];
    (network, engines)
}

async fn hits_are_learnt_from_events(dialect: Dialect, annotation: &str, write: fn(&Network, &[u8], &str)) {
    let (network, engines) = two_engines(dialect).await;
    write(&network, &[10, 11], annotation);
    let harness = network.start(&[EXTENSION]).await;
    for host in [10, 11] {
        until_blocks(&harness, host, 0).await;
    }
    let prompt = body("a", 800, "a", 800);
    let holder = learn(&harness, &prompt, 50).await;
    let other = 21 - holder;

    // Another router's traffic brings the prompt to the other engine, and the first one's cache is reset.
    assert_eq!(cached(&send_elsewhere(&harness, other, "/v1/completions", &prompt).await), 0);
    until_blocks(&harness, other, 50).await;
    send_elsewhere(&harness, holder, "/reset_prefix_cache", "").await;
    until_blocks(&harness, holder, 0).await;
    let before = engines[usize::from(other - 10)].requests();
    for _ in 0..5 {
        assert_eq!(cached(&send(&harness, &prompt).await), 800);
    }
    assert_eq!(engines[usize::from(other - 10)].requests(), before + 5);
    assert_eq!(harness.metric("kthena_router_kv_events_total", &["what=\"lost\""]).await, 0.0);
    assert_eq!(harness.metric("kthena_router_kv_events_total", &["what=\"cleared\""]).await, 1.0);
}

#[actix_web::test]
async fn hits_are_learnt_from_events_that_the_router_did_not_cause() {
    hits_are_learnt_from_events(Dialect::Vllm, &format!("{EVENTS}/{REPLAYS}"), model_server).await;
}

#[actix_web::test]
async fn engines_of_an_inference_pool_tell_as_well() {
    hits_are_learnt_from_events(Dialect::Vllm, &format!("{EVENTS}/{REPLAYS}"), inference_pool).await;
}

#[actix_web::test]
async fn sglang_tells_as_well_and_engines_can_be_asked_where() {
    hits_are_learnt_from_events(Dialect::Sglang, "discover", model_server).await;
}

#[actix_web::test]
async fn an_engine_that_restarts_is_known_to_hold_nothing() {
    let (network, [first, second]) = two_engines(Dialect::Vllm).await;
    model_server(&network, &[10, 11], &format!("{EVENTS}/{REPLAYS}"));
    let harness = network.start(&[]).await;
    let prompt = body("a", 800, "a", 800);
    let holder = learn(&harness, &prompt, 50).await;
    let (lost, _other) = if holder == 10 { (first, second) } else { (second, first) };
    lost.stop().await;
    harness.until("the engine is not heard", async || cache_of(&harness, holder).await["events"] == "deaf").await;
    // It starts in its place, and has answered others before the router has found it again.
    let config = EngineConfig { addresses: vec![harness.host(holder)], ports: vec![ENGINE_PORT], ..engine() };
    let _again = simulated_engine::start(config).await.unwrap();
    send_elsewhere(&harness, holder, "/v1/completions", &body("b", 160, "b", 160)).await;
    until_blocks(&harness, holder, 10).await;
    assert!(harness.metric("kthena_router_kv_events_total", &["what=\"restarted\""]).await >= 1.0);
    // The other one gets the prompt from elsewhere, and then has it for everybody.
    send_elsewhere(&harness, 21 - holder, "/v1/completions", &prompt).await;
    until_blocks(&harness, 21 - holder, 50).await;
    assert_eq!(cached(&send(&harness, &prompt).await), 800);
}

#[actix_web::test]
async fn a_router_that_comes_late_has_everything_told_again() {
    let (network, _engines) = two_engines(Dialect::Vllm).await;
    let prompt = body("a", 800, "a", 800);
    let url = format!("http://{}:{ENGINE_PORT}/v1/completions", network.host(11));
    let json = ("content-type", "application/json");
    assert_eq!(cached(&read(client().post(url).insert_header(json).send_body(prompt).await.unwrap()).await), 0);
    model_server(&network, &[10, 11], &format!("{EVENTS}/{REPLAYS}"));
    let harness = network.start(&[]).await;
    until_blocks(&harness, 10, 0).await;
    until_blocks(&harness, 11, 50).await;
}

/// Sends prompts of eight families through the router and past it to engines with little room, and returns by how much the
/// foreseen part of cached tokens differs from the true one on average, in percent of the prompt.
async fn prediction_error(harness: &Harness) -> f64 {
    let mut total = 0.0;
    for round in 0..60 {
        let family = format!("f{}-", round % 8);
        if round % 3 == 0 {
            let host = 10 + u8::try_from(round / 3 % 2).unwrap();
            send_elsewhere(harness, host, "/v1/completions", &body(&format!("f{}-", round / 3 % 8), 400, "x", 480))
                .await;
        }
        let foreseen = async || {
            let caches = [cache_of(harness, 10).await, cache_of(harness, 11).await];
            let sum = |what: &str| caches.iter().map(|cache| cache[what].as_f64().unwrap()).sum::<f64>();
            (sum("promptTokens"), sum("foreseenTokens"))
        };
        let before = foreseen().await;
        let answer = send(harness, &body(&family, 400, &format!("own{round}-"), 480)).await;
        let after = foreseen().await;
        let told = (after.1 - before.1) / (after.0 - before.0);
        let tokens = answer.json()["usage"]["prompt_tokens"].as_f64().unwrap();
        #[expect(clippy::cast_precision_loss, reason = "a prompt has few tokens")]
        let truth = cached(&answer) as f64 / tokens;
        total += (told - truth).abs();
    }
    total / 60.0 * 100.0
}

#[actix_web::test]
async fn hits_are_foreseen_better_by_events() {
    let mut errors = Vec::new();
    for annotation in [format!("{EVENTS}/{REPLAYS}"), String::new()] {
        let network = Network::new();
        let config = || EngineConfig { kv_cache_tokens: 1600, ..engine() };
        let _engines = [network.engine_with(10, config()).await, network.engine_with(11, config()).await];
        if annotation.is_empty() {
            network.model_server("s", "m", &[10, 11]);
            network.write("route.yaml", &route_yaml("r", "m", "s"));
        } else {
            model_server(&network, &[10, 11], &annotation);
        }
        let harness = network.start(&[]).await;
        if !annotation.is_empty() {
            until_blocks(&harness, 10, 0).await;
            until_blocks(&harness, 11, 0).await;
        }
        errors.push(prediction_error(&harness).await);
    }
    writeln!(io::stderr(), "hit prediction error: {:.1} % by events, {:.1} % without", errors[0], errors[1]).unwrap();
    assert!(errors[0] < errors[1], "{errors:?}");
    assert!(errors[0] < 15.0, "{errors:?}");
}
