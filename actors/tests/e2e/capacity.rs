//! Weights are shares among the targets that have room.

use simulated_engine::{Engine, EngineConfig};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::changes::Load;
use crate::harness::{ENGINE_PORT, Harness, Network, PORT, route_with};

/// Requests that the stable engine works on at once; more wait.
const PLACES: usize = 16;
/// Requests of which a share is taken: a share of 10 % is then off by 5 points once in ten million times.
const MANY: usize = 1000;

/// Has requests of others take all places of an engine, and as many wait for one, until what is returned is dropped.
async fn occupy(harness: &Harness, engine: &Engine) -> Vec<TcpStream> {
    let body = r#"{"model":"stable","prompt":"Say something."}"#;
    let request = format!(
        "POST /v1/completions HTTP/1.1\r\nhost: stable\r\ncontent-type: application/json\r\nx-simulate-fault: hang\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut occupants = Vec::new();
    for _ in 0..2 * PLACES {
        let mut stream = TcpStream::connect((harness.host(10), ENGINE_PORT)).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        occupants.push(stream);
    }
    harness.until("half of them wait", async || engine.waiting() >= PLACES as u64).await;
    occupants
}

/// Returns whether a pool has room, as the router sees it.
async fn room(harness: &Harness, pool: &str) -> String {
    let pools = harness.dump("pools").await.json();
    let found = pools["pools"].as_array().unwrap().iter().find(|found| found["name"] == pool);
    found.unwrap()["room"].as_str().unwrap().to_owned()
}

/// Returns how many of many requests the canary answers; each of them is answered.
async fn canarys(harness: &Harness) -> usize {
    let mut count = 0;
    for _ in 0..MANY {
        count += usize::from(harness.complete("chat").await.answered_by() == "canary");
    }
    count
}

#[actix_web::test]
async fn a_canary_takes_what_a_full_pool_cannot_and_gives_it_back() {
    let network = Network::new();
    let stable = EngineConfig { max_concurrency: PLACES, ..EngineConfig::new("stable") };
    let stable = network.engine_with(10, stable).await;
    let _canary = network.engine(11, "canary").await;
    network.model_server("stable", "stable", &[10]);
    network.model_server("canary", "canary", &[11]);
    let rules = "- targetModels: [{modelServerName: stable, weight: 90}, {modelServerName: canary, weight: 10}]";
    network.write("route.yaml", &route_with("chat", "modelName: chat", "default", rules));
    let harness = network.start(&[]).await;
    let load = Load::start(&harness, PORT, "chat", 4);

    let share = (MANY / 20)..=(MANY * 3 / 20);
    let before = canarys(&harness).await;
    assert!(share.contains(&before), "{before} of {MANY} while both have room");

    let occupants = occupy(&harness, &stable).await;
    harness.until("the pool is full", async || room(&harness, "stable").await == "full").await;
    assert_eq!(canarys(&harness).await, MANY, "the canary alone has room");

    drop(occupants);
    harness.until("the pool has room", async || room(&harness, "stable").await == "left").await;
    let after = canarys(&harness).await;
    assert!(share.contains(&after), "{after} of {MANY} when both have room again");

    let tally = load.tally().await;
    assert_eq!(tally.keys().collect::<Vec<_>>(), ["canary", "stable"], "no request is lost: {tally:?}");
}
