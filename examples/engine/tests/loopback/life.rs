//! Sockets, adapters and records of an engine.

use std::{error::Error, net::TcpListener};

use crate::support::{NEVER, ask, begin, engine, metric, post, read, send, until};
use simulated_engine::{EngineConfig, EngineError, start};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = r#"{"model":"m"}"#;

#[actix_web::test]
async fn one_engine_serves_every_address_with_every_port() {
    let engine = engine(|config| {
        config.addresses = vec!["127.0.0.2".parse().unwrap(), "127.0.0.3".parse().unwrap()];
        config.ports = vec![0, 0];
        config.workers = 2;
    })
    .await;
    let hosts: Vec<String> = engine.addresses().iter().map(|bound| bound.ip().to_string()).collect();
    assert_eq!(hosts, ["127.0.0.2", "127.0.0.3", "127.0.0.2", "127.0.0.3"]);
    for address in engine.addresses() {
        let request = awc::Client::default().post(format!("http://{address}{CHAT}"));
        assert_eq!(send(request, PLAIN).await.status, 200, "{address}");
    }
    assert_eq!(engine.requests(), 4);
}

#[actix_web::test]
async fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = EngineConfig::new("m");
    config.ports = vec![address.port()];
    let error = start(config).await.unwrap_err();
    assert_eq!(error.to_string(), format!("engine cannot bind `{address}`"));
    assert!(error.source().is_some());
}

#[actix_web::test]
async fn a_configuration_that_cannot_serve_is_refused() {
    let mut config = EngineConfig::new("m");
    config.ports.clear();
    let error = start(config).await.unwrap_err();
    assert!(matches!(error, EngineError::NoAddress { .. }));
    let mut config = EngineConfig::new("m");
    config.error_rate = f64::NAN;
    let error = start(config).await.unwrap_err();
    assert!(matches!(error, EngineError::Faults(_)));
}

#[actix_web::test]
async fn stopping_cuts_running_requests_and_frees_the_port_for_the_next() {
    let first = engine(|config| config.time_to_first_token = NEVER).await;
    let other = engine(|_| {}).await;
    let address = first.addresses()[0];
    let request = actix_web::rt::spawn(post(&first, CHAT).send_body(PLAIN));
    until("the request runs", || first.running() == 1).await;
    first.stop().await;
    assert!(request.await.unwrap().is_err());
    let successor = engine(|config| config.ports = vec![address.port()]).await;
    for engine in [&other, &successor] {
        assert_eq!(ask(engine, CHAT, PLAIN).await.status, 200);
    }
}

#[actix_web::test]
async fn the_last_request_is_kept_only_on_demand() {
    for record in [false, true] {
        let engine = engine(|config| config.record = record).await;
        let request = post(&engine, "/v1/completions?a=b").insert_header(("x-case", "1"));
        send(request, PLAIN).await;
        let last = engine.last_request();
        assert_eq!(last.is_some(), record);
        let Some(last) = last else { continue };
        assert_eq!(last.method, "POST");
        assert_eq!(last.path, "/v1/completions?a=b");
        assert_eq!(last.body, PLAIN);
        let header = ("x-case".to_owned(), "1".to_owned());
        assert!(last.headers.contains(&header), "{:?}", last.headers);
    }
}

#[actix_web::test]
async fn adapters_come_and_go() {
    let engine = engine(|config| config.loras = vec!["early".to_owned()]).await;
    let (load, unload) = ("/v1/load_lora_adapter", "/v1/unload_lora_adapter");
    let adapter = r#"{"lora_name":"late","lora_path":"/adapters/late"}"#;
    let named = r#"{"lora_name":"late"}"#;
    let asked = r#"{"model":"late"}"#;
    let cases = [
        ("not loaded yet", CHAT, asked, 404),
        ("loaded", load, adapter, 200),
        ("loaded twice", load, adapter, 400),
        ("answers", CHAT, asked, 200),
        ("no path", load, named, 400),
        ("unloaded", unload, named, 200),
        ("unloaded twice", unload, named, 404),
        ("not loaded any more", CHAT, asked, 404),
        ("loaded again", load, adapter, 200),
    ];
    for (case, path, body, status) in cases {
        assert_eq!(ask(&engine, path, body).await.status, status, "{case}");
    }
    let models = read(&engine, "/v1/models").await.json();
    let cards = models["data"].as_array().unwrap().iter();
    let cards: Vec<String> = cards.map(|card| format!("{} {} {}", card["id"], card["root"], card["parent"])).collect();
    let expected = [r#""m" "m" null"#, r#""early" "early" "m""#, r#""late" "/adapters/late" "m""#];
    assert_eq!(cards, expected);
}

#[actix_web::test]
async fn running_and_waiting_adapters_are_published() {
    let engine = engine(|config| {
        config.loras = vec!["a".to_owned(), "b".to_owned()];
        config.max_concurrency = 1;
        config.time_to_first_token = NEVER;
    })
    .await;
    let _running = begin(&engine, CHAT, r#"{"model":"a"}"#);
    until("the first runs", || engine.running() == 1).await;
    let _waiting = begin(&engine, CHAT, r#"{"model":"b"}"#);
    until("the second waits", || engine.waiting() == 1).await;
    let series = r#"vllm:lora_requests_info{max_lora="2",running_lora_adapters="a",waiting_lora_adapters="b"}"#;
    assert!(metric(&engine, series).await.is_some());
}
