//! Who runs, who waits, and whose client left.

use crate::support::{NEVER, ask, begin, engine, metric, post, read, until};
use std::{io::Write, net::TcpStream};

use futures::StreamExt;
use simulated_engine::{Dialect, Engine};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = r#"{"model":"m","messages":[{"role":"user","content":"12345678"}]}"#;
const STREAMED: &str = r#"{"model":"m","stream":true}"#;

async fn counts(engine: &Engine, running: u64, waiting: u64, aborted: u64) {
    let case = format!("{running} running, {waiting} waiting, {aborted} aborted");
    let figures = || (engine.running(), engine.waiting(), engine.aborted());
    until(&case, || figures() == (running, waiting, aborted)).await;
}

#[actix_web::test]
async fn requests_beyond_the_limit_wait_their_turn() {
    let engine = engine(|config| {
        config.max_concurrency = 1;
        config.time_to_first_token = NEVER;
    })
    .await;
    let first = begin(&engine, CHAT, PLAIN);
    counts(&engine, 1, 0, 0).await;
    let second = begin(&engine, CHAT, STREAMED);
    let third = begin(&engine, CHAT, PLAIN);
    counts(&engine, 1, 2, 0).await;
    let waiting = metric(&engine, "vllm:num_requests_waiting{").await;
    assert_eq!(waiting, Some(2.0));
    first.abort();
    counts(&engine, 1, 1, 1).await;
    third.abort();
    counts(&engine, 1, 0, 2).await;
    second.abort();
    counts(&engine, 0, 0, 3).await;
    assert_eq!(engine.requests(), 3);
}

#[actix_web::test]
async fn a_client_that_leaves_before_the_first_token_is_noticed() {
    let engine = engine(|config| config.time_to_first_token = NEVER).await;
    for (left, body) in [PLAIN, STREAMED].into_iter().enumerate() {
        let request = begin(&engine, CHAT, body);
        counts(&engine, 1, 0, left as u64).await;
        request.abort();
        counts(&engine, 0, 0, left as u64 + 1).await;
    }
}

#[actix_web::test]
async fn a_client_that_leaves_a_stream_is_noticed() {
    let engine = engine(|config| config.time_per_output_token = NEVER).await;
    let mut response = post(&engine, CHAT).send_body(STREAMED).await.unwrap();
    response.next().await.unwrap().unwrap();
    counts(&engine, 1, 0, 0).await;
    drop(response);
    counts(&engine, 0, 0, 1).await;
}

#[actix_web::test]
async fn a_client_that_leaves_its_upload_is_noticed() {
    let engine = engine(|_| {}).await;
    let mut upload = TcpStream::connect(engine.addresses()[0]).unwrap();
    let head = format!("POST {CHAT} HTTP/1.1\r\nhost: engine\r\ncontent-length: 100\r\n\r\n{{");
    upload.write_all(head.as_bytes()).unwrap();
    until("the request arrives", || engine.requests() == 1).await;
    assert_eq!(engine.aborted(), 0);
    drop(upload);
    counts(&engine, 0, 0, 1).await;
}

#[actix_web::test]
async fn an_answered_request_is_not_aborted_and_leaves_nothing_behind() {
    let engine = engine(|_| {}).await;
    for body in [PLAIN, STREAMED] {
        assert_eq!(ask(&engine, CHAT, body).await.status, 200, "{body}");
    }
    counts(&engine, 0, 0, 0).await;
    assert_eq!(engine.requests(), 2);
    let usage = metric(&engine, "vllm:kv_cache_usage_perc{").await;
    assert_eq!(usage, Some(0.0));
}

#[actix_web::test]
async fn a_running_request_holds_its_share_of_the_cache() {
    let engine = engine(|config| {
        config.time_per_output_token = NEVER;
        config.kv_cache_tokens = 10;
    })
    .await;
    // Two tokens of the prompt and the first of the answer.
    let first = begin(&engine, CHAT, PLAIN);
    until("the first token is there", || engine.running() == 1).await;
    let mut usage = None;
    for _ in 0..1000 {
        usage = metric(&engine, "vllm:kv_cache_usage_perc{").await;
        if usage == Some(0.3) {
            break;
        }
    }
    assert_eq!(usage, Some(0.3));
    first.abort();
    counts(&engine, 0, 0, 1).await;
}

#[actix_web::test]
async fn each_dialect_has_its_names() {
    let vllm = [
        "vllm:num_requests_running{",
        "vllm:num_requests_waiting{",
        "vllm:kv_cache_usage_perc{",
        "vllm:time_to_first_token_seconds_count{",
        "vllm:inter_token_latency_seconds_count{",
    ];
    let sglang = [
        "sglang:num_running_reqs{",
        "sglang:num_queue_reqs{",
        "sglang:token_usage{",
        "sglang:time_to_first_token_seconds_count{",
        "sglang:inter_token_latency_seconds_count{",
    ];
    for (dialect, names) in [(Dialect::Vllm, vllm), (Dialect::Sglang, sglang)] {
        let engine = engine(|config| config.dialect = dialect).await;
        ask(&engine, CHAT, PLAIN).await;
        let mut values = Vec::new();
        for name in names {
            values.push(metric(&engine, name).await);
        }
        let expected = [0.0, 0.0, 0.0, 1.0, 5.0].map(Some);
        assert_eq!(values, expected, "{dialect:?}");
    }
}

#[actix_web::test]
async fn every_line_of_the_metrics_is_a_series_of_its_family() {
    let engine = engine(|config| config.model = "a \"b\"".to_owned()).await;
    let page = read(&engine, "/metrics").await.body;
    let mut family = "";
    for line in page.lines() {
        if let Some(header) = line.strip_prefix("# TYPE ") {
            family = header.split(' ').next().unwrap();
            continue;
        }
        assert!(line.starts_with(family), "{line}");
        let (labels, value) = line.rsplit_once("} ").unwrap();
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let is_labelled = labels.contains(r#"model_name="a \"b\"""#);
        assert!(is_labelled || family == "vllm:lora_requests_info", "{line}");
    }
}
