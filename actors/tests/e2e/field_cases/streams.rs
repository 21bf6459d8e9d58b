//! Streams that are cut, and engines that are silent.

use std::time::Duration;

use serde_json::Value;
use simulated_engine::EngineConfig;

use super::{CHAT, chunk};
use crate::harness::{Harness, Network, route_yaml};
use crate::wire::{Reply, Wire, behind_script_with, post};

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
const STREAM: &str = r#"{"model":"public","messages":[],"stream":true,"stream_options":{"include_usage":true}}"#;
const WHOLE: &str = r#"{"model":"public","messages":[]}"#;
const LAST: &str = "0\r\n\r\n";
const GOOD: Reply = Reply::Keep("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
/// Longer than any test: whatever waits for it is never answered.
const NEVER: Duration = Duration::from_secs(3600);

fn event(number: usize) -> String {
    format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{number}\"}}}}]}}\n\n")
}

/// Returns the head of a stream, and so many events, each in a chunk of its own.
fn events(count: usize) -> String {
    HEAD.to_owned() + &(0..count).map(|number| chunk(&event(number))).collect::<String>()
}

/// Sends a request, and returns what came of its answer, and whether that is its end. It has `go_on` called when it has
/// so many chunks.
async fn ask(harness: &Harness, body: &str, (chunks, go_on): (usize, impl Fn())) -> (Vec<String>, bool) {
    let mut client = Wire::open(harness).await;
    let answer = client.head_of(post(CHAT, "x-request-id: one\r\n", body)).await;
    assert_eq!(answer.status, 200);
    if answer.header("transfer-encoding") != Some("chunked") {
        return (Vec::new(), client.sized(&answer).await.is_ok());
    }
    let mut found = Vec::new();
    loop {
        match client.chunk().await {
            Ok(chunk) if chunk.is_empty() => return (found, true),
            Ok(chunk) => found.push(String::from_utf8(chunk).unwrap()),
            Err(_) => return (found, false),
        }
        if found.len() == chunks {
            go_on();
        }
    }
}

/// Case 5: a cut stream that is reported as a success.
#[actix_web::test]
async fn a_stream_that_is_cut_never_looks_whole_and_one_that_ends_oddly_passes() {
    let finish = "data: {\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n";
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"model\":\"m\",\"choices\":[";
    for (case, reply, count, error) in [
        ("(a) closed without a last chunk", Reply::Close(events(40).leak()), 40, Some("upstream_reset")),
        ("(b) reset", Reply::Reset(events(40).leak()), 40, Some("upstream_reset")),
        ("(c) no finish and no end mark", Reply::Keep((events(40) + LAST).leak()), 40, None),
        ("(d) no end mark", Reply::Keep((events(40) + &chunk(finish) + LAST).leak()), 41, None),
        ("(e) shorter than its length", Reply::Close(half), 0, Some("upstream_reset")),
        ("(f) silent after 20 events", Reply::Keep(events(20).leak()), 20, Some("idle_timeout")),
    ] {
        let (harness, engine) = behind_script_with(&[reply, GOOD], &["--idle-timeout=500ms"]).await;
        let body = if case.starts_with("(e)") { WHOLE } else { STREAM };
        let (mut found, is_whole) = ask(&harness, body, (40, || engine.go_on())).await;
        assert_eq!(is_whole, error.is_none(), "{case}: {found:?}");
        if let (Some(code), true) = (error, body == STREAM) {
            let told = found.pop().unwrap();
            let told: Value = serde_json::from_str(told.strip_prefix("data: ").expect(case)).expect(case);
            assert_eq!(told["error"]["code"], code, "{case}");
        }
        let expected: Vec<_> =
            (0..count).map(|number| if number < 40 { event(number) } else { finish.to_owned() }).collect();
        assert!(found == expected || body == WHOLE, "{case}: {found:?}");
        let said = error.map_or_else(|| "\" 200 ".to_owned(), |code| format!("\" 200 error={code} "));
        let log = harness.logged(" request_id=one ").await;
        assert!(log.contains(&said), "{case}: {log}");
        assert_eq!(engine.received().len(), 1, "{case}: nothing is tried again after the first byte");
        let next = Wire::open(&harness).await.ask(post(CHAT, "", STREAM)).await;
        assert_eq!((next.status, engine.received().len()), (200, 2), "{case}: the next request");
    }
}

/// Case 21: a silent engine for which no limit holds, and attempts that outlive their client.
#[actix_web::test]
async fn a_silent_engine_costs_one_time_limit_and_nothing_once_its_client_has_left() {
    for (stream, leaves) in [(false, false), (true, false), (false, true), (true, true)] {
        let case = format!("streamed {stream}, the client leaves {leaves}");
        let network = Network::new();
        let silent = EngineConfig { time_to_first_token: NEVER, ..EngineConfig::new("m") };
        let (silent, other) = (network.engine_with(10, silent).await, network.engine(11, "m").await);
        // It says nothing at all, where others say at once that a stream begins.
        silent.faults().set_hang(true);
        let server = network.model_server_yaml("m", "m", &[10, 11], "  trafficPolicy: {timeout: 2s}");
        network.write("m.yaml", &server);
        network.write("route.yaml", &route_yaml("route", "public", "m"));
        let harness = network.start(&[]).await;
        let request =
            post(CHAT, "", &format!(r#"{{"model":"public","messages":[],"max_tokens":3,"stream":{stream}}}"#));
        let mut asked = 0;
        let mut client = loop {
            let mut client = Wire::open(&harness).await;
            client.send(&request).await;
            let is_known = async || silent.running() == 1 || other.requests() > asked;
            harness.until("the request has met an engine", is_known).await;
            if silent.running() == 1 {
                break client;
            }
            assert_eq!(client.answer().await.unwrap().status, 200, "{case}");
            asked += 1;
        };
        if leaves {
            drop(client);
        } else {
            assert_eq!(client.answer().await.unwrap().status, 200, "{case}: the other engine answers after one limit");
        }
        harness.until(&format!("the silent engine is left: {case}"), async || silent.running() == 0).await;
        let is_over = async || harness.metric("kthena_router_active_requests", &[]).await == 0.0;
        harness.until(&format!("the request is over: {case}"), is_over).await;
        // What is over makes no further attempt.
        let expected = (1, asked + u64::from(!leaves));
        assert_eq!((silent.requests(), other.requests()), expected, "{case}");
    }
}
