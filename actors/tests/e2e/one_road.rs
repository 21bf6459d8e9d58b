//! What holds for every request, whichever API routes it: what is sent once, what reaches engines, what clients are
//! told.

use std::time::Duration;

use serde_json::json;
use simulated_engine::{Engine, EngineConfig};

use crate::harness::{Answer, Harness, Network, PORT, gateway_yaml, pod_yaml, read, route_with, route_yaml};
use crate::http_routes::scene::{prefix, route_yaml as http_route_yaml, scene};
use crate::wire::{Reply, Wire, behind, behind_script, post};

const PATH: &str = "/v1/completions";
const REQUEST: &str = r#"{"model":"public","prompt":"Say something."}"#;
const ANSWER: Reply = Reply::Keep("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
const EXTENSION: &str = "--enable-gateway-api-inference-extension";
const NEVER: Duration = Duration::from_secs(3600);

/// Returns an InferencePool of the Pods of the app `p`, with the rule of an HTTPRoute to it; `rule` is the inside of a
/// rule.
fn pool_yaml(rule: &str) -> String {
    format!(
        "apiVersion: inference.networking.k8s.io/v1\nkind: InferencePool\nmetadata: {{name: p}}\nspec: \
         {{targetPorts: [{{number: 8000}}], selector: {{matchLabels: {{app: p}}}}}}\n---\n\
         apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {{name: p}}\nspec:\n  \
         parentRefs: [{{name: g}}]\n  rules:\n    - backendRefs: [{{group: inference.networking.k8s.io, kind: InferencePool, name: p}}]\n      \
         {rule}\n---\n"
    )
}

/// Starts a router in front of a pool of engines on these hosts, which clients call by the model `m`.
async fn behind_pool(network: Network, hosts: &[u8], rule: &str, flags: &[&str]) -> Harness {
    let pods = hosts.iter().map(|host| pod_yaml(&format!("p-{host}"), "p", network.host(*host)));
    network.write("pods.yaml", &pods.collect::<String>());
    network.write("pool.yaml", &(gateway_yaml("g", &[(PORT, None)]) + &pool_yaml(rule)));
    let flags: Vec<_> = [EXTENSION].iter().chain(flags).copied().collect();
    network.start(&flags).await
}

fn requests(engines: &[Engine]) -> u64 {
    engines.iter().map(Engine::requests).sum()
}

#[actix_web::test]
async fn a_post_that_an_engine_has_read_is_sent_again_on_one_fresh_connection_alone() {
    // The engine keeps its connection after the first answer, and closes it when it has read the second request, as one
    // does that closes an idle connection; and it closes the fresh one as well, as one does that a request breaks.
    let (harness, engine) = behind_script(&[ANSWER, Reply::Close("")]).await;
    assert_eq!(harness.complete("public").await.text(), "{}");
    assert_eq!(harness.complete("public").await.status, 503);
    assert_eq!(engine.received().len(), 3);
    let counted = |outcome: &'static str| {
        let harness = &harness;
        async move {
            let labels = [&*format!("outcome=\"{outcome}\""), "pool=\"ModelServer default/m\""];
            harness.metric("kthena_router_upstream_attempts_total", &labels).await
        }
    };
    assert_eq!((counted("answered").await, counted("broken").await), (1.0, 2.0), "every send is counted");
}

#[actix_web::test]
async fn the_last_answer_of_an_engine_passes_whole() {
    let busy = "HTTP/1.1 503 Service Unavailable\r\nretry-after: 17\r\nx-engine: busy\r\ncontent-length: 4\r\n\r\nbusy";
    let (harness, engine) = behind_script(&[Reply::Keep(busy)]).await;
    let answer = harness.complete("public").await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "busy"));
    assert_eq!((answer.header("retry-after"), answer.header("x-engine")), (Some("17"), Some("busy")));
    assert_eq!(engine.received().len(), 1, "there is no other engine, and this one is not asked twice");
}

#[actix_web::test]
async fn an_answer_that_cannot_be_read_is_not_asked_for_again() {
    let (harness, engine) = behind_script(&[Reply::Close("SSH-2.0-OpenSSH_9.6\r\n")]).await;
    let answer = harness.complete("public").await;
    let error = answer.json()["error"]["message"].to_string();
    assert!(answer.status == 503 && error.contains("cannot be read"), "{error}");
    assert_eq!(engine.received().len(), 1);
}

#[actix_web::test]
async fn an_engine_of_a_pool_that_is_unavailable_costs_no_request() {
    for status in [502, 503, 504] {
        let network = Network::new();
        let bad = EngineConfig { error_rate: 1.0, error_status: status, ..EngineConfig::new("m") };
        let engines = [network.engine_with(10, bad).await, network.engine(11, "m").await];
        let harness = behind_pool(network, &[10, 11], "matches: [{path: {value: /}}]", &[]).await;
        for _ in 0..20 {
            assert_eq!(harness.complete("m").await.answered_by(), "m", "{status}");
        }
        assert_eq!(engines[1].requests(), 20, "{status}");
    }
}

#[actix_web::test]
async fn a_written_retry_moves_on_from_an_engine_that_is_late() {
    let network = Network::new();
    let silent = EngineConfig { time_to_first_token: NEVER, ..EngineConfig::new("m") };
    let _engines = [network.engine_with(10, silent).await, network.engine(11, "m").await];
    let policy = "  trafficPolicy: {timeout: 300ms, retry: {attempts: 1, retryInterval: 0s}}";
    network.write("m.yaml", &network.model_server_yaml("m", "m", &[10, 11], policy));
    network.write("route.yaml", &route_yaml("route", "public", "m"));
    let harness = network.start(&[]).await;
    for _ in 0..4 {
        assert_eq!(harness.complete("public").await.answered_by(), "m");
    }
}

#[actix_web::test]
async fn an_adapter_that_one_engine_has_is_found() {
    let network = Network::new();
    let without = || EngineConfig { error_rate: 1.0, error_status: 404, ..EngineConfig::new("m") };
    let engines = [
        network.engine_with(10, without()).await,
        network.engine_with(11, without()).await,
        network.engine(12, "m").await,
    ];
    network.model_server("m", "m", &[10, 11, 12]);
    let rule = "- targetModels: [{modelServerName: m}]";
    network.write("route.yaml", &route_with("route", "loraAdapters: [adapter]", "default", rule));
    engines[2].faults().clear();
    let harness = network.start(&[]).await;
    let found = async || harness.complete("adapter").await.status;
    let before = requests(&engines);
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(found().await);
    }
    assert!(requests(&engines) > before + 6, "the engines without the adapter were asked first, now and then");
    assert!(engines[2].requests() == 6, "{statuses:?}");
}

#[actix_web::test]
async fn a_client_says_neither_who_it_is_nor_where_its_request_goes() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    let claims = "x-forwarded-for: 1.2.3.4\r\nforwarded: for=1.2.3.4\r\nx-real-ip: 1.2.3.4\r\nx-forwarded-host: other\r\n\
                  x-prefiller-host-port: 10.0.0.1:80\r\nx-data-parallel-host-port: 10.0.0.1:80\r\n\
                  x-gateway-destination-endpoint: 10.0.0.1:80\r\nx-kept: 1\r\n";
    assert_eq!(Wire::open(&harness).await.ask(post(PATH, claims, REQUEST)).await.status, 200);
    let headers = engine.last_request().unwrap().headers;
    let value = |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
    assert!(headers.iter().all(|(_, value)| !value.contains("1.2.3.4") && !value.contains("10.0.0.1")), "{headers:?}");
    let client = value("x-forwarded-for").unwrap();
    assert!(client.starts_with("127."), "{client}");
    assert_eq!(
        (value("x-forwarded-host").as_deref(), value("x-forwarded-proto").as_deref()),
        (Some("router"), Some("http"))
    );
    assert_eq!(value("x-kept").as_deref(), Some("1"));
}

#[actix_web::test]
async fn a_client_cannot_take_out_what_a_filter_sets() {
    let set = "{type: RequestHeaderModifier, requestHeaderModifier: {set: [{name: X-Tenant, value: mine}]}}";
    let rule =
        format!("- matches: [{{{}}}]\n  filters: [{set}]\n  backendRefs: [{{name: v1, port: 8080}}]\n", prefix("/"));
    let scene = scene(&http_route_yaml("r", &rule)).await;
    let request = "GET / HTTP/1.1\r\nhost: a\r\nconnection: x-tenant, x-forwarded-for, x-own\r\nx-own: 1\r\n\r\n";
    let seen = Wire::open(&scene.harness).await.ask(request).await.json();
    assert_eq!(seen["headers"]["x-tenant"], json!(["mine"]));
    assert!(seen["headers"]["x-forwarded-for"].is_array(), "{seen}");
    assert!(seen["headers"]["x-own"].is_null(), "{seen}");
}

#[actix_web::test]
async fn management_of_engines_is_not_a_clients_whatever_it_is_called() {
    let network = Network::new();
    let engine = network.engine(10, "m").await;
    let harness = behind_pool(network, &[10], "matches: [{path: {value: /}}]", &[]).await;
    let ask = async |method: &str, path: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n{{}}");
        Wire::open(&harness).await.ask(request).await
    };
    for path in ["/v1/load_lora_adapter", "//v1//load_lora_adapter", "/v1/%6coad_lora_adapter", "/sleep", "/METRICS"] {
        let answer = ask("POST", path).await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (404, &json!("route_not_found")), "{path}");
    }
    assert_eq!(ask("GET", "/metrics").await.status, 404);
    assert_eq!(engine.requests(), 0);
    let named = pool_yaml("matches: [{path: {type: Exact, value: /metrics}}]");
    harness.write("pool.yaml", &(gateway_yaml("g", &[(PORT, None)]) + &named));
    harness.until("a rule that names the path is followed", async || ask("GET", "/metrics").await.status == 200).await;
}

#[actix_web::test]
async fn a_path_cannot_leave_the_prefix_of_its_rule() {
    let rule = format!("- matches: [{{{}}}]\n  backendRefs: [{{name: v1, port: 8080}}]\n", prefix("/api"));
    let scene = scene(&http_route_yaml("r", &rule)).await;
    for (path, expected) in
        [("/api/..%2fsecret", 400), ("/api/%2e%2e%2Fsecret", 400), ("/api/..%5csecret", 400), ("/api/a%2fb", 200)]
    {
        let request = format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n");
        assert_eq!(Wire::open(&scene.harness).await.ask(request).await.status, expected, "{path}");
    }
}

#[actix_web::test]
async fn a_body_that_is_not_served_is_refused_in_plain_words() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    let long = format!(r#"{{"model":"{}"}}"#, "m".repeat(300));
    for (case, headers, body, status, word) in [
        ("a coding", "content-encoding: compress\r\n", "\u{1f}\u{9d}", 415, "encoding `compress`"),
        ("a form", "content-type: multipart/form-data; boundary=x\r\n", "--x--", 415, "multipart/form-data"),
        ("a long name", "", &*long, 400, "longer than 256 bytes"),
    ] {
        let answer = Wire::open(&harness).await.ask(post(PATH, headers, body)).await;
        assert_eq!(answer.status, status, "{case}: {}", answer.text());
        assert!(answer.text().contains(word), "{case}: {}", answer.text());
    }
    assert_eq!(engine.requests(), 0);
    let marked = format!("\u{feff}{REQUEST}");
    assert_eq!(Wire::open(&harness).await.ask(post(PATH, "", &marked)).await.status, 200, "a byte order mark");
}

#[actix_web::test]
async fn an_error_of_the_messages_api_has_its_shape() {
    let (harness, _engine) = behind(EngineConfig::new("m"), &[]).await;
    let body = r#"{"model":"unknown","max_tokens":1,"messages":[]}"#;
    let answer: Answer = read(harness.post_to(PORT, "/v1/messages").send_body(body).await.unwrap()).await;
    assert_eq!((answer.status, &answer.json()["type"]), (404, &json!("error")));
    assert_eq!(answer.json()["error"]["type"], "not_found_error");
}

#[actix_web::test]
async fn a_stream_that_breaks_off_says_so_before_it_ends() {
    let begun = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
                 a\r\ndata: {}\n\n\r\n";
    let (harness, _engine) = behind_script(&[Reply::Close(begun)]).await;
    let mut client = Wire::open(&harness).await;
    let body = REQUEST.replace('}', ",\"stream\":true}");
    client.send(post("/v1/chat/completions", "", &body)).await;
    client.head().await.unwrap();
    let mut said = String::new();
    while let Ok(chunk) = client.chunk().await {
        assert!(!chunk.is_empty(), "the stream must not end in order: {said}");
        said += &String::from_utf8(chunk).unwrap();
    }
    assert!(said.starts_with("data: {}\n\ndata: {\"error\"") && said.ends_with("\n\n"), "{said}");
    harness.logged("error_message=\"the connection ended before the answer\"").await;
}

#[actix_web::test]
async fn a_running_stream_outlives_the_time_of_its_request() {
    let network = Network::new();
    let slow = EngineConfig { time_per_output_token: Duration::from_millis(50), ..EngineConfig::new("m") };
    let _engine = network.engine_with(10, slow).await;
    let rule = "matches: [{path: {value: /}}]\n      timeouts: {request: 300ms, backendRequest: 300ms}";
    let harness = behind_pool(network, &[10], rule, &[]).await;
    let body = r#"{"model":"m","prompt":"x","stream":true,"max_tokens":20}"#;
    let answer = Wire::open(&harness).await.ask(post(PATH, "", body)).await;
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
}

#[actix_web::test]
async fn an_engine_that_pauses_too_long_is_left() {
    let network = Network::new();
    let engine = network.engine(10, "m").await;
    engine.faults().set_hang_after(Some(1));
    let rule = "matches: [{path: {value: /}}]";
    let harness = behind_pool(network, &[10], rule, &["--idle-timeout=300ms", "--first-byte-timeout=300ms"]).await;
    let body = r#"{"model":"m","prompt":"x","stream":true}"#;
    let mut client = Wire::open(&harness).await;
    client.send(post(PATH, "", body)).await;
    client.answer().await.expect_err("the stream is broken off");
    harness.until("the engine is left", async || engine.running() == 0).await;
    engine.faults().clear();
    engine.faults().set_hang(true);
    assert_eq!(harness.complete("m").await.status, 504);
}

#[actix_web::test]
async fn a_body_that_is_passed_on_is_checked_on_its_way() {
    let rule = format!("- matches: [{{{}}}]\n  backendRefs: [{{name: v1, port: 8080}}]\n", prefix("/"));
    let network = Network::new();
    let _backend = crate::http_routes::backends::Backend::start(network.host(10), "v1").await;
    let service = crate::http_routes::scene::service_yaml("v1", &[network.host(10)], "");
    let gateway = gateway_yaml("gateway", &[(PORT, None)]);
    network.write("all.yaml", &(gateway + &service + &http_route_yaml("r", &rule)));
    let harness = network.start(&["--max-body-bytes=100000"]).await;
    let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let piece = format!("ffff\r\n{}\r\n", "x".repeat(0xffff));
    for (case, body, status) in [
        ("more than is allowed", piece.repeat(2) + "0\r\n\r\n", 413),
        ("a chunk without a size", "zz\r\n".to_owned(), 400),
        ("as much as is allowed", piece.clone() + "0\r\n\r\n", 200),
    ] {
        let mut client = Wire::open(&harness).await;
        client.try_send(format!("{head}{body}")).await.ok();
        assert_eq!(client.head().await.unwrap().status, status, "{case}");
    }
}

#[actix_web::test]
async fn a_line_of_the_access_log_says_who_asked_for_what() {
    let network = Network::new();
    let _engine = network.engine(10, "m").await;
    let harness = behind_pool(network, &[10], "matches: [{path: {value: /}}]", &[]).await;
    let body = r#"{"model":"m","prompt":"x","stream":true}"#;
    let headers = "user-agent: test/1\r\nx-request-id: line-1\r\n";
    let answer = Wire::open(&harness).await.ask(post(PATH, headers, body)).await;
    let log = harness.logged(" request_id=line-1 ").await;
    for field in [
        "model_name=m inference_pool=default/p ",
        "backend_type=inference_pool ",
        " client=127.",
        " host=router ",
        " user_agent=test/1 ",
        " stream=true ",
        &format!(" bytes_sent={} ", answer.body.len()),
    ] {
        assert!(log.contains(field), "{field}: {log}");
    }
    let labels = ["backend_type=\"inference_pool\"", "backend_name=\"default/p\""];
    assert_eq!(harness.metric("kthena_router_requests_total", &labels).await, 1.0);
}

#[actix_web::test]
async fn models_can_be_asked_for_by_name_and_for_their_health() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    let model = harness.get("/v1/models/public").await;
    assert_eq!((model.status, &model.json()["root"]), (200, &json!("m")));
    assert_eq!(harness.get("/v1/models/unknown").await.status, 404);
    for path in ["/health", "/ping"] {
        assert_eq!(harness.get(path).await.status, 200, "{path}");
    }
    assert_eq!(engine.requests(), 0, "an engine is not asked");
    harness.remove("server-m.yaml");
    harness.until("nobody is left", async || harness.get("/health").await.status == 503).await;
}
