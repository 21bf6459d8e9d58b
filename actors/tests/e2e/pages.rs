//! What operators see: health, metrics, debug pages and the access log.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, TcpStream};

use kthena_router::object::Kind;
use kthena_router_actors::CAST;
use serde_json::{Value, json};
use simulated_engine::Engine;

use crate::harness::{Answer, Harness, Network, PORT, read, route_yaml};

/// A router that serves the model `m` by an engine that calls it `served`.
async fn one_model(flags: &[&str]) -> (Harness, Engine) {
    let network = Network::new();
    let engine = network.engine(10, "served").await;
    network.model_server("s", "served", &[10]);
    network.write("route.yaml", &route_yaml("r", "m", "s"));
    (network.start(flags).await, engine)
}

async fn post(harness: &Harness, path: &str, body: &str) -> Answer {
    let request = harness.post_to(PORT, path).insert_header(("x-request-id", "given-id"));
    read(request.send_body(body.to_owned()).await.unwrap()).await
}

/// One line of a metrics page.
struct Sample {
    name: String,
    labels: BTreeMap<String, String>,
    value: f64,
}

/// Reads a page in the OpenMetrics text format, and fails the test where it is not one.
fn samples(page: &str) -> Vec<Sample> {
    let body = page.strip_suffix("# EOF\n").expect("the page ends with its mark");
    let (mut families, mut series, mut samples) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    let (mut family, mut kind) = ("", "");
    for line in body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            let words: Vec<_> = comment.splitn(3, ' ').collect();
            let [what @ ("HELP" | "TYPE" | "UNIT"), subject, text] = words[..] else { panic!("{line}") };
            if what == "TYPE" {
                assert!(families.insert(subject), "a family twice: {line}");
                (family, kind) = (subject, text);
            }
            continue;
        }
        let (key, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
        let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("not of the family {family}: {line}"));
        match (kind, suffix) {
            ("counter", "_total") | ("gauge", "") | ("histogram", "_bucket" | "_sum" | "_count") => {}
            _ => panic!("no sample of a {kind}: {line}"),
        }
        assert!(series.insert(key), "a series twice: {line}");
        let value = value.parse().unwrap_or_else(|error| panic!("{error}: {line}"));
        samples.push(Sample { name: name.to_owned(), labels: read_labels(labels), value });
    }
    samples
}

/// Reads `name="value",…}`.
fn read_labels(mut text: &str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    while text != "}" {
        let (name, rest) = text.split_once("=\"").unwrap_or_else(|| panic!("no label: {text}"));
        let mut value = String::new();
        let mut characters = rest.char_indices();
        let end = loop {
            match characters.next().expect("the value ends") {
                (end, '"') => break end,
                (_, '\\') => value.push(match characters.next() {
                    Some((_, 'n')) => '\n',
                    Some((_, escaped @ ('"' | '\\'))) => escaped,
                    other => panic!("no escape: {other:?} in {rest}"),
                }),
                (_, other) => value.push(other),
            }
        };
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
        assert!(labels.insert(name.to_owned(), value).is_none(), "a label twice: {name}");
        text = rest[end + 1..].trim_start_matches(',');
    }
    labels
}

async fn page(harness: &Harness) -> Vec<Sample> {
    samples(&harness.get_open_metrics().await.text())
}

/// Returns the requests that were counted, by model, path, status and error type.
async fn requests(harness: &Harness) -> BTreeMap<[String; 4], f64> {
    let requests = page(harness).await.into_iter().filter(|sample| sample.name == "kthena_router_requests_total");
    let mut counts = BTreeMap::new();
    for sample in requests {
        let key = ["model", "path", "status_code", "error_type"].map(|label| sample.labels[label].clone());
        *counts.entry(key).or_default() += sample.value;
    }
    counts
}

#[actix_web::test]
async fn health_and_readiness() {
    let (harness, _engine) = one_model(&[]).await;
    for path in ["/healthz", "/livez"] {
        let answer = harness.get_metrics_page(path).await;
        assert_eq!((answer.status, answer.json()), (200, json!({"message": "ok"})), "{path}");
    }
    let ready = harness.get_metrics_page("/readyz").await;
    let expected = "[+] not draining\n[+] objects listed\n[+] plan published\n[+] ports reported\n\
                    [+] a port is open\nrouter is ready\n";
    assert_eq!((ready.status, ready.text().as_str()), (200, expected));
}

#[actix_web::test]
async fn requests_are_counted_by_what_became_of_them() {
    let (harness, _engine) = one_model(&[]).await;
    let completion = r#"{"model": "m", "prompt": "one two three", "max_tokens": 4}"#;
    let usage = post(&harness, "/v1/completions", completion).await.json()["usage"].clone();
    assert_eq!(post(&harness, "/v1/completions", completion).await.status, 200);
    assert_eq!(post(&harness, "/v1/completions", "{").await.status, 400);
    assert_eq!(post(&harness, "/v1/completions", r#"{"prompt": "x"}"#).await.status, 400);
    for number in 0..20 {
        let body = json!({"model": format!("nobody-{number}"), "prompt": "x"}).to_string();
        assert_eq!(post(&harness, "/v1/completions", &body).await.status, 404);
        assert_eq!(post(&harness, &format!("/v1/any/{number}"), completion).await.status, 404);
        assert_eq!(harness.get(&format!("/any/{number}")).await.status, 404);
    }
    let row = |model: &str, path: &str, status: &str, kind: &str| [model, path, status, kind].map(str::to_owned);
    let expected = BTreeMap::from([
        (row("m", "/v1/completions", "200", "successful_request"), 2.0),
        (row("unknown", "/v1/completions", "404", "route_not_found"), 20.0),
        (row("unknown", "/v1/completions", "400", "request_parsing"), 2.0),
        (row("unknown", "other", "404", "path_not_served"), 40.0),
    ]);
    harness.until("the last request is counted", async || requests(&harness).await.values().sum::<f64>() >= 64.0).await;
    assert_eq!(requests(&harness).await, expected);
    let page = page(&harness).await;
    let sum = |name: &str, labels: &[(&str, &str)]| -> f64 {
        let of = |sample: &&Sample| {
            labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|known| known == value))
        };
        page.iter().filter(|sample| sample.name == name).filter(of).map(|sample| sample.value).sum()
    };
    let names = [
        ("model", "m"),
        ("path", "/v1/completions"),
        ("model_route", "default/r"),
        ("backend_type", "model_server"),
        ("backend_name", "default/s"),
        ("upstream_model", "served"),
    ];
    assert_eq!(sum("kthena_router_requests_total", &names), 2.0);
    assert_eq!(sum("kthena_router_request_duration_seconds_count", &names), 2.0);
    for (kind, field) in [("input", "prompt_tokens"), ("output", "completion_tokens")] {
        let tokens = sum("kthena_router_tokens_total", &[&names[..], &[("token_type", kind)]].concat());
        assert_eq!(Some(tokens), usage[field].as_f64().map(|once| 2.0 * once), "{kind}");
    }
    let none =
        [("model", "unknown"), ("model_route", "none"), ("backend_type", "unresolved"), ("backend_name", "none")];
    assert_eq!(sum("kthena_router_requests_total", &none), 62.0);
    assert_eq!(sum("kthena_router_overhead_seconds_count", &[]), 2.0, "of those that went to an engine");
    assert_eq!(sum("kthena_router_upstream_attempts_total", &[("outcome", "answered")]), 2.0);
    assert_eq!(sum("kthena_router_active_requests", &[]), 0.0);
    assert_eq!(sum("kthena_router_active_downstream_requests", &[]), 0.0);
    assert_eq!(sum("kthena_router_active_upstream_requests", &[]), 0.0);
}

#[actix_web::test]
async fn every_actor_of_the_cast_shows_itself() {
    let scheduler = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(scheduler.path(), "scheduler: {}\n").unwrap();
    let (harness, _engine) = one_model(&[&format!("--scheduler-config={}", scheduler.path().display())]).await;
    assert_eq!(harness.complete("m").await.status, 200);
    let shows = async |metric: &str, actor: &str| {
        harness.metric(&format!("kthena_router_{metric}"), &[&format!("actor=\"{actor}\"")]).await > 0.0
    };
    for actor in CAST {
        for metric in ["actors_running", "actor_messages_total", "actor_message_seconds_count"] {
            harness.until(&format!("{actor} shows its {metric}"), async || shows(metric, actor).await).await;
        }
    }
    assert!(shows("actor_ask_seconds_count", "Scheduler").await, "an ask includes the wait in the mailbox");
    for kind in Kind::ALL {
        let ages: Vec<_> = page(&harness)
            .await
            .into_iter()
            .filter(|sample| sample.labels.get("kind").is_some_and(|label| label == kind.as_str()))
            .collect();
        assert_eq!(ages.len(), 1, "{kind}");
        assert_eq!(ages[0].name, "kthena_router_watcher_last_fact_age_seconds", "{kind}");
        assert!((0.0..60.0).contains(&ages[0].value), "{kind}: {}", ages[0].value);
    }
    assert_eq!(harness.metric("kthena_router_actor_panics_total", &[]).await, 0.0);
    assert_eq!(harness.metric("kthena_router_actor_restarts_total", &[]).await, 0.0);

    let actors = harness.get_debug_page("/debug/actors").await.json();
    let names: Vec<_> = actors["cast"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(BTreeSet::from_iter(names), CAST.iter().copied().collect());
    assert_eq!(actors["RouteRegistry"]["binds"], json!({format!("{}:{PORT}", harness.host(1)): "open"}));
    let wards = actors["Overseer"]["wards"].as_array().unwrap();
    assert!(wards.len() >= 9 && wards.iter().all(|ward| ward[1] == true), "{wards:?}");
}

#[actix_web::test]
async fn labels_with_special_characters_leave_the_page_readable() {
    let network = Network::new();
    let _engine = network.engine(10, "served").await;
    network.model_server("s", "served", &[10]);
    let name = "a \"quoted\" back\\slash";
    network.write("route.yaml", &route_yaml("r", &json!(name).to_string(), "s"));
    let harness = network.start(&[]).await;
    assert_eq!(harness.complete(name).await.status, 200);
    let counted = async || requests(&harness).await.keys().any(|[model, ..]| model == name);
    harness.until("the request is counted under its name", counted).await;
    let open = harness.get_open_metrics().await;
    let text = harness.get_metrics_page("/metrics").await;
    for (answer, media_type, counter) in [
        (open, "application/openmetrics-text; version=1.0.0", "# TYPE kthena_router_requests counter"),
        (text, "text/plain; version=0.0.4", "# TYPE kthena_router_requests_total counter"),
    ] {
        assert!(answer.header("content-type").unwrap().starts_with(media_type), "{:?}", answer.headers);
        assert!(answer.text().lines().any(|line| line == counter), "{}", answer.text());
    }
}

#[actix_web::test]
async fn the_configuration_dump_has_the_go_routers_shapes() {
    let empty = Network::new().start(&[]).await;
    for kind in ["modelroutes", "modelservers", "pods", "httproutes", "inferencepools"] {
        assert_eq!(empty.dump(kind).await.json(), json!({kind: []}), "{kind}");
    }
    let (harness, _engine) = one_model(&[]).await;
    let one = async |what: &str| harness.dump(&format!("namespaces/default/{what}")).await.json();
    let scraped = async || one("pods/s-10").await["metrics"]["gpuCacheUsage"].is_number();
    harness.until("the engine is scraped", scraped).await;
    let cases: [(&str, &str, &[&str]); 4] = [
        ("modelroutes", "r", &["spec", "status"]),
        ("modelservers", "s", &["spec", "associatedPods"]),
        ("pods", "s-10", &["engine", "metrics", "models", "modelServers", "podInfo"]),
        ("gateways", "default", &["spec", "status"]),
    ];
    for (kind, name, fields) in cases {
        let all = harness.dump(kind).await.json();
        let [object] = &all[kind].as_array().unwrap()[..] else { panic!("{kind}: {all}") };
        assert_eq!((&object["name"], &object["namespace"]), (&json!(name), &json!("default")), "{kind}");
        assert!(fields.iter().all(|field| object.get(field).is_some()), "{kind}: {object}");
        let one = harness.dump(&format!("namespaces/default/{kind}/{name}")).await;
        assert_eq!((one.status, &one.json()), (200, object), "{kind}");
        let missing = harness.dump(&format!("namespaces/default/{kind}/missing")).await;
        assert_eq!(missing.status, 404, "{kind}");
        assert!(missing.json()["error"].as_str().unwrap().contains("not found"), "{kind}: {}", missing.text());
    }
    assert_eq!(one("modelroutes/r").await["spec"]["modelName"], "m");
    assert_eq!(one("modelservers/s").await["spec"]["workloadPort"]["port"], 8000);
    assert_eq!(one("modelservers/s").await["associatedPods"], json!(["default/s-10"]));
    let pod = one("pods/s-10").await;
    assert_eq!((&pod["engine"], &pod["modelServers"]), (&json!("vLLM"), &json!(["default/s"])));
    assert_eq!(pod["podInfo"]["podIP"], json!(harness.host(10)));
    for figure in ["gpuCacheUsage", "requestWaitingNum", "requestRunningNum", "tpot", "ttft"] {
        assert!(pod["metrics"][figure].is_number(), "{figure}: {pod}");
    }
    assert_eq!(harness.dump("nonsense").await.status, 404);
}

#[actix_web::test]
async fn pages_are_reachable_on_their_own_ports_only() {
    let (harness, _engine) = one_model(&[]).await;
    let on_metrics_port = ["/healthz", "/livez", "/readyz", "/metrics"];
    let on_debug_port =
        ["/debug/actors", "/debug/config_dump/modelroutes", "/debug/config_dump/namespaces/default/pods/s-10"];
    for path in on_metrics_port.iter().chain(&on_debug_port) {
        assert_eq!(harness.get(path).await.status, 404, "GET {path} on the inference port");
        assert_eq!(post(&harness, path, r#"{"model": "m"}"#).await.status, 404, "POST {path} on the inference port");
    }
    for path in on_metrics_port {
        assert_eq!(harness.get_metrics_page(path).await.status, 200, "{path}");
        assert_eq!(harness.get_debug_page(path).await.status, 404, "{path} on the debug port");
    }
    for path in on_debug_port {
        assert_eq!(harness.get_debug_page(path).await.status, 200, "{path}");
        assert_eq!(harness.get_metrics_page(path).await.status, 404, "{path} on the metrics port");
    }
    assert!(TcpStream::connect((Ipv4Addr::LOCALHOST, harness.debug_port)).is_ok());
    assert!(
        TcpStream::connect((harness.host(1), harness.debug_port)).is_err(),
        "debug pages are for this machine only"
    );
    assert_eq!(harness.get_metrics_page("/v1/models").await.status, 404);
}

#[actix_web::test]
async fn the_access_log_as_text() {
    let (harness, _engine) = one_model(&[]).await;
    let answer = post(&harness, "/v1/completions?key=secret", r#"{"model": "m", "prompt": "x"}"#).await;
    let (usage, bytes, host) = (answer.json()["usage"].clone(), answer.body.len(), harness.host(1));
    let (read, written) = (&usage["prompt_tokens"], &usage["completion_tokens"]);
    let line = harness.logged("request_id=given-id").await;
    let (start, rest) = line.trim_end().strip_prefix('[').and_then(|line| line.split_once("] ")).unwrap();
    assert!(start.ends_with('Z') && start.contains('T') && start.contains('.'), "{start}");
    let (rest, timings) = rest.split_once(" timings=").unwrap();
    assert_eq!(
        rest,
        format!(
            "\"POST /v1/completions HTTP/1.1\" 200 model_name=m model_route=default/r model_server=default/s \
             selected_pod=s-10 request_id=given-id backend_type=model_server backend_name=default/s upstream_model=served \
             upstream_status_code=200 upstream_attempts=1 gateway=default/default client=127.0.0.1 host={host}:8080 \
             bytes_sent={bytes} tokens={read}/{written}"
        )
    );
    let (total, parts) = timings.strip_suffix("ms)").unwrap().split_once("ms(").unwrap();
    let parts: Vec<u64> = parts.split('+').map(|part| part.parse().unwrap()).collect();
    assert_eq!(parts.len(), 3, "{timings}");
    assert!(parts.iter().sum::<u64>() <= total.parse().unwrap(), "{timings}");

    assert_eq!(post(&harness, "/v1/completions", r#"{"model": "no\nbody"}"#).await.status, 404);
    let log = harness.logged("route_not_found").await;
    let line = log.lines().last().unwrap();
    assert!(line.contains("\" 404 error=route_not_found"), "{line}");
    assert!(line.contains("model_name=\"no\\nbody\" request_id=given-id gateway=default/default client="), "{line}");
    assert!(line.contains(" error_message=\"route not found: "), "{line}");
    assert_eq!(log.lines().count(), 2, "one line for each request: {log}");
}

#[actix_web::test]
async fn the_access_log_as_json() {
    let (harness, _engine) = one_model(&["--access-log-format=json"]).await;
    let answer = post(&harness, "/v1/completions?key=secret", r#"{"model": "m", "prompt": "x"}"#).await;
    let usage = answer.json()["usage"].clone();
    let line = harness.logged("given-id").await;
    let mut entry: Value = serde_json::from_str(&line).unwrap();
    for changing in [
        "timestamp",
        "duration_total",
        "duration_request_processing",
        "duration_upstream_processing",
        "duration_response_processing",
    ] {
        let value = entry.as_object_mut().unwrap().remove(changing).unwrap_or_else(|| panic!("no {changing}: {line}"));
        assert!(if changing == "timestamp" { value.is_string() } else { value.is_u64() }, "{changing}: {line}");
    }
    let expected = json!({
        "method": "POST", "path": "/v1/completions", "protocol": "HTTP/1.1", "status_code": 200, "model_name": "m",
        "model_route": "default/r", "model_server": "default/s", "selected_pod": "s-10", "request_id": "given-id",
        "backend_type": "model_server", "backend_name": "default/s", "upstream_model": "served",
        "upstream_status_code": 200, "upstream_attempts": 1, "gateway": "default/default",
        "input_tokens": usage["prompt_tokens"], "output_tokens": usage["completion_tokens"],
        "client": "127.0.0.1", "host": format!("{}:8080", harness.host(1)), "bytes_sent": answer.body.len(),
    });
    assert_eq!(entry, expected);
    assert_eq!(post(&harness, "/v1/completions", r#"{"model": "nobody"}"#).await.status, 404);
    let log = harness.logged("nobody").await;
    let refused: Value = serde_json::from_str(log.lines().last().unwrap()).unwrap();
    assert_eq!((&refused["status_code"], &refused["error"]["type"]), (&json!(404), &json!("route_not_found")));
    assert!(refused.get("model_route").is_none(), "what has no value is left out: {refused}");
}
