//! WebSockets by the model in their query.

use std::net::{SocketAddr, TcpStream};

use super::CHAT;
use crate::harness::{Harness, Network, PORT, route_yaml, until};
use crate::process::Process;
use crate::wire::{Reply, ScriptedEngine, Wire, post};

const SWITCHED: Reply =
    Reply::Keep("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n");
/// What the engine says to each line; it takes what looks like the end of a head for the end of one.
const SAID: Reply = Reply::Keep("\u{0}from the engine");
const PROTOCOLS: &str = "realtime, openai-insecure-api-key.X";

/// Starts a router in front of an engine that replies so.
async fn start(replies: &[Reply], flags: &[&str]) -> (Harness, ScriptedEngine) {
    let network = Network::new();
    let engine = with_engine(&network, replies).await;
    (network.start(flags).await, engine)
}

async fn with_engine(network: &Network, replies: &[Reply]) -> ScriptedEngine {
    network.model_server("voice", "voice", &[10]);
    network.write("route.yaml", &route_yaml("route", "voice", "voice"));
    ScriptedEngine::on(network, 10, replies).await
}

fn upgrade() -> String {
    format!(
        "GET /v1/realtime?model=voice HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-protocol: {PROTOCOLS}\r\n\r\n"
    )
}

async fn in_flight(harness: &Harness) -> f64 {
    harness.metric("kthena_router_active_requests", &[]).await
}

/// Opens a WebSocket, and has a few bytes pass both ways.
async fn open(harness: &Harness, engine: &ScriptedEngine) -> Wire {
    let mut client = Wire::open(harness).await;
    assert_eq!(client.head_of(upgrade()).await.status, 101);
    assert_eq!(engine.received()[0].header("sec-websocket-protocol"), [PROTOCOLS]);
    talk(&mut client).await;
    client
}

async fn talk(client: &mut Wire) {
    client.send("\u{0}\u{1}\r\n\r\n").await;
    assert_eq!(client.exactly(16).await, b"\0from the engine");
}

/// Case 17: an engine that wants no WebSocket.
#[actix_web::test]
async fn a_refused_upgrade_passes_as_the_engine_writes_it() {
    for (status, header) in [("426 Upgrade Required", "upgrade: websocket"), ("403 Forbidden", "x-why: key")] {
        let reply = format!("HTTP/1.1 {status}\r\n{header}\r\ncontent-length: 2\r\n\r\nno").leak();
        let (harness, engine) = start(&[Reply::Keep(reply), SWITCHED, SAID], &[]).await;
        let answer = Wire::open(&harness).await.ask(upgrade()).await;
        assert_eq!((answer.status.to_string().as_str(), answer.text().as_str()), (&status[..3], "no"));
        assert_eq!(answer.header("x-why"), header.strip_prefix("x-why: "), "{status}");
        harness.until("it is over", async || in_flight(&harness).await == 0.0).await;
        assert_eq!(engine.received().len(), 1, "{status}: nobody else is asked");
    }
}

/// Case 17: a client that goes without a word, and one that says nothing for long.
#[actix_web::test]
async fn a_realtime_connection_lasts_while_it_is_silent_and_ends_with_either_side() {
    let silent =
        Reply::Keep("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n");
    let limits = ["--idle-timeout=300ms", "--client-keep-alive=300ms", "--client-timeout=300ms"];
    for resets in [false, true] {
        let (harness, engine) = start(&[SWITCHED, SAID, silent, SAID], &limits).await;
        let mut client = open(&harness, &engine).await;
        assert_eq!((in_flight(&harness).await, engine.open()), (1.0, 1), "it counts as long as it is open");
        // An answer begins later, and is broken off because nothing comes: the connection has been silent for longer.
        let mut other = Wire::open(&harness).await;
        let body = r#"{"model":"voice","messages":[],"stream":true}"#;
        assert_eq!(other.head_of(post(CHAT, "", body)).await.status, 200);
        assert!(String::from_utf8(other.chunk().await.unwrap()).unwrap().contains("idle_timeout"));
        other.closed().await;
        talk(&mut client).await;
        if resets {
            client.reset();
        } else {
            drop(client);
        }
        harness
            .until("its engine is left, and its place is free", async || {
                in_flight(&harness).await == 0.0 && engine.open() == 0
            })
            .await;
    }
}

/// Case 17: a router that stops.
#[actix_web::test]
async fn a_realtime_connection_is_waited_for_and_closed_when_the_drain_is_over() {
    let network = Network::new();
    let _engine = with_engine(&network, &[SWITCHED, SAID]).await;
    let mut process = Process::serve(&network, &[], &["--drain-timeout=1s"], &[]).await;
    let address = SocketAddr::new(network.host(1), PORT);
    let mut client = Wire::open_at(address).await;
    assert_eq!(client.head_of(upgrade()).await.status, 101);
    process.signal("TERM");
    until("the port is closed", async || TcpStream::connect(address).is_err()).await;
    talk(&mut client).await;
    assert_eq!(process.exit_code().await, Some(0));
    assert_eq!(client.closed().await, b"", "it is closed at last");
}
