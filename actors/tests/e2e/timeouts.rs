//! Each part of a request has a time limit of its own, with a code of its own; a stream that breaks says so in the words of
//! its API, and one whose engine is silent can be kept alive.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::Value;
use simulated_engine::EngineConfig;

use crate::harness::{Answer, ENGINE_PORT, Harness, Network, route_yaml};
use crate::wire::{Wire, post};

const CHAT: &str = "/v1/chat/completions";
const RESPONSES: &str = "/v1/responses";
const MESSAGES: &str = "/v1/messages";
/// Longer than any test: whatever waits for it is never answered.
const NEVER: Duration = Duration::from_secs(3600);
/// Has the engine answer at once and then be silent.
const SILENT: &str = "x-simulate-fault: hang-after=0\r\n";
/// Has the engine be silent after its first events.
const STALLS: &str = "x-simulate-fault: hang-after=3\r\n";

fn body(model: &str, stream: bool) -> String {
    format!(r#"{{"model":"{model}","messages":[{{"role":"user","content":"x"}}],"max_tokens":50,"stream":{stream}}}"#)
}

/// Starts a router in front of engines on these hosts, with this traffic policy.
async fn start(network: Network, hosts: &[u8], policy: &str, flags: &[&str]) -> Harness {
    network.write("m.yaml", &network.model_server_yaml("m", "m", hosts, &format!("  trafficPolicy: {policy}")));
    network.write("route.yaml", &route_yaml("route", "m", "m"));
    network.start(flags).await
}

/// Sends a request and reads what comes of it, to the end of the connection where it breaks.
async fn ask(harness: &Harness, path: &str, headers: &str, stream: bool) -> (Answer, bool) {
    let mut client = Wire::open(harness).await;
    client.send(post(path, headers, &body("m", stream))).await;
    let mut answer = client.head().await.unwrap();
    if answer.header("transfer-encoding") != Some("chunked") {
        answer.body = client.sized(&answer).await.unwrap();
        return (answer, true);
    }
    loop {
        match client.chunk().await {
            Ok(chunk) if chunk.is_empty() => return (answer, true),
            Ok(chunk) => answer.body.extend(chunk),
            Err(_) => return (answer, false),
        }
    }
}

async fn counted(harness: &Harness, code: &str) -> f64 {
    harness.metric("kthena_router_requests_total", &[&format!("error_type=\"{code}\"")]).await
}

#[actix_web::test]
async fn each_limit_before_an_answer_has_its_own_code() {
    for (case, policy, flags, headers, stream, code) in [
        ("head", "{timeout: 200ms}", &[][..], "", false, "upstream_timeout"),
        ("head, by a flag", "{}", &["--first-byte-timeout=200ms"], "", false, "upstream_timeout"),
        ("first token", "{timeouts: {firstToken: 200ms}}", &[], SILENT, true, "first_token_timeout"),
        ("first token, by a flag", "{}", &["--first-token-timeout=200ms"], SILENT, true, "first_token_timeout"),
        ("in all", "{timeouts: {total: 200ms}}", &[], "", false, "total_timeout"),
        ("in all, by a flag", "{}", &["--total-timeout=200ms"], "", false, "total_timeout"),
        (
            "in all, before the first token",
            "{timeouts: {firstToken: 1h, total: 200ms}}",
            &[],
            SILENT,
            true,
            "total_timeout",
        ),
        ("the server's word counts", "{timeouts: {total: 200ms}}", &["--total-timeout=1h"], "", false, "total_timeout"),
    ] {
        let network = Network::new();
        let silent = EngineConfig { time_to_first_token: NEVER, ..EngineConfig::new("m") };
        let engine = network.engine_with(10, silent).await;
        let harness = start(network, &[10], policy, flags).await;
        for (path, field) in [(CHAT, "code"), (MESSAGES, "type")] {
            let (answer, _) = ask(&harness, path, headers, stream).await;
            let expected = if path == CHAT { code } else { "api_error" };
            assert_eq!(
                (answer.status, &answer.json()["error"][field]),
                (504, &Value::from(expected)),
                "{case}, {path}"
            );
            assert_eq!(answer.header("retry-after"), None, "{case}");
        }
        assert_eq!(counted(&harness, code).await, 2.0, "{case}");
        harness.logged(&format!("\" 504 error={code} ")).await;
        harness.until(&format!("the engine is left: {case}"), async || engine.running() == 0).await;
    }
}

#[actix_web::test]
async fn a_connection_that_is_not_made_in_time_has_its_own_code() {
    let network = Network::new();
    // It accepts connections, and never says anything in TLS.
    let _mute = TcpListener::bind((network.host(10), ENGINE_PORT)).unwrap();
    let server = network.model_server_yaml("m", "m", &[10], "  trafficPolicy: {timeouts: {connect: 200ms}}");
    network.write("m.yaml", &server.replace("{port: 8000}", "{port: 8000, protocol: https}"));
    network.write("route.yaml", &route_yaml("route", "m", "m"));
    let harness = network.start(&[]).await;
    let (answer, _) = ask(&harness, CHAT, "", false).await;
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (504, &Value::from("connect_timeout")));
    let attempts = ["outcome=\"connect_timeout\""];
    assert!(harness.metric("kthena_router_upstream_attempts_total", &attempts).await >= 1.0);
    assert_eq!(counted(&harness, "connect_timeout").await, 1.0);
}

#[actix_web::test]
async fn an_engine_whose_first_token_is_late_is_followed_by_another_one_as_the_retry_policy_says() {
    let network = Network::new();
    let slow = EngineConfig { time_to_first_token: NEVER, ..EngineConfig::new("m") };
    let (silent, _quick) = (network.engine_with(10, slow).await, network.engine(11, "m").await);
    let policy = "{timeouts: {firstToken: 200ms}, retry: {attempts: 1, retryInterval: 0s}}";
    let harness = start(network, &[10, 11], policy, &[]).await;
    let passes_over = async || {
        let (answer, is_whole) = ask(&harness, CHAT, "", true).await;
        assert_eq!((answer.status, is_whole), (200, true), "{}", answer.text());
        assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
        silent.requests() > 0
    };
    harness.until("a request meets the silent engine", passes_over).await;
    let late = ["outcome=\"first_token_timeout\""];
    assert!(harness.metric("kthena_router_upstream_attempts_total", &late).await >= 1.0);
    harness.until("the silent engine is left", async || silent.running() == 0).await;
}

#[actix_web::test]
async fn a_stream_that_is_broken_off_says_so_in_the_words_of_its_api() {
    for (limit, policy, faults, code) in [
        ("idle", "{timeouts: {idle: 200ms}}", STALLS, "idle_timeout"),
        ("in all", "{timeouts: {total: 500ms}}", STALLS, "total_timeout"),
        ("the engine", "{}", "x-simulate-fault: reset-after=3\r\n", "upstream_reset"),
        ("first token", "{timeouts: {firstToken: 300ms}, heartbeat: {interval: 20ms}}", SILENT, "first_token_timeout"),
    ] {
        let network = Network::new();
        let engine = network.engine_with(10, EngineConfig::new("m")).await;
        let harness = start(network, &[10], policy, &[]).await;
        for path in [CHAT, RESPONSES, MESSAGES] {
            let case = format!("{limit}, {path}");
            let (answer, is_whole) = ask(&harness, path, faults, true).await;
            assert_eq!((answer.status, is_whole), (200, false), "{case}: {}", answer.text());
            let text = answer.text();
            let event = text.trim_end().rsplit("\n\n").next().unwrap_or_default();
            let data: Value = serde_json::from_str(event.rsplit("data: ").next().unwrap()).expect(&case);
            if path == MESSAGES {
                assert!(event.starts_with("event: error\n"), "{case}: {event}");
                assert_eq!((&data["type"], &data["error"]["type"]), (&"error".into(), &"api_error".into()), "{case}");
            } else {
                assert_eq!(data["error"]["code"], code, "{case}: {event}");
            }
            if path == RESPONSES {
                let number = if faults == SILENT { 0 } else { 3 };
                assert_eq!((&data["type"], &data["sequence_number"]), (&"error".into(), &number.into()), "{case}");
            }
            assert!(!text.contains("[DONE]") && !text.contains("message_stop"), "{case}: {text}");
        }
        assert_eq!(counted(&harness, code).await, 3.0, "{limit}");
        harness.until(&format!("the engine is left: {limit}"), async || engine.running() == 0).await;
    }
}

#[actix_web::test]
async fn heartbeats_are_sent_while_an_engine_is_silent_and_only_if_asked_for() {
    let comment = ": heartbeat\n\n";
    let ping = "event: ping\ndata: {\"type\": \"ping\"}\n\n";
    for (case, policy, flags, path, expected) in [
        ("comments", "{heartbeat: {interval: 20ms}}", &[][..], CHAT, Some(comment)),
        ("by a flag", "{}", &["--heartbeat-interval=20ms"], RESPONSES, Some(comment)),
        ("pings", "{heartbeat: {interval: 20ms, form: Ping}}", &[], MESSAGES, Some(ping)),
        ("pings by a flag", "{}", &["--heartbeat-interval=20ms", "--heartbeat-form=ping"], MESSAGES, Some(ping)),
        ("a dialect without pings", "{heartbeat: {interval: 20ms, form: Ping}}", &[], CHAT, Some(comment)),
        ("nobody asked", "{}", &[], CHAT, None),
    ] {
        let network = Network::new();
        let slow = EngineConfig { time_to_first_token: Duration::from_millis(150), ..EngineConfig::new("m") };
        let _engine = network.engine_with(10, slow).await;
        let harness = start(network, &[10], policy, flags).await;
        let (answer, is_whole) = ask(&harness, path, "x-request-id: one\r\n", true).await;
        let text = answer.text();
        assert_eq!((answer.status, is_whole), (200, true), "{case}: {text}");
        match expected {
            Some(heartbeat) => {
                assert!(text.starts_with(heartbeat), "{case}: {text}");
                let rest = text.replace(heartbeat, "");
                assert!(!rest.contains("heartbeat") && !rest.contains("ping"), "{case}: {text}");
            }
            None => assert!(!text.contains("heartbeat"), "{case}: {text}"),
        }
        let (whole, _) = ask(&harness, path, "", false).await;
        assert!(whole.json().is_object(), "{case}: an answer that is no stream has no room for heartbeats");
    }
}

#[actix_web::test]
async fn heartbeats_do_not_keep_a_silent_engine_for_ever() {
    let network = Network::new();
    let engine = network.engine_with(10, EngineConfig::new("m")).await;
    let policy = "{timeouts: {idle: 300ms}, heartbeat: {interval: 20ms}}";
    let harness = start(network, &[10], policy, &[]).await;
    let (answer, is_whole) = ask(&harness, CHAT, STALLS, true).await;
    assert!(!is_whole && answer.text().contains(": heartbeat\n\n"), "{}", answer.text());
    assert!(answer.text().contains("idle_timeout"), "{}", answer.text());
    harness.until("the engine is left", async || engine.running() == 0).await;
}
