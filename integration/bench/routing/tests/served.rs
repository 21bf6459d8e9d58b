//! Engines behind HTTP: what is asked for them, and when they are not there.

use std::io::{ErrorKind, Read, Write};
use std::iter;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;

use kthena_router_proving_ground::engine::SMALL;
use kthena_router_proving_ground::fleet::outage::Outage;
use kthena_router_proving_ground::fleet::prompt;
use kthena_router_proving_ground::jobs::text;
use kthena_router_proving_ground::served::{Protocol, plans, serve};
use kthena_router_proving_ground::workloads::{Arrival, Turn, Workload};

/// Has an engine serve that knows two adapters, and returns where; its thread ends with the test's process.
fn started(outages: Vec<Outage>) -> SocketAddr {
    let any = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    let address = TcpListener::bind(any).and_then(|listener| listener.local_addr()).expect("a port is free");
    let mut prompt = prompt(vec![1], 0, 1, Vec::new());
    prompt.adapter = Some(1);
    let sessions = vec![vec![Turn { prompt, pause: 0.0 }]];
    let arrival = Arrival::Open(vec![0.0]);
    let workload = Workload { outages, ..Workload::new("a test", vec![SMALL], sessions, arrival) };
    let plans = plans(&workload, iter::once(address), 2.0, Protocol::Nixl);
    thread::spawn(move || {
        actix_web::rt::System::new().block_on(async { serve(plans[0].clone()).await }).expect("the engine serves");
    });
    while TcpStream::connect(address).is_err() {
        thread::yield_now();
    }
    address
}

/// Sends a request and returns the whole answer.
fn exchange(address: SocketAddr, head: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    let length = body.len();
    write!(stream, "{head} HTTP/1.1\r\nhost: engine\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn ask(address: SocketAddr, model: &str) -> std::io::Result<String> {
    let message = serde_json::json!({"role": "user", "content": text(&[1, 2, 3])});
    let body = serde_json::json!({"model": model, "messages": [message], "max_tokens": 2, "stream": true});
    exchange(address, "POST /v1/chat/completions", &body.to_string())
}

#[test]
fn an_engine_knows_the_adapters_of_its_workload() {
    let address = started(Vec::new());
    let status = |model| ask(address, model).expect("it answers")[..12].to_owned();
    let statuses = ["fleet", "adapter-0", "adapter-1", "adapter-2", "other"].map(status);
    assert_eq!(statuses.map(|status| status[9..].to_owned()), ["200", "200", "200", "404", "404"]);
    let models = exchange(address, "GET /v1/models", "").expect("it answers");
    assert!(models.contains("adapter-1") && !models.contains("adapter-2"), "{models}");
    let metrics = exchange(address, "GET /metrics", "").expect("it answers");
    assert!(metrics.contains("vllm:lora_requests_info{max_lora=\"4\""), "{metrics}");
}

#[test]
fn an_engine_that_goes_refuses_connections_and_comes_back_empty() {
    let address = started(vec![Outage { engine: 0, from: 6.0, until: 7.0 }]);
    let hits = || {
        let metrics = exchange(address, "GET /metrics", "").expect("it answers");
        let line = metrics.lines().find_map(|line| line.strip_prefix("vllm:prefix_cache_hits_total "));
        line.expect("hits are counted").to_owned()
    };
    // The last token of a prompt is always computed.
    for expected in ["0", "191"] {
        assert!(ask(address, "fleet").expect("it answers").contains("[DONE]"));
        assert_eq!(hits(), expected);
    }
    while !matches!(TcpStream::connect(address), Err(error) if error.kind() == ErrorKind::ConnectionRefused) {
        thread::yield_now();
    }
    while TcpStream::connect(address).is_err() {
        thread::yield_now();
    }
    assert!(ask(address, "fleet").expect("it answers").contains("[DONE]"));
    assert_eq!(hits(), "191", "nothing of what it had before is found");
}
