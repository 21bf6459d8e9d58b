//! The scenarios of failoverbench (methodology v0.1): one of two engines fails in a certain way, and its clients must get a
//! whole answer, or a clear error, and never a part that looks whole.
//!
//! Source: github.com/failoverbench/failoverbench. What it calls a fallback is the other endpoint of the pool here. The time
//! that its faults take is scaled down with the limits.

use serde_json::Value;

use crate::harness::{Harness, Network, route_yaml};
use crate::wire::{Reply, ScriptedEngine, Wire, post};

const PATH: &str = "/v1/chat/completions";
/// What an operator would write for it.
const POLICY: &str = "{timeout: 500ms, timeouts: {firstToken: 500ms, idle: 500ms}, \
                      retry: {attempts: 2, retryInterval: 0s}}";
/// A stream whose events are whole, with its usage and its end.
const GOOD: Reply = Reply::Keep(concat!(
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    "31\r\ndata: {\"model\":\"fallback\",\"choices\":[{\"a\":\"b\"}]}\n\r\n",
    "1\r\n\n\r\n",
    "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
));
/// The head of a stream.
macro_rules! head {
    () => {
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    };
}
const NO_TOKEN: Reply = Reply::Keep(head!());
const CUT: Reply = Reply::Close(concat!(head!(), "10\r\ndata: {\"n\":\"1\"}\n\r\n1\r\n\n\r\n"));
const STALLED: Reply = Reply::Keep(concat!(head!(), "10\r\ndata: {\"n\":\"1\"}\n\r\n1\r\n\n\r\n"));
const ODD_EVENT: Reply =
    Reply::Keep(concat!(head!(), "12\r\ndata: {\"broken\":\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"));
const NO_DONE: Reply = Reply::Keep(concat!(head!(), "10\r\ndata: {\"n\":\"1\"}\n\r\n1\r\n\n\r\n0\r\n\r\n"));
const LIMITED: Reply = Reply::Keep("HTTP/1.1 429 Too Many Requests\r\nretry-after: 2\r\ncontent-length: 2\r\n\r\n{}");
const FAILED: Reply = Reply::Keep("HTTP/1.1 500 Internal Server Error\r\ncontent-length: 2\r\n\r\n{}");
const UNAVAILABLE: Reply = Reply::Keep("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}");
const TOO_LONG: Reply = Reply::Keep(
    "HTTP/1.1 400 Bad Request\r\ncontent-length: 46\r\n\r\n{\"error\":{\"code\":\"context_length_exceeded\"}}  ",
);
const REFUSED: Reply = Reply::Keep(
    "HTTP/1.1 400 Bad Request\r\ncontent-length: 46\r\n\r\n{\"error\":{\"code\":\"content_policy_violation\"}} ",
);
const SILENT: Reply = Reply::Keep("");
const RESET: Reply = Reply::Close("");

/// What a client gets.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Outcome {
    /// The whole stream of the other engine.
    Fallback,
    /// The engine's own words to the end.
    Passes(&'static str),
    /// An error within the stream, with this code, and then the end of the connection.
    Broken(&'static str),
    /// The engine's own error, with this text, or this header.
    Error(u16, &'static str),
}

/// Sends one request, and returns what became of it.
async fn outcome(harness: &Harness) -> (u16, String, bool) {
    let mut client = Wire::open(harness).await;
    client.send(post(PATH, "", r#"{"model":"m","messages":[],"stream":true}"#)).await;
    let mut answer = client.head().await.unwrap();
    let headers = format!("{:?}", answer.headers);
    if answer.header("transfer-encoding") != Some("chunked") {
        let text = String::from_utf8(client.sized(&answer).await.unwrap()).unwrap();
        return (answer.status, headers + &text, true);
    }
    loop {
        match client.chunk().await {
            Ok(chunk) if chunk.is_empty() => return (answer.status, headers + &answer.text(), true),
            Ok(chunk) => answer.body.extend(chunk),
            Err(_) => return (answer.status, headers + &answer.text(), false),
        }
    }
}

fn check(case: &str, expected: Outcome, (status, text, is_whole): &(u16, String, bool)) {
    let found = format!("{case}: {status} {text} whole {is_whole}");
    match expected {
        Outcome::Fallback => {
            assert!(*status == 200 && *is_whole && text.contains("fallback") && text.contains("[DONE]"), "{found}");
        }
        Outcome::Passes(words) => assert!(*status == 200 && *is_whole && text.contains(words), "{found}"),
        Outcome::Error(code, words) => assert!(*status == code && text.contains(words), "{found}"),
        Outcome::Broken(code) => {
            assert!(*status == 200 && !is_whole && !text.contains("[DONE]"), "{found}");
            let event = text.trim_end().rsplit("data: ").next().unwrap();
            let event: Value = serde_json::from_str(event).unwrap_or_else(|error| panic!("{error}: {found}"));
            assert_eq!(event["error"]["code"], code, "{found}");
        }
    }
}

#[actix_web::test]
async fn an_engine_that_fails_is_followed_by_another_or_its_client_is_told() {
    for (case, replies, expected) in [
        ("S01: 429 once", &[LIMITED, GOOD][..], Outcome::Fallback),
        ("S03: 500 once", &[FAILED, GOOD], Outcome::Fallback),
        ("S04: 503 for ever", &[UNAVAILABLE], Outcome::Fallback),
        ("S05: the connection ends before the head", &[RESET], Outcome::Fallback),
        ("S06: accepts and is silent", &[SILENT], Outcome::Fallback),
        ("S07: the head at once and no token", &[NO_TOKEN], Outcome::Fallback),
        ("S08: a stream that is cut", &[CUT], Outcome::Broken("upstream_reset")),
        ("S09: a stream that stalls", &[STALLED], Outcome::Broken("idle_timeout")),
        ("S10: an event that is no JSON", &[ODD_EVENT], Outcome::Passes("data: {\"broken\":\n\n")),
        ("S11: no end mark", &[NO_DONE], Outcome::Passes("data: {\"n\":\"1\"}\n\n")),
        ("S12: the context is too long", &[TOO_LONG], Outcome::Error(400, "context_length_exceeded")),
        ("S13: the content is refused", &[REFUSED], Outcome::Error(400, "content_policy_violation")),
        ("S14: a cut stream whose beginning the other one would refuse", &[CUT], Outcome::Broken("upstream_reset")),
        ("S16: 503 for ever, and usage", &[UNAVAILABLE], Outcome::Fallback),
    ] {
        let network = Network::new();
        let failing = ScriptedEngine::on(&network, 10, replies).await;
        let other = ScriptedEngine::on(&network, 11, &[GOOD]).await;
        let policy = format!("  trafficPolicy: {POLICY}");
        network.write("m.yaml", &network.model_server_yaml("m", "m", &[10, 11], &policy));
        network.write("route.yaml", &route_yaml("route", "m", "m"));
        let harness = network.start(&[]).await;
        let (mut found, mut asked) = (None, 0);
        while failing.received().is_empty() {
            assert!(asked < 100, "{case}: the engine that fails is asked at some time");
            asked += 1;
            found = Some(outcome(&harness).await);
        }
        check(case, expected, &found.unwrap());
        let tries = failing.received().len() + other.received().len();
        let most = asked + usize::from(expected == Outcome::Fallback);
        assert_eq!(tries, most, "{case}: one try, and one more where the other engine answers");
    }
}

#[actix_web::test]
async fn a_limit_that_holds_everywhere_is_passed_on_after_few_tries() {
    let network = Network::new();
    let engines =
        [ScriptedEngine::on(&network, 10, &[LIMITED]).await, ScriptedEngine::on(&network, 11, &[LIMITED]).await];
    network.write("m.yaml", &network.model_server_yaml("m", "m", &[10, 11], &format!("  trafficPolicy: {POLICY}")));
    network.write("route.yaml", &route_yaml("route", "m", "m"));
    let harness = network.start(&[]).await;
    check("S02: 429 for ever", Outcome::Error(429, "(\"retry-after\", \"2\")"), &outcome(&harness).await);
    let tries: usize = engines.iter().map(|engine| engine.received().len()).sum();
    assert_eq!(tries, 2, "S02: each engine is asked once");
}

#[actix_web::test]
async fn an_outage_is_served_by_the_other_engine_until_it_ends() {
    let network = Network::new();
    let _other = ScriptedEngine::on(&network, 11, &[GOOD]).await;
    network.write("m.yaml", &network.model_server_yaml("m", "m", &[10, 11], &format!("  trafficPolicy: {POLICY}")));
    network.write("route.yaml", &route_yaml("route", "m", "m"));
    let harness = network.start(&[]).await;
    for _ in 0..20 {
        check("S15: an outage", Outcome::Fallback, &outcome(&harness).await);
    }
    let tries = harness.metric("kthena_router_upstream_attempts_total", &["outcome=\"refused\""]).await;
    assert!(tries <= 4.0, "S15: {tries} tries for 20 requests");
}
