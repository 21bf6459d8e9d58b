//! The plugin kvcache-aware with a Redis of its own, into which the test writes what the Go router's sidecars do.

use std::time::{SystemTime, UNIX_EPOCH};

use kthena_router::scheduling::owners::keys;
use redis::aio::ConnectionLike;
use serde_json::{Value, json};
use simulated_engine::{Engine, EngineConfig};

use crate::harness::{ENGINE_PORT, Harness, Network, PORT, client, read, route_yaml};
use crate::redis_cluster::Cluster;
use crate::redis_server::Redis;

const SCHEDULER: &str = "scheduler: {plugins: {Score: {enabled: [{name: kvcache-aware, weight: 1}]}}}";
const PROBES: u32 = 200;

fn prompt(name: &str) -> Value {
    let words: Vec<_> = (0..100).map(|place| format!("{name}{place}")).collect();
    json!({"model": "m", "prompt": words.join(" "), "max_tokens": 1})
}

/// Notes, as a sidecar does, that a Pod holds the first blocks of a prompt.
async fn note(redis: &mut impl ConnectionLike, harness: &Harness, prompt: &Value, pod: &str, blocks: usize) {
    let url = format!("http://{}:{ENGINE_PORT}/tokenize", harness.host(10));
    let answer = read(client().post(url).send_body(prompt.to_string()).await.unwrap()).await.json();
    let tokens: Vec<u32> = serde_json::from_value(answer["tokens"].clone()).unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let keys = keys("m", &tokens, 16, 128);
    assert_eq!(keys.len(), 7, "the last four tokens are a block as well");
    for key in &keys[..blocks] {
        redis::cmd("HSET").arg(key).arg(format!("{pod}.default")).arg(now).exec_async(redis).await.unwrap();
    }
}

async fn send(harness: &Harness, prompt: &Value) -> u16 {
    read(harness.post_to(PORT, "/v1/completions").send_body(prompt.to_string()).await.unwrap()).await.status
}

async fn lookups(harness: &Harness, outcome: &str) -> f64 {
    harness.metric("kthena_router_kvcache_lookups_total", &[&format!("what=\"{outcome}\"")]).await
}

/// Sends a prompt until so many further lookups had this outcome.
async fn send_until(harness: &Harness, prompt: &Value, outcome: &str, count: u32) {
    let wanted = lookups(harness, outcome).await + f64::from(count);
    harness
        .until(outcome, async || {
            assert_eq!(send(harness, prompt).await, 200);
            lookups(harness, outcome).await >= wanted
        })
        .await;
}

/// A router with three engines and a Redis.
async fn scene(port: u16, more: &[&str]) -> (Harness, Vec<Engine>) {
    let network = Network::new();
    let mut engines = Vec::new();
    for host in 10..13 {
        engines.push(network.engine_with(host, EngineConfig::new("m")).await);
    }
    network.model_server("s", "m", &[10, 11, 12]);
    network.write("route.yaml", &route_yaml("r", "m", "s"));
    let file = network.directory().join("scheduler.conf");
    std::fs::write(&file, SCHEDULER).unwrap();
    let (scheduler, port) = (format!("--scheduler-config={}", file.display()), format!("--redis-port={port}"));
    let harness = network.start(&[&[&*scheduler, "--redis-host=127.0.0.1", &port], more].concat()).await;
    (harness, engines)
}

#[actix_web::test]
async fn the_blocks_of_a_prompt_may_be_at_several_nodes_of_a_cluster() {
    let cluster = Cluster::start([&[]; 3]).await;
    let port = cluster.nodes[0].redis.port;
    let client = redis::cluster::ClusterClient::new([format!("redis://127.0.0.1:{port}")]).unwrap();
    let mut connection = client.get_async_connection().await.unwrap();
    let (harness, engines) = scene(port, &["--redis-cluster"]).await;
    let held = prompt("held");
    note(&mut connection, &harness, &held, "s-11", 7).await;
    send_until(&harness, &held, "found", 30).await;
    assert!(engines[1].requests() >= 30, "all that were found");
}

#[actix_web::test]
async fn the_pod_that_holds_a_prompt_gets_it_and_redis_may_go_away() {
    let (mut redis, mut connection) = Redis::start().await;
    let (harness, engines) = scene(redis.port, &[]).await;
    let (held, cold) = (prompt("held"), prompt("cold"));
    note(&mut connection, &harness, &held, "s-11", 7).await;
    note(&mut connection, &harness, &held, "s-12", 3).await;
    // On a busy machine some lookups are late, and those requests go anywhere.
    send_until(&harness, &held, "found", PROBES).await;
    assert!(engines[1].requests() >= u64::from(PROBES), "all that were found, not only 90 %");

    // A prompt that nobody holds is neutral, and so is every prompt while Redis is away.
    send_until(&harness, &cold, "not_found", 30).await;
    assert!(engines.iter().all(|engine| engine.requests() > 0), "spread");
    let found = lookups(&harness, "found").await;
    redis.server.kill().unwrap();
    redis.server.wait().unwrap();
    for _ in 0..5 {
        assert_eq!(send(&harness, &held).await, 200);
    }
    assert_eq!(lookups(&harness, "found").await, found);

    // It is found again.
    let (server, mut connection) = Redis::start_on(redis.port).await;
    redis.server = server;
    note(&mut connection, &harness, &held, "s-12", 7).await;
    send_until(&harness, &held, "found", 1).await;
}
