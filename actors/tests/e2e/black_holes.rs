//! One of three endpoints fails every request, at once or not at all: the others take over, until it is well again.

use std::time::Duration;

use simulated_engine::{Engine, EngineConfig};

use crate::harness::{Harness, Network, route_yaml};

/// How one engine of three behaves, and what that may cost.
struct Case {
    name: &'static str,
    fault: fn(&Engine),
    /// The pool's policy.
    policy: &'static str,
    /// How many of two hundred requests may fail.
    failures: usize,
}

const NO_RETRY: &str = "  trafficPolicy: {retry: {attempts: 0, retryInterval: 1ms}}";
const RETRY: &str = "  trafficPolicy: {retry: {attempts: 2, retryInterval: 1ms}}";
const IMPATIENT: &str = "  trafficPolicy: {timeout: 300ms, retry: {attempts: 0, retryInterval: 1ms}}";

const CASES: [Case; 5] = [
    Case { name: "500", fault: |engine| fail(engine, 500), policy: RETRY, failures: 10 },
    Case { name: "503", fault: |engine| fail(engine, 503), policy: RETRY, failures: 0 },
    Case { name: "503 without a retry", fault: |engine| fail(engine, 503), policy: NO_RETRY, failures: 10 },
    Case { name: "reset", fault: |engine| engine.faults().set_reset(true), policy: RETRY, failures: 0 },
    Case { name: "hang", fault: |engine| engine.faults().set_hang(true), policy: IMPATIENT, failures: 4 },
];

fn fail(engine: &Engine, status: u16) {
    engine.faults().set_error_rate(1.0).unwrap();
    engine.faults().set_error_status(status).unwrap();
}

async fn start(policy: &str) -> (Harness, Vec<Engine>) {
    let network = Network::new();
    let mut engines = Vec::new();
    for host in [10, 11, 12] {
        let config = EngineConfig { time_to_first_token: Duration::ZERO, ..EngineConfig::new("m") };
        engines.push(network.engine_with(host, config).await);
    }
    network.write("server.yaml", &network.model_server_yaml("m", "m", &[10, 11, 12], policy));
    network.write("route.yaml", &route_yaml("r", "public", "m"));
    let harness = network.start(&[]).await;
    (harness, engines)
}

async fn failures(harness: &Harness, requests: usize) -> usize {
    let mut failed = 0;
    for _ in 0..requests {
        failed += usize::from(harness.complete("public").await.status != 200);
    }
    failed
}

#[actix_web::test]
async fn a_black_hole_is_left_soon_and_comes_back_when_it_is_well() {
    for Case { name, fault, policy, failures: allowed } in CASES {
        let (harness, engines) = start(policy).await;
        assert_eq!(failures(&harness, 30).await, 0, "{name}");
        fault(&engines[0]);
        let failed = failures(&harness, 200).await;
        assert!(failed <= allowed, "{name}: {failed} of 200 failed, more than {allowed}");
        engines[0].faults().clear();
        let before = engines[0].requests();
        harness
            .until("it gets requests again", async || {
                drop(harness.complete("public").await);
                engines[0].requests() > before + 5
            })
            .await;
        // A busy machine may miss the short first-byte limit of these tests once.
        let failed = failures(&harness, 30).await;
        assert!(failed <= 1, "{name}: {failed} of 30 failed after it had recovered");
    }
}

#[actix_web::test]
async fn where_all_endpoints_fail_their_answers_pass_and_most_stay_in() {
    let (harness, engines) = start(NO_RETRY).await;
    for engine in &engines {
        fail(engine, 500);
    }
    for _ in 0..60 {
        assert_eq!(harness.complete("public").await.status, 500, "the engine's own word");
    }
    let ready = harness.metric("kthena_router_endpoints", &["state=\"ready\""]).await;
    assert!(ready >= 2.0, "{ready} of 3 are ready: more than half of the pool was ejected");
    let labels = ["pool=\"ModelServer default/m\"", "cause=\"status\""];
    assert!(harness.metric("kthena_router_endpoint_ejections_total", &labels).await >= 1.0, "an ejection is counted");
    for engine in &engines {
        engine.faults().clear();
    }
    assert_eq!(failures(&harness, 100).await, 0);
}
