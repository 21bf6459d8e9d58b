//! Signals that do not end the process, and a log that nobody reads.

use std::io::Read;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use crate::harness::{Network, PORT, client, free_port, route_yaml, until};
use crate::process::{METRICS_PORT, complete, get, streaming};
use crate::wire::Wire;

#[actix_web::test]
async fn hangup_opens_the_log_anew_and_reads_manifests_and_ends_nothing() {
    let logs = tempfile::TempDir::new().unwrap();
    let (log, moved) = (logs.path().join("log"), logs.path().join("log.1"));
    let flag = format!("--access-log-output={}", log.display());
    let (network, mut puppet, mut process, mut stream) = streaming(&[&flag], &[]).await;
    std::fs::rename(&log, &moved).unwrap();
    for signal in ["HUP", "USR1", "USR2", "HUP"] {
        process.signal(signal);
    }
    until("the log is opened anew", async || log.exists()).await;
    let readings = async || {
        let page = get(network.host(1), METRICS_PORT, "/metrics").await.unwrap().text();
        let line =
            page.lines().find(|line| line.starts_with("kthena_router_manifest_loads_total ")).unwrap().to_owned();
        line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()
    };
    until("the manifests are read again", async || readings().await >= 2).await;
    puppet.say("data: last\n\n");
    puppet.finish();
    assert_eq!(stream.chunk().await.unwrap(), b"data: last\n\n");
    assert_eq!(stream.chunk().await.unwrap(), b"", "a stream outlives these signals");
    let line = || std::fs::read_to_string(&log).unwrap();
    until("its line is in the new file", async || line().contains("\"POST /v1/completions HTTP/1.1\" 200")).await;
    assert_eq!(std::fs::read_to_string(&moved).unwrap(), "");
    process.signal("TERM");
    assert_eq!(process.exit_code().await, Some(0));
}

#[actix_web::test]
async fn a_standard_error_that_nobody_reads_stops_neither_requests_nor_the_end() {
    let network = Network::new();
    let _engine = network.engine(10, "a").await;
    network.model_server("a", "a", &[10]);
    network.write("route.yaml", &route_yaml("r", "m", "a"));
    let arguments = [
        format!("--manifests={}", network.directory().display()),
        format!("--bind-address={}", network.host(1)),
        format!("--debug-port={}", free_port(std::net::Ipv4Addr::LOCALHOST.into())),
        "--workers=1".to_owned(),
        "--pod-namespace=default".to_owned(),
        "--access-log-enabled=false".to_owned(),
    ];
    let mut child = Command::new(env!("CARGO_BIN_EXE_kthena-router"))
        .args(arguments)
        .env("RUST_LOG", "trace")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let ready = async || get(network.host(1), METRICS_PORT, "/readyz").await.is_some_and(|page| page.status == 200);
    until("the router is ready", ready).await;
    let url = format!("http://{}:{PORT}", network.host(1));
    // Each of these is logged, at this level by more than one library, and a pipe holds 64 KiB.
    for _ in 0..600 {
        let mut wire = Wire::open_at(SocketAddr::new(network.host(1), PORT)).await;
        wire.send(b"GET / HTTP/9.9\r\nno colon\r\n\r\n".to_vec()).await;
        drop(wire.head().await);
    }
    let answer = complete(&client(), &url, "m").await.expect("requests are answered");
    assert_eq!(answer.status, 200);
    let lost = async || {
        let page = get(network.host(1), METRICS_PORT, "/metrics").await.unwrap().text();
        page.lines().any(|line| line.starts_with("kthena_router_log_dropped_lines_total ") && !line.ends_with(" 0"))
    };
    until("lost lines are counted", lost).await;
    let kill = format!("kill -TERM {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    let running = std::cell::RefCell::new(&mut child);
    until("the process ends", async || running.borrow_mut().try_wait().unwrap().is_some()).await;
    assert_eq!(child.wait().unwrap().code(), Some(0));
    let mut text = Vec::new();
    child.stderr.take().unwrap().read_to_end(&mut text).unwrap();
    assert!(text.len() >= 1 << 15, "the pipe was full");
}
