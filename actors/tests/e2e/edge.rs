//! What the edge costs, and what it says of those whom it refuses.

use std::net::SocketAddr;

use simulated_engine::EngineConfig;

use crate::harness::{Network, gateway_yaml, until};
use crate::process::Process;
use crate::wire::{Wire, behind, post};

#[actix_web::test]
async fn a_refused_request_has_a_line_and_a_count() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    for (case, request, reason, line) in [
        (
            "no host",
            "GET /a HTTP/1.1\r\n\r\n",
            "malformed_host_count",
            "\"GET /a HTTP/1.1\" 400 error=malformed_request ",
        ),
        ("not HTTP", "G@T /a HTTP/1.1\r\nhost: x\r\n\r\n", "malformed_syntax", "the request head is not valid HTTP"),
    ] {
        let mut wire = Wire::open(&harness).await;
        wire.send(request.to_owned()).await;
        assert_eq!(wire.head().await.unwrap().status, 400, "{case}");
        let log = harness.logged(line).await;
        let line = log.lines().find(|logged| logged.contains(line)).unwrap();
        for part in [" 400 error=malformed_request ", " client=127."] {
            assert!(line.contains(part), "{case}: {line}");
        }
        let labels = format!("reason=\"{reason}\"");
        assert_eq!(harness.metric("kthena_router_refused_requests_total", &[&labels]).await, 1.0, "{case}");
    }
    assert_eq!(engine.requests(), 0);
}

#[actix_web::test]
async fn ports_share_the_workers_and_a_connection_has_one_descriptor() {
    let network = Network::new();
    let ports: Vec<_> = (8081..8089).map(|port| SocketAddr::new(network.host(1), port)).collect();
    let gateway = |name: &str, ports: &[SocketAddr]| {
        let listeners: Vec<_> = ports.iter().map(|port| (port.port(), None)).collect();
        network.write(&format!("{name}.yaml"), &gateway_yaml(name, &listeners));
    };
    gateway("one", &ports[..1]);
    let process = Process::serve(&network, &[], &["--workers=2"], &[]).await;
    let own = procfs::process::Process::new(process.child.id().cast_signed()).unwrap();
    // Threads for files come and go.
    let is_lasting = |task: &procfs::process::Task| task.stat().is_ok_and(|stat| !stat.comm.starts_with("tokio-rt"));
    let threads = || own.tasks().unwrap().flatten().filter(is_lasting).count();
    let before = threads();
    gateway("more", &ports[1..]);
    let is_open = |port: &SocketAddr| {
        let sockets = procfs::net::tcp().unwrap();
        sockets.iter().any(|socket| socket.local_address == *port && socket.state == procfs::net::TcpState::Listen)
    };
    until("all ports are open", async || ports.iter().all(is_open)).await;
    assert_eq!(threads(), before, "{} ports need the threads of one", ports.len());

    let before = own.fd_count().unwrap();
    let mut held = Vec::new();
    for port in ports.iter().cycle().take(10 * ports.len()) {
        let mut wire = Wire::open_at(*port).await;
        wire.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_owned()).await;
        assert_eq!(wire.answer().await.unwrap().status, 404, "{port}");
        held.push(wire);
    }
    let more = own.fd_count().unwrap().abs_diff(before);
    assert!(more.abs_diff(held.len()) < 10, "{more} descriptors for {} connections", held.len());
}

#[actix_web::test]
async fn a_body_counts_for_what_it_holds_and_gives_it_back() {
    let (harness, engine) = behind(EngineConfig::new("m"), &["--max-buffered-bytes=8388608"]).await;
    let body = |length: usize| format!(r#"{{"model":"public","prompt":"{}"}}"#, "x".repeat(length));
    for (case, length, status) in [
        ("most of the budget", 6 << 20, 200),
        ("more than the budget", 10 << 20, 503),
        ("what was refused is given back", 6 << 20, 200),
    ] {
        let mut client = Wire::open(&harness).await;
        client.try_send(post("/v1/completions", "", &body(length))).await.ok();
        assert_eq!(client.head().await.unwrap().status, status, "{case}");
        let held = async || harness.metric("kthena_router_buffered_bytes", &[]).await;
        harness.until("nothing is held", async || held().await == 0.0).await;
    }
    let received = engine.last_request().unwrap().body;
    assert!(received == body(6 << 20).replace("\"public\"", "\"m\""), "{} bytes differ", received.len());
}
