//! What becomes of requests when engines fail.

use std::cell::Cell;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actix_web::dev::ServerHandle;
use actix_web::{App, HttpResponse, HttpServer, web};
use kthena_router_actors::edge::tls;
use procfs::net::TcpState;
use rcgen::{CertificateParams, KeyPair};
use serde_json::json;
use simulated_engine::{Engine, EngineConfig};

use crate::harness::{Answer, ENGINE_PORT, Harness, Network, pod_yaml, route_yaml};
use crate::wire::{Wire, behind, post};

const PATH: &str = "/v1/completions";
/// Longer than any test: whatever waits for it is never answered.
const NEVER: Duration = Duration::from_secs(3600);
/// Leaves it to the requests to find out that an endpoint refuses connections.
const NO_SCRAPES: &str = "--metrics-scrape-interval=1h";

#[actix_web::test]
async fn a_dead_endpoint_costs_no_request_and_is_taken_back_when_it_serves_again() {
    let network = Network::new();
    let _alive = network.engine(10, "m").await;
    let harness = start(network, &[10, 11], "", &[NO_SCRAPES]).await;
    let meets = async || {
        assert_eq!(harness.complete("public").await.answered_by(), "m");
        harness.metric("kthena_router_upstream_attempts_total", &["outcome=\"refused\""]).await >= 1.0
    };
    harness.until("a request meets the dead endpoint", meets).await;
    let in_state = async |state: &str| {
        let labels = ["pool=\"ModelServer default/m\"", &format!("state=\"{state}\"")];
        harness.metric("kthena_router_endpoints", &labels).await
    };
    let is_ejected = async || {
        assert_eq!(harness.complete("public").await.status, 200);
        (in_state("ready").await, in_state("ejected").await) == (1.0, 1.0)
    };
    harness.until("it is ejected", is_ejected).await;
    let asked = async || harness.metric("kthena_router_upstream_attempts_total", &[]).await;
    let before = asked().await;
    for _ in 0..10 {
        assert_eq!(harness.complete("public").await.status, 200);
    }
    assert_eq!(asked().await, before + 10.0, "an ejected endpoint is not asked");

    let addresses = vec![harness.host(11)];
    let config = EngineConfig { addresses, ports: vec![ENGINE_PORT], ..EngineConfig::new("m") };
    let back = simulated_engine::start(config).await.unwrap();
    harness.until("it is taken back", async || in_state("ejected").await == 0.0).await;
    let serves = async || harness.complete("public").await.status == 200 && back.requests() > 0;
    harness.until("it serves again", serves).await;
}

#[actix_web::test]
async fn no_pause_is_made_when_nobody_is_left_to_ask() {
    let network = Network::new();
    let busy = network.engine(10, "m").await;
    busy.faults().set_error_status(503).unwrap();
    busy.faults().set_error_rate(1.0).unwrap();
    let policy = "  trafficPolicy: {retry: {attempts: 3, retryInterval: 1h}}";
    let harness = start(network, &[10], policy, &[]).await;
    harness.until("the answer comes", async || harness.complete("public").await.status == 503).await;
    assert_eq!(busy.requests(), 1, "an engine that has answered is not asked again");
}

#[actix_web::test]
async fn what_an_endpoint_cannot_serve_now_goes_to_another() {
    let network = Network::new();
    let (busy, idle) = (network.engine(10, "m").await, network.engine(11, "m").await);
    let harness = start(network, &[10, 11], "", &[]).await;
    for (case, status, reset) in [("502", 502, false), ("503", 503, false), ("504", 504, false), ("reset", 500, true)] {
        busy.faults().clear();
        let asked = busy.requests();
        let is_asked = async || harness.complete("public").await.status == 200 && busy.requests() > asked;
        harness.until("what it failed at is forgotten", is_asked).await;
        let before = (busy.requests(), idle.requests());
        busy.faults().set_reset(reset);
        busy.faults().set_error_status(status).unwrap();
        busy.faults().set_error_rate(if reset { 0.0 } else { 1.0 }).unwrap();
        // One that has failed before is left alone for a while.
        let asked = Cell::new(0);
        let meets_it = async || {
            asked.set(asked.get() + 1);
            assert_eq!(harness.complete("public").await.answered_by(), "m", "{case}");
            busy.requests() > before.0
        };
        harness.until("a request meets the endpoint", meets_it).await;
        assert_eq!(idle.requests() - before.1, asked.get(), "{case}: the other endpoint answers all");
        assert_eq!(busy.requests() - before.0, 1, "{case}: no request meets it twice");
    }
}

#[actix_web::test]
async fn any_other_answer_is_the_engines_last_word() {
    let network = Network::new();
    let engines = [network.engine(10, "m").await, network.engine(11, "m").await];
    let harness = start(network, &[10, 11], "", &[]).await;
    let asked = || engines.iter().map(Engine::requests).sum::<u64>();
    for status in [400, 401, 404, 408, 409, 422, 501, 507] {
        for faults in engines.iter().map(Engine::faults) {
            faults.set_error_status(status).unwrap();
            faults.set_error_rate(1.0).unwrap();
        }
        for stream in [false, true] {
            let body = json!({"model": "public", "prompt": "x", "stream": stream}).to_string();
            let before = asked();
            let routed = Wire::open(&harness).await.ask(post(PATH, "", &body)).await;
            assert_eq!(asked(), before + 1, "{status}: asked once");
            let direct = Wire::open_at(engines[0].addresses()[0]).await.ask(post(PATH, "", &body)).await;
            assert_eq!((routed.status, routed.text()), (status, direct.text()));
            assert_eq!(routed.header("content-type"), direct.header("content-type"), "{status}");
        }
        harness.logged(&format!("\" {status} error=upstream_response ")).await;
    }
}

#[actix_web::test]
async fn attempts_end_where_the_policy_says() {
    let retry = |attempts: u32| format!("  trafficPolicy: {{retry: {{attempts: {attempts}, retryInterval: 1ms}}}}");
    for (case, policy, endpoints, status, attempts) in [
        ("no retry of a status", retry(0), 2, Some(503), 1),
        ("no retry of a broken connection", retry(0), 2, None, 1),
        ("one retry", retry(1), 3, Some(502), 2),
        ("two other engines by default", String::new(), 4, Some(504), 3),
        ("a poisonous prompt breaks two engines at most", String::new(), 4, None, 2),
        ("the only engine is not asked again", String::new(), 1, None, 1),
        ("one other engine by default where one has too much to do", String::new(), 4, Some(429), 2),
        ("one other engine by default where one has failed", String::new(), 4, Some(500), 2),
        ("the only engine is not asked again where it has failed", String::new(), 1, Some(500), 1),
        ("no retry of a failure", retry(0), 2, Some(500), 1),
        ("a status is not asked for twice", retry(5), 2, Some(503), 2),
        ("a broken connection is tried again where that is written", retry(3), 1, None, 4),
    ] {
        let network = Network::new();
        let hosts: Vec<u8> = (10..10 + endpoints).collect();
        let mut engines = Vec::new();
        for host in &hosts {
            let error_status = status.unwrap_or(500);
            let error_rate = if status.is_some() { 1.0 } else { 0.0 };
            let engine =
                network.engine_with(*host, EngineConfig { error_rate, error_status, ..EngineConfig::new("m") });
            engines.push(engine.await);
            engines.last().unwrap().faults().set_reset(status.is_none());
        }
        let harness = start(network, &hosts, &policy, &[]).await;
        let answer = harness.complete("public").await;
        let log = match status {
            None => {
                assert_unavailable(case, &answer, "proxy");
                harness.logged("\" 503 error=proxy ").await
            }
            // The last answer passes as it is.
            Some(status) => {
                assert_eq!(answer.status, status, "{case}");
                harness.logged(&format!("\" {status} error=upstream_response ")).await
            }
        };
        assert_eq!(engines.iter().map(Engine::requests).sum::<u64>(), attempts, "{case}");
        assert!(log.contains(&format!(" upstream_attempts={attempts} ")), "{case}: {log}");
        assert_eq!(harness.metric("kthena_router_endpoint_ejections_total", &[]).await, 0.0, "{case}: they do accept");
    }
}

#[actix_web::test]
async fn without_an_endpoint_a_request_is_told_to_come_back() {
    let unready = "conditions: [{type: Ready, status: \"False\"}], podIP";
    for (case, pods) in [("no Pod", 0), ("no Pod is ready", 1)] {
        let network = Network::new();
        let engine = network.engine(10, "m").await;
        let pod = pod_yaml("pod", "m", network.host(10)).replace("podIP", unready);
        network.write("pods.yaml", &pod.repeat(pods));
        let harness = start(network, &[], "", &[]).await;
        assert_unavailable(case, &harness.complete("public").await, "pod_discovery");
        assert_eq!(engine.requests(), 0, "{case}");
        harness.logged("\" 503 error=pod_discovery model_name=public model_route=default/route ").await;
    }
    let harness = start(Network::new(), &[10, 11], "", &[NO_SCRAPES]).await;
    for _ in 0..10 {
        assert_unavailable("no endpoint is alive", &harness.complete("public").await, "proxy");
    }
}

#[actix_web::test]
async fn an_engine_has_as_long_as_the_policy_says_to_begin_its_answer() {
    let network = Network::new();
    let silent = EngineConfig { time_to_first_token: NEVER, ..EngineConfig::new("m") };
    let slow = EngineConfig { time_per_output_token: Duration::from_millis(100), ..EngineConfig::new("m") };
    let (silent, slow) = (network.engine_with(10, silent).await, network.engine_with(11, slow).await);
    let policy = "  trafficPolicy: {timeout: 300ms}";
    network.write("silent.yaml", &network.model_server_yaml("silent", "m", &[10], policy));
    network.write("slow.yaml", &network.model_server_yaml("slow", "m", &[11], policy));
    network.write("routes.yaml", &(route_yaml("silent", "silent", "silent") + &route_yaml("slow", "slow", "slow")));
    let harness = network.start(&[]).await;
    let answer = harness.complete("silent").await;
    assert_eq!((answer.status, answer.json()["error"]["code"].as_str()), (504, Some("upstream_timeout")));
    assert_eq!(answer.header("retry-after"), None);
    assert_eq!(silent.requests(), 1, "another attempt would only add to the time");
    harness.until("the engine is left", async || silent.aborted() == 1).await;
    harness.logged("\" 504 error=upstream_timeout ").await;
    // The head of a stream comes at once, and its tokens may take longer.
    let body = r#"{"model":"slow","prompt":"x","stream":true}"#;
    let answer = Wire::open(&harness).await.ask(post(PATH, "", body)).await;
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    assert_eq!((slow.requests(), slow.aborted()), (1, 0));
}

#[actix_web::test]
async fn an_old_connection_loses_no_request() {
    let (harness, mut engine) = behind(EngineConfig::new("m"), &[]).await;
    for _ in 0..5 {
        assert_eq!(harness.complete("public").await.answered_by(), "m");
        let config =
            EngineConfig { addresses: vec![harness.host(10)], ports: vec![ENGINE_PORT], ..EngineConfig::new("m") };
        engine.stop().await;
        // An engine's threads may close a connection after it has said that it stopped; a request that is sent on one
        // which is not closed yet is lost, and may not be sent twice.
        let socket = SocketAddr::new(harness.host(10), ENGINE_PORT);
        harness.until("the old connections are closed", async || !is_connected(socket)).await;
        engine = simulated_engine::start(config).await.unwrap();
        assert_eq!(harness.complete("public").await.answered_by(), "m");
    }
}

/// Returns whether somebody has a connection of this server.
fn is_connected(server: SocketAddr) -> bool {
    let mut sockets = procfs::net::tcp().unwrap().into_iter();
    sockets.any(|socket| socket.local_address == server && socket.state == TcpState::Established)
}

#[actix_web::test]
async fn an_endpoint_may_have_an_address_of_either_family() {
    let network = Network::new();
    let engine = network.engine(10, "m").await;
    let IpAddr::V4(address) = network.host(10) else { panic!("hosts of networks have IPv4 addresses") };
    let (v4, v6) = (format!("podIP: {address}"), format!("podIP: \"{}\"", address.to_ipv6_mapped()));
    network.write("pod.yaml", &pod_yaml("pod", "m", address.into()).replace(&v4, &v6));
    let harness = start(network, &[], "", &[]).await;
    assert_eq!(harness.complete("public").await.answered_by(), "m");
    assert_eq!(engine.requests(), 1);
    let scraped = async || harness.metric("kthena_router_scrapes_total", &["outcome=\"ok\""]).await > 0.0;
    harness.until("its metrics are read", scraped).await;
}

#[actix_web::test]
async fn engines_are_reached_by_tls_and_verified_if_there_is_a_ca() {
    for (case, ca, served) in
        [("no CA", None, true), ("its CA", Some("own"), true), ("another CA", Some("other"), false)]
    {
        let network = Network::new();
        let directory = tempfile::TempDir::new().unwrap();
        let path = |name: &str| directory.path().join(name);
        for name in ["own", "other"] {
            let key = KeyPair::generate().unwrap();
            let certificate =
                CertificateParams::new([network.host(10).to_string()]).unwrap().self_signed(&key).unwrap();
            std::fs::write(path(&format!("{name}.pem")), certificate.pem()).unwrap();
            std::fs::write(path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        let server = tls::server(&path("own.pem"), &path("own.key")).unwrap();
        let engine = tls_engine(network.host(10), Arc::unwrap_or_clone(server));
        let yaml = network.model_server_yaml("m", "m", &[10], "");
        network.write("m.yaml", &yaml.replace("{port: 8000}", "{port: 8000, protocol: https}"));
        network.write("route.yaml", &route_yaml("route", "public", "m"));
        let flag = ca.map(|name| format!("--engine-ca-cert={}", path(&format!("{name}.pem")).display()));
        let harness = network.start(&flag.iter().map(String::as_str).collect::<Vec<_>>()).await;
        let answer = harness.complete("public").await;
        if served {
            assert_eq!((answer.status, answer.text()), (200, format!("POST {PATH}")), "{case}");
        } else {
            assert_unavailable(case, &answer, "proxy");
        }
        engine.stop(false).await;
    }
}

/// Starts a router with endpoints of the model `m` on `hosts`, which clients call `public`.
async fn start(network: Network, hosts: &[u8], policy: &str, flags: &[&str]) -> Harness {
    network.write("server.yaml", &network.model_server_yaml("m", "m", hosts, policy));
    network.write("route.yaml", &route_yaml("route", "public", "m"));
    network.start(flags).await
}

fn assert_unavailable(case: &str, answer: &Answer, code: &str) {
    assert_eq!(answer.status, 503, "{case}: {}", answer.text());
    assert_eq!(answer.header("retry-after"), Some("1"), "{case}");
    assert_eq!(answer.header("content-type"), Some("application/json"), "{case}");
    let error = answer.json()["error"].clone();
    assert!(error["message"].is_string(), "{case}: {error}");
    assert_eq!((&error["type"], &error["param"], &error["code"]), (&json!("server_error"), &json!(null), &json!(code)));
}

/// Starts a server that speaks TLS and answers with what it was asked.
fn tls_engine(address: IpAddr, tls: rustls::ServerConfig) -> ServerHandle {
    let echo = async |request: actix_web::HttpRequest| {
        HttpResponse::Ok().body(format!("{} {}", request.method(), request.path()))
    };
    let server = HttpServer::new(move || App::new().default_service(web::to(echo)))
        .workers(1)
        .disable_signals()
        .bind_rustls_0_23((address, ENGINE_PORT), tls)
        .unwrap()
        .run();
    let handle = server.handle();
    actix_web::rt::spawn(server);
    handle
}
