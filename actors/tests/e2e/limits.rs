//! What the router does not take: too much, too many, too slow, malformed, or none of its business.

use kthena_router_actors::control::overseer::Shutdown;
use serde_json::{Value, json};
use simulated_engine::EngineConfig;

use crate::harness::Answer;
use crate::wire::{Reply, Wire, behind, behind_script, post};

const PATH: &str = "/v1/completions";
const REQUEST: &str = r#"{"model":"public","prompt":"Say something."}"#;
const ANSWER: Reply = Reply::Keep("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");

#[actix_web::test]
async fn bodies_of_63_mib_pass_and_of_65_mib_do_not() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    for (case, megabytes, chunked, status) in [
        ("63 MiB of known length", 63, false, 200),
        ("63 MiB in chunks", 63, true, 200),
        ("65 MiB of known length", 65, false, 413),
        ("65 MiB in chunks", 65, true, 413),
    ] {
        let body = request_of((megabytes << 20) + 1);
        let mut client = Wire::open(&harness).await;
        // The whole body is on its way before the client looks for an answer.
        client.send(if chunked { in_chunks(&body, 1 << 20) } else { post(PATH, "", &body) }).await;
        let answer = client.answer().await.unwrap_or_else(|error| panic!("{case}: no answer: {error}"));
        assert_eq!(answer.status, status, "{case}: {}", answer.text());
        if status == 200 {
            let received = engine.last_request().unwrap().body;
            assert!(received == body.replace("\"public\"", "\"m\""), "{case}: {} bytes differ", received.len());
        } else {
            assert_refused(case, &answer, 413, "body_too_large");
            assert_eq!(answer.header("connection"), Some("close"), "{case}");
        }
    }
    assert_eq!(engine.requests(), 2);
}

#[actix_web::test]
async fn the_limit_of_a_body_is_exact_and_its_announcement_counts() {
    let (harness, engine) = behind(EngineConfig::new("m"), &["--max-body-bytes=1000"]).await;
    for (case, request, status) in [
        ("1000 bytes", post(PATH, "", &request_of(1000)), 200),
        ("1000 bytes in chunks", in_chunks(&request_of(1000), 999), 200),
        ("1001 bytes", post(PATH, "", &request_of(1001)), 413),
        ("1001 bytes in chunks", in_chunks(&request_of(1001), 1000), 413),
        (
            "only announced",
            post(PATH, "", &request_of(1001)).split_inclusive("\r\n\r\n").next().unwrap().to_owned(),
            413,
        ),
        (
            "a length of 20 digits",
            format!("POST {PATH} HTTP/1.1\r\nhost: a\r\ncontent-length: 18446744073709551615\r\n\r\n"),
            413,
        ),
    ] {
        let answer = Wire::open(&harness).await.ask(request).await;
        assert_eq!(answer.status, status, "{case}: {}", answer.text());
    }
    assert_eq!(engine.requests(), 2);
}

#[actix_web::test]
async fn what_is_not_inference_is_never_forwarded() {
    let (harness, engine) = behind_script(&[ANSWER]).await;
    for (body, message) in [
        ("{", "not valid JSON"),
        ("", "not valid JSON"),
        ("[1]", "must be a JSON object"),
        (r#"{"prompt":"x"}"#, "no field `model`"),
        (r#"{"model":"  "}"#, "must not be blank"),
        (r#"{"model":7}"#, "must be a string"),
        (r#"{"model":"public","model":"other"}"#, "more than once"),
        (r#"{"model":"public"} {}"#, "not valid JSON"),
    ] {
        let answer = Wire::open(&harness).await.ask(post(PATH, "", body)).await;
        assert_refused(body, &answer, 400, "request_parsing");
        assert!(answer.json()["error"]["message"].as_str().unwrap().contains(message), "{body}: {}", answer.text());
    }
    let answer = Wire::open(&harness).await.ask(post(PATH, "", r#"{"model":"unknown"}"#)).await;
    assert_refused("a model without a route", &answer, 404, "route_not_found");
    let error = &answer.json()["error"];
    assert!(error["message"].as_str().unwrap().contains("route not found"), "{error}");
    assert_eq!(error["param"], "model");
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/metrics"),
        ("GET", PATH),
        ("PUT", PATH),
        ("DELETE", "/v1/models/public"),
        ("OPTIONS", PATH),
        ("POST", "/tokenize/"),
        ("POST", "/simulate/faults"),
        ("POST", "/sleep"),
        ("POST", "/wake_up"),
        ("POST", "/reset_prefix_cache"),
        ("POST", "/v1/load_lora_adapter"),
        ("POST", "/v1/unload_lora_adapter"),
        ("POST", "/v1/../sleep"),
        ("POST", "/v1/./load_lora_adapter"),
        ("POST", "//v1/load_lora_adapter"),
        ("POST", "/v1//load_lora_adapter"),
        ("POST", "/v1/%6coad_lora_adapter"),
        ("POST", "/v1/x/..%2f..%2fsleep"),
        ("POST", "http://other/v1/load_lora_adapter"),
    ] {
        let case = format!("{method} {path}");
        let request = post(path, "", REQUEST).replacen("POST", method, 1);
        let answer = Wire::open(&harness).await.ask(request).await;
        let has_dots = path.contains("/.");
        let (status, code) = if has_dots { (400, "malformed_request") } else { (404, "path_not_served") };
        assert_refused(&case, &answer, status, code);
    }
    let answer = Wire::open(&harness).await.head_of("HEAD /metrics HTTP/1.1\r\nhost: router\r\n\r\n").await;
    assert_eq!(answer.status, 404);
    assert!(engine.received().is_empty(), "{:?}", engine.received());
}

#[actix_web::test]
async fn models_are_listed_in_the_shape_of_openai() {
    let (harness, engine) = behind_script(&[ANSWER]).await;
    let list = "GET /v1/models HTTP/1.1\r\nhost: router\r\n\r\n";
    let mut client = Wire::open(&harness).await;
    let answer = client.ask(list).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")));
    let mut models = answer.json();
    assert!(models["data"][0]["created"].take().is_i64(), "{}", answer.text());
    let model =
        json!({"id": "public", "object": "model", "created": null, "owned_by": "kthena", "root": "m", "parent": null});
    assert_eq!(models, json!({"object": "list", "data": [model]}));
    // The answer to HEAD has the same head and no body: the next one follows at once.
    let head = client.head_of(list.replace("GET", "HEAD")).await;
    assert_eq!((head.status, head.header("content-length")), (200, answer.header("content-length")));
    assert_eq!(client.ask(list).await.text(), answer.text());
    assert!(engine.received().is_empty());
}

#[actix_web::test]
async fn requests_beyond_those_in_flight_are_told_to_come_back() {
    let (harness, engine) = behind(EngineConfig::new("m"), &["--max-inflight=1"]).await;
    engine.faults().set_hang(true);
    let mut first = Wire::open(&harness).await;
    first.send(post(PATH, "", REQUEST)).await;
    harness.until("the engine works", async || engine.running() == 1).await;
    for _ in 0..3 {
        let answer = harness.complete("public").await;
        assert_refused("the second request", &answer, 429, "overloaded");
        assert_eq!(answer.header("retry-after"), Some("1"));
        assert_eq!(answer.json()["error"]["type"], "rate_limit_error");
    }
    let answer = Wire::open(&harness).await.ask(post("/v1/messages", "", REQUEST)).await;
    assert_eq!((answer.status, answer.json()["type"].as_str()), (429, Some("error")), "Anthropic's shape");
    assert_eq!(harness.get("/v1/models").await.status, 200, "a list costs no engine anything");
    assert_eq!(engine.requests(), 1);
    engine.faults().clear();
    drop(first);
    harness.until("the place is free again", async || harness.complete("public").await.status == 200).await;
}

#[actix_web::test]
async fn malformed_http_is_cut_off() {
    let (harness, engine) = behind_script(&[ANSWER]).await;
    let head = format!("POST {PATH} HTTP/1.1\r\nhost: router\r\n");
    let length = REQUEST.len();
    let many = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
    for (case, request, status) in [
        ("no HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".to_owned(), 400),
        ("another protocol", "PRI * HTTP/3.0\r\n\r\nSM\r\n\r\n".to_owned(), 400),
        ("no host", format!("POST {PATH} HTTP/1.1\r\ncontent-length: {length}\r\n\r\n{REQUEST}"), 400),
        ("two hosts", format!("{head}host: other\r\ncontent-length: {length}\r\n\r\n{REQUEST}"), 400),
        ("two lengths", format!("{head}content-length: {length}\r\ncontent-length: 5\r\n\r\n{REQUEST}"), 400),
        ("a list of lengths", format!("{head}content-length: {length}, {length}\r\n\r\n{REQUEST}"), 400),
        ("a negative length", format!("{head}content-length: -1\r\n\r\n{REQUEST}"), 400),
        ("a length with a sign", format!("{head}content-length: +{length}\r\n\r\n{REQUEST}"), 400),
        (
            "length and chunks",
            format!("{head}content-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            "chunks and length",
            format!("{head}transfer-encoding: chunked\r\ncontent-length: {length}\r\n\r\n0\r\n\r\n"),
            400,
        ),
        ("an unknown encoding", format!("{head}transfer-encoding: gzip\r\n\r\n{REQUEST}"), 400),
        (
            "chunks in HTTP/1.0",
            format!("POST {PATH} HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (
            "a chunk without a size",
            format!("{head}transfer-encoding: chunked\r\n\r\nxyz\r\n{REQUEST}\r\n0\r\n\r\n"),
            400,
        ),
        ("a blank before a colon", format!("{head}content-length : {length}\r\n\r\n{REQUEST}"), 400),
        ("a folded header", format!("{head}x-a: 1\r\n 2\r\ncontent-length: {length}\r\n\r\n{REQUEST}"), 400),
        ("a control character", format!("{head}x-a: \x01\r\ncontent-length: {length}\r\n\r\n{REQUEST}"), 400),
        ("too many headers", format!("{head}{many}content-length: {length}\r\n\r\n{REQUEST}"), 431),
        ("a header that is too long", format!("{head}x-long: {}\r\n\r\n", "x".repeat(256 << 10)), 431),
        ("a path that is too long", format!("POST /v1/{} HTTP/1.1\r\n", "x".repeat(256 << 10)), 431),
    ] {
        let mut client = Wire::open(&harness).await;
        // The router may stop to listen before it has heard everything.
        client.try_send(request).await.ok();
        let answered = String::from_utf8(client.closed().await).unwrap();
        // Its version is that of the client.
        let refused = answered.starts_with("HTTP/1.") && answered[8..].starts_with(&format!(" {status} "));
        assert!(refused || (status == 431 && answered.is_empty()), "{case}: {answered:?}");
        assert_eq!(answered.matches("HTTP/1.").count(), usize::from(refused), "{case}: {answered:?}");
    }
    assert!(engine.received().is_empty(), "{:?}", engine.received());
    assert_eq!(Wire::open(&harness).await.ask(post(PATH, "", REQUEST)).await.status, 200);
}

#[actix_web::test]
async fn a_client_that_does_not_go_on_is_cut_off() {
    let (harness, engine) = behind(EngineConfig::new("m"), &["--client-timeout=1s"]).await;
    let begun = format!("POST {PATH} HTTP/1.1\r\nhost: router\r\n");
    let whole = post(PATH, "", REQUEST);
    let mut clients = Vec::new();
    for (case, request, statuses) in [
        ("nothing", String::new(), &[408][..]),
        ("the beginning of a head", begun.clone(), &[408]),
        ("the beginning of a body", whole[..whole.len() - 5].to_owned(), &[408]),
        ("the beginning of a chunk", format!("{begun}transfer-encoding: chunked\r\n\r\n20\r\n{{"), &[408]),
        ("a body that nobody wants", format!("{begun}content-length: 9\r\n\r\n").replace("/v1", "/v2"), &[404]),
        (
            "chunks that nobody wants",
            format!("{begun}transfer-encoding: chunked\r\n\r\n5\r\n").replace("/v1", "/v2"),
            &[404],
        ),
    ] {
        let mut client = Wire::open(&harness).await;
        client.send(request).await;
        clients.push((case, client, statuses));
    }
    for (case, mut client, statuses) in clients {
        let answered = String::from_utf8(client.closed().await).unwrap();
        let found: Vec<u16> = answered.split("HTTP/1.1 ").skip(1).map(|answer| answer[..3].parse().unwrap()).collect();
        assert_eq!(found, statuses, "{case}: {answered}");
        if case.contains("of a body") {
            assert!(answered.contains("\"code\":\"body_timeout\""), "{case}: {answered}");
        }
    }
    assert_eq!(engine.requests(), 0);
    assert_eq!(harness.metric("kthena_router_listener_inflight_requests", &[]).await, 0.0);
}

#[actix_web::test]
async fn a_client_that_does_not_go_on_to_its_next_request_is_cut_off() {
    let flags = ["--client-timeout=1s", "--client-keep-alive=1s"];
    let (harness, _engine) = behind(EngineConfig::new("m"), &flags).await;
    for (case, next, told) in
        [("nothing", "", ""), ("the beginning of a head", "POST /v1/completions HTTP/1.1\r\nhost: r", "HTTP/1.1 408 ")]
    {
        let mut client = Wire::open(&harness).await;
        assert_eq!(client.ask(post(PATH, "", REQUEST)).await.answered_by(), "m", "{case}");
        client.send(next).await;
        let answered = String::from_utf8(client.closed().await).unwrap();
        assert!(answered.starts_with(told) && answered.is_empty() == told.is_empty(), "{case}: {answered}");
    }
}

#[actix_web::test]
async fn connections_are_kept_and_requests_on_them_are_answered_in_order() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    let mut client = Wire::open(&harness).await;
    let refused = post(PATH, "", r#"{"model":"unknown"}"#);
    let list = "GET /v1/models HTTP/1.1\r\nhost: router\r\n\r\n";
    for _ in 0..3 {
        assert_eq!(client.ask(post(PATH, "", REQUEST)).await.answered_by(), "m");
        assert_eq!(client.ask(in_chunks(REQUEST, 7)).await.answered_by(), "m");
        assert_eq!(client.ask(&refused).await.status, 404);
    }
    let all = [&post(PATH, "", REQUEST), &refused, &post(PATH, "", REQUEST), list].concat();
    client.send(all).await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(client.answer().await.unwrap().status);
    }
    assert_eq!(statuses, [200, 404, 200, 200]);
    assert_eq!(client.ask(post(PATH, "connection: close\r\n", REQUEST)).await.answered_by(), "m");
    assert!(client.closed().await.is_empty());

    let mut old = Wire::open(&harness).await;
    assert_eq!(old.head_of(post(PATH, "", REQUEST).replace("HTTP/1.1", "HTTP/1.0")).await.status, 200);
    assert!(String::from_utf8(old.closed().await).unwrap().contains("message from m"), "it ends with the connection");
    assert_eq!(engine.requests(), 10);
}

#[actix_web::test]
async fn a_client_that_asks_first_is_told_to_go_on() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    let request = post(PATH, "expect: 100-continue\r\n", REQUEST);
    let (head, body) = request.split_at(request.len() - REQUEST.len());
    let mut client = Wire::open(&harness).await;
    assert_eq!(client.head_of(head).await.status, 100);
    assert_eq!(client.ask(body).await.answered_by(), "m");
    let headers = engine.last_request().unwrap().headers;
    assert!(headers.iter().all(|(name, _)| name != "expect"), "{headers:?}");
}

/// Returns the body of a request that is this long.
fn request_of(length: usize) -> String {
    let empty = r#"{"model":"public","prompt":""}"#;
    empty.replace("\"\"", &format!("\"{}\"", "x".repeat(length - empty.len())))
}

/// Returns a POST request with a body in chunks of this size.
fn in_chunks(body: &str, size: usize) -> String {
    let mut request = format!("POST {PATH} HTTP/1.1\r\nhost: router\r\ntransfer-encoding: chunked\r\n\r\n");
    for chunk in body.as_bytes().chunks(size) {
        request += &format!("{:x}\r\n{}\r\n", chunk.len(), str::from_utf8(chunk).unwrap());
    }
    request + "0\r\n\r\n"
}

fn assert_refused(case: &str, answer: &Answer, status: u16, code: &str) {
    assert_eq!((answer.status, answer.header("content-type")), (status, Some("application/json")), "{case}");
    let error = &answer.json()["error"];
    assert_eq!(error["code"], code, "{case}: {error}");
    assert!(error["message"].is_string() && error["type"] != Value::Null, "{case}: {error}");
    assert_eq!(answer.header("x-request-id").map(str::len), Some(36), "{case}");
}

#[actix_web::test]
async fn a_router_that_stops_asks_clients_to_connect_elsewhere() {
    let (harness, _engine) = behind(EngineConfig::new("m"), &["--drain-delay=10m"]).await;
    let mut client = Wire::open(&harness).await;
    client.send(post(PATH, "", REQUEST)).await;
    let answer = client.answer().await.unwrap();
    assert_eq!((answer.status, answer.header("connection")), (200, None));

    harness.router.overseer.send(Shutdown).await.unwrap();
    for (case, body, status) in [("an engine's answer", REQUEST, 200), ("the router's own", "no JSON", 400)] {
        let mut client = Wire::open(&harness).await;
        client.send(post(PATH, "", body)).await;
        let answer = client.answer().await.unwrap();
        assert_eq!((answer.status, answer.header("connection")), (status, Some("close")), "{case}");
    }
}
