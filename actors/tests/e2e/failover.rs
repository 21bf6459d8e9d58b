//! The scenarios of failoverbench (methodology v0.1): one of two engines fails in a certain way, and its clients must get a
//! whole answer, or a clear error, and never a part that looks whole.
//!
//! Source: github.com/failoverbench/failoverbench. What it calls a fallback is the other endpoint of the pool here. Its baseline
//! has a time limit of 30 s, which is scaled down here with the time that its faults take, and two retries, which nobody has
//! to write here. Without a written limit S06 and S09 last as long as an engine may be silent: a prefill of ten minutes looks
//! the same. All the others hold with nothing written at all.

use std::net::SocketAddr;

use serde_json::Value;
use simulated_engine::EngineConfig;

use crate::harness::{ENGINE_PORT, Harness, Network, route_yaml};
use crate::wire::{Reply, ScriptedEngine, Wire, post};

const PATH: &str = "/v1/chat/completions";
const BODY: &str = r#"{"model":"m","messages":[],"stream":true}"#;
/// What the baseline has of limits.
const LIMITS: &str = "  trafficPolicy: {timeout: 500ms, timeouts: {idle: 500ms}}";
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
const LATE_TOKEN: Reply = Reply::Pause(head!(), "e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n");
/// Five events, whose ends come in chunks of their own.
macro_rules! five_events {
    () => {
        concat!(two_events!(), two_events!(), "10\r\ndata: {\"n\":\"1\"}\n\r\n1\r\n\n\r\n")
    };
}
macro_rules! two_events {
    () => {
        "10\r\ndata: {\"n\":\"1\"}\n\r\n1\r\n\n\r\n10\r\ndata: {\"n\":\"1\"}\n\r\n1\r\n\n\r\n"
    };
}
/// 40 events of 60.
macro_rules! forty_events {
    () => {
        concat!(
            five_events!(),
            five_events!(),
            five_events!(),
            five_events!(),
            five_events!(),
            five_events!(),
            five_events!(),
            five_events!()
        )
    };
}
const CUT: Reply = Reply::Close(concat!(head!(), forty_events!()));
const STALLED: Reply = Reply::Keep(concat!(head!(), forty_events!()));
/// The tenth event is no JSON.
const ODD_EVENT: Reply = Reply::Keep(concat!(
    head!(),
    five_events!(),
    two_events!(),
    two_events!(),
    "12\r\ndata: {\"broken\":\n\n\r\ne\r\ndata: [DONE]\n\n\r\n0\r\n\r\n"
));
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
const NO_PREFILL: Reply = Reply::Keep(
    "HTTP/1.1 400 Bad Request\r\ncontent-length: 46\r\n\r\n{\"error\":{\"code\":\"assistant_prefill_refused\"}}",
);
const SILENT: Reply = Reply::Keep("");
const ENDED: Reply = Reply::Close("");
const RESET: Reply = Reply::Reset("");

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
    client.send(post(PATH, "", BODY)).await;
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

/// Starts a router in front of two engines, the first of which fails, and asks until that one was asked; returns what became of
/// the last request, how many requests there were, and how many each engine has got.
async fn meet(policy: &str, replies: [&[Reply]; 2], case: &str) -> ((u16, String, bool), [usize; 3]) {
    let network = Network::new();
    let failing = ScriptedEngine::on(&network, 10, replies[0]).await;
    let other = ScriptedEngine::on(&network, 11, replies[1]).await;
    network.write("m.yaml", &network.model_server_yaml("m", "m", &[10, 11], policy));
    network.write("route.yaml", &route_yaml("route", "m", "m"));
    let harness = network.start(&[]).await;
    if let [Reply::Reset(_), ..] = replies[0] {
        failing.go_on();
    }
    for asked in 1..100 {
        let found = outcome(&harness).await;
        if !failing.received().is_empty() {
            return (found, [asked, failing.received().len(), other.received().len()]);
        }
    }
    panic!("{case}: the engine that fails is asked at some time");
}

#[actix_web::test]
async fn an_engine_that_fails_is_followed_by_another_or_its_client_is_told() {
    for (case, replies, needs_limits, expected) in [
        ("S01: 429 once", &[LIMITED, GOOD][..], false, Outcome::Fallback),
        ("S03: 500 once", &[FAILED, GOOD], false, Outcome::Fallback),
        ("S04: 503 for ever", &[UNAVAILABLE], false, Outcome::Fallback),
        ("S05: the connection is reset before the head", &[RESET], false, Outcome::Fallback),
        ("S05: the connection ends before the head", &[ENDED], false, Outcome::Fallback),
        ("S06: accepts and is silent", &[SILENT], true, Outcome::Fallback),
        ("S08: a stream that is cut", &[CUT], false, Outcome::Broken("upstream_reset")),
        ("S09: a stream that stalls", &[STALLED], true, Outcome::Broken("idle_timeout")),
        ("S10: an event that is no JSON", &[ODD_EVENT], false, Outcome::Passes("data: {\"broken\":\n\n")),
        ("S11: no end mark", &[NO_DONE], false, Outcome::Passes("data: {\"n\":\"1\"}\n\n")),
        ("S12: the context is too long", &[TOO_LONG], false, Outcome::Error(400, "context_length_exceeded")),
        ("S13: the content is refused", &[REFUSED], false, Outcome::Error(400, "content_policy_violation")),
    ] {
        for policy in ["", LIMITS] {
            if policy.is_empty() && needs_limits {
                continue;
            }
            let case = format!("{case}, with `{policy}`");
            let (found, [asked, failing, other]) = meet(policy, [replies, &[GOOD]], &case).await;
            check(&case, expected, &found);
            let most = asked + usize::from(expected == Outcome::Fallback);
            assert_eq!(failing + other, most, "{case}: one try, and one more where the other engine answers");
        }
    }
}

#[actix_web::test]
async fn a_limit_that_holds_everywhere_is_passed_on_after_few_tries() {
    let (found, [asked, first, second]) = meet("", [&[LIMITED], &[LIMITED]], "S02").await;
    check("S02: 429 for ever", Outcome::Error(429, "(\"retry-after\", \"2\")"), &found);
    assert_eq!([asked, first, second], [1, 1, 1], "S02: each engine is asked once");
}

#[actix_web::test]
async fn a_first_token_that_is_late_is_waited_for_unless_a_limit_is_written() {
    let case = "S07: the head at once, and the first token late";
    let network = Network::new();
    let slow = ScriptedEngine::on(&network, 10, &[LATE_TOKEN]).await;
    network.model_server("m", "m", &[10]);
    network.write("route.yaml", &route_yaml("route", "m", "m"));
    let harness = network.start(&[]).await;
    let mut client = Wire::open(&harness).await;
    let answer = client.head_of(post(PATH, "", BODY)).await;
    assert_eq!(answer.status, 200, "{case}: the head does not wait for it");
    slow.go_on();
    let mut text = Vec::new();
    while !text.ends_with(b"data: [DONE]\n\n") {
        text.extend(client.chunk().await.expect(case));
    }
    let written = "  trafficPolicy: {timeouts: {firstToken: 500ms}}";
    let (found, _) = meet(written, [&[LATE_TOKEN], &[GOOD]], case).await;
    check(case, Outcome::Fallback, &found);
}

#[actix_web::test]
async fn a_stream_that_is_cut_is_not_gone_on_with_by_an_engine_that_would_refuse_its_beginning() {
    let case = "S14: a cut stream, and a fallback that takes no beginnings of answers";
    let network = Network::new();
    let failing = ScriptedEngine::on(&network, 10, &[CUT]).await;
    let other = ScriptedEngine::on(&network, 11, &[NO_PREFILL]).await;
    network.write("m.yaml", &network.model_server_yaml("m", "m", &[10, 11], ""));
    network.write("route.yaml", &route_yaml("route", "m", "m"));
    let harness = network.start(&[]).await;
    let mut asked = 0;
    while failing.received().is_empty() {
        asked += 1;
        let found = outcome(&harness).await;
        let expected = match other.received().len() {
            // It was asked first, and refuses what is no beginning as well.
            refused if refused == asked => Outcome::Error(400, "assistant_prefill_refused"),
            _ => Outcome::Broken("upstream_reset"),
        };
        check(case, expected, &found);
    }
    assert_eq!(other.received().len(), asked - 1, "{case}: no 400 takes the place of the fault");
}

#[actix_web::test]
async fn an_outage_is_served_by_the_other_engine_until_it_ends() {
    let network = Network::new();
    let other = ScriptedEngine::on(&network, 11, &[GOOD]).await;
    network.model_server("m", "m", &[10, 11]);
    network.write("route.yaml", &route_yaml("route", "m", "m"));
    let harness = network.start(&[]).await;
    for _ in 0..20 {
        check("S15: an outage", Outcome::Fallback, &outcome(&harness).await);
    }
    assert_eq!(other.received().len(), 20, "S15: the other engine has them all");
    let tries = harness.metric("kthena_router_upstream_attempts_total", &["outcome=\"refused\""]).await;
    assert!(tries <= 4.0, "S15: {tries} tries for 20 requests");
    let primary = ScriptedEngine::start(SocketAddr::new(harness.host(10), ENGINE_PORT), &[GOOD]).await;
    let is_back = async || {
        check("S15: the outage ends", Outcome::Fallback, &outcome(&harness).await);
        !primary.received().is_empty()
    };
    harness.until("S15: the engine that was away is asked again", is_back).await;
}

#[actix_web::test]
async fn the_answer_of_the_other_engine_names_it_and_has_its_usage() {
    for stream in [false, true] {
        let case = format!("S16: 503 for ever, streamed {stream}");
        let network = Network::new();
        let failing = EngineConfig { error_rate: 1.0, error_status: 503, ..EngineConfig::new("m") };
        let (failing, other) = (network.engine_with(10, failing).await, network.engine(11, "m").await);
        network.model_server("m", "m", &[10, 11]);
        network.write("route.yaml", &route_yaml("route", "m", "m"));
        let harness = network.start(&[]).await;
        let options = if stream { r#","stream_options":{"include_usage":true}"# } else { "" };
        let body = format!(
            r#"{{"model":"m","messages":[{{"role":"user","content":"x"}}],"max_tokens":5,"stream":{stream}{options}}}"#
        );
        let mut asked = 0;
        while failing.requests() == 0 {
            asked += 1;
            let answer = Wire::open(&harness).await.ask(post(PATH, "", &body)).await;
            let text = answer.text();
            assert!(answer.status == 200 && text.contains("\"model\":\"m\""), "{case}: {text}");
            assert!(text.contains("\"completion_tokens\":"), "{case}: the usage is the client's: {text}");
        }
        assert_eq!(other.requests(), asked, "{case}");
        let tokens = harness.metric("kthena_router_tokens_total", &["token_type=\"output\""]).await;
        assert!(tokens > 0.0, "{case}: it is counted as well");
    }
}
