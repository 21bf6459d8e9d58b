//! Engines that close a connection at the moment when the next request arrives on it.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use tokio::net::TcpStream;

use super::{CHAT, MIB};
use crate::harness::{ENGINE_PORT, Harness, Network, route_yaml};
use crate::wire::{Reply, ScriptedEngine, Wire, post};

const OK: &str = "HTTP/1.1 200 OK\r\nkeep-alive: timeout=5\r\ncontent-length: 2\r\n\r\n{}";
const ANSWER: Reply = Reply::Keep(OK);
/// What an engine does that has closed the connection: nobody can tell whether it has read the request.
const GONE: Reply = Reply::Close("");
const REQUESTS: usize = 1000;

/// Starts a router in front of engines each of which replies so.
async fn start(hosts: &[u8], policy: &str, replies: &[Reply]) -> (Harness, Vec<ScriptedEngine>) {
    start_with(hosts, policy, replies, &[]).await
}

/// Starts the same with flags of the router.
async fn start_with(hosts: &[u8], policy: &str, replies: &[Reply], flags: &[&str]) -> (Harness, Vec<ScriptedEngine>) {
    let (network, mut engines) = (Network::new(), Vec::new());
    for host in hosts {
        engines.push(ScriptedEngine::on(&network, *host, replies).await);
    }
    network.write("m.yaml", &network.model_server_yaml("m", "m", hosts, policy));
    network.write("route.yaml", &route_yaml("route", "public", "m"));
    (network.start(flags).await, engines)
}

/// Case 19: a request meets the end of a connection that was kept.
#[actix_web::test]
async fn a_kept_connection_that_ends_without_a_word_costs_no_request_and_no_engine() {
    for (hosts, length, requests) in [
        (&[10, 11][..], 100, REQUESTS),
        (&[10], 100, REQUESTS),
        (&[10, 11], MIB, REQUESTS / 20),
        (&[10], MIB, REQUESTS / 20),
    ] {
        let case = format!("{} engines, {length} bytes", hosts.len());
        let (harness, engines) = start(hosts, "", &[Reply::First(OK)]).await;
        let mut client = Wire::open(&harness).await;
        for number in 0..requests {
            let body = format!(r#"{{"model":"public","user":"{number:04}","prompt":"{}"}}"#, "x".repeat(length));
            let answer = client.ask(post(CHAT, "", &body)).await;
            assert_eq!(answer.status, 200, "{case}, request {number}: {}", answer.text());
        }
        let numbers = |engine: &ScriptedEngine| -> BTreeSet<Vec<u8>> {
            engine.received().into_iter().map(|request| request.body[..60].to_vec()).collect()
        };
        let seen = engines.iter().map(|engine| numbers(engine).len()).sum::<usize>();
        assert_eq!(seen, requests, "{case}: a request that is sent again is sent to the same engine");
        let received = engines.iter().map(|engine| engine.received().len()).sum::<usize>();
        let connections = engines.iter().map(ScriptedEngine::connections).sum::<usize>();
        assert!(
            requests < received && received < 2 * requests,
            "{case}: each is sent again once at most, and not {received}"
        );
        assert_eq!(connections, requests, "{case}: and answered on a fresh connection");
        let ejected = harness.metric("kthena_router_endpoints", &["state=\"ejected\""]).await;
        assert_eq!(ejected, 0.0, "{case}: it is no failure of the engine");
    }
}

/// Case 19: an engine that ends its kept connection, and takes no other.
#[actix_web::test]
async fn an_engine_that_takes_no_fresh_connection_either_is_followed_by_another() {
    let (harness, engines) = start_with(&[10, 11], "", &[Reply::First(OK)], &["--metrics-scrape-interval=1h"]).await;
    let request = post(CHAT, "", r#"{"model":"public","prompt":"x"}"#);
    let ask_until = async |received: usize| {
        while engines[0].received().len() < received {
            assert_eq!(Wire::open(&harness).await.ask(&request).await.status, 200);
        }
    };
    ask_until(1).await;
    let address = SocketAddr::new(harness.host(10), ENGINE_PORT);
    engines[0].stop_listening();
    harness.until("nobody listens there", async || TcpStream::connect(address).await.is_err()).await;
    let before = engines[1].received().len();
    ask_until(2).await;
    assert!(engines[1].received().len() > before, "the other engine has answered");
    let refused = harness.metric("kthena_router_upstream_attempts_total", &["outcome=\"refused\""]).await;
    assert_eq!(refused, 1.0, "the first engine was asked again before the other one");
}

/// Case 19: an engine that has read a request, and resets its connection.
#[actix_web::test]
async fn a_kept_connection_that_is_reset_is_followed_by_as_many_attempts_as_are_written() {
    for (end, attempts, status, sends) in [
        (Reply::Reset(""), Some(0), 503, 1),
        (Reply::Reset(""), Some(1), 200, 2),
        (Reply::Reset(""), None, 503, 1),
        (GONE, Some(0), 503, 1),
        (GONE, Some(1), 200, 2),
        (GONE, None, 200, 2),
    ] {
        let case = format!("{end:?}, {attempts:?}");
        let policy = attempts.map(|attempts| format!("  trafficPolicy: {{retry: {{attempts: {attempts}}}}}"));
        let (harness, engines) = start(&[10], &policy.unwrap_or_default(), &[ANSWER, end, ANSWER]).await;
        let request = post(CHAT, "", r#"{"model":"public","prompt":"x"}"#);
        assert_eq!(Wire::open(&harness).await.ask(&request).await.status, 200, "{case}");
        engines[0].go_on();
        let answer = Wire::open(&harness).await.ask(&request).await;
        assert_eq!((answer.status, engines[0].received().len()), (status, 1 + sends), "{case}: {}", answer.text());
    }
}
