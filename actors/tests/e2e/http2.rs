//! HTTP/2 with prior knowledge: many requests on one connection, each with an end of its own.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use actix_web::rt::task::JoinHandle;
use actix_web::web::Bytes;
use futures::future::join_all;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::request::Builder;
use http::{HeaderMap, Request};
use kthena_router_actors::control::overseer::Shutdown;
use simulated_engine::EngineConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{Answer, Harness, PATIENCE, PORT};
use crate::wire::{Reply, behind, behind_script};

/// How long the engine takes over a token where an answer is to last longer than something else.
const PAUSE: Duration = Duration::from_millis(100);
const PATH: &str = "/v1/completions";
const REQUEST: &str = r#"{"model":"public","prompt":"x"}"#;
const STREAM: &str = r#"{"model":"public","stream":true,"prompt":"x"}"#;

/// A client's connection.
struct Client {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    async fn open(harness: &Harness) -> Self {
        let socket = TcpStream::connect(SocketAddr::new(harness.host(1), PORT)).await.unwrap();
        let (requests, connection) = within(h2::client::handshake(socket)).await.unwrap();
        Self { requests, connection: actix_web::rt::spawn(connection) }
    }

    /// Sends a request; what this returns keeps it alive.
    async fn send(&self, request: Builder, body: impl Into<Bytes>) -> (ResponseFuture, SendStream<Bytes>) {
        let mut requests = within(self.requests.clone().ready()).await.unwrap();
        let (answer, mut stream) = requests.send_request(request.body(()).unwrap(), false).unwrap();
        let mut body = body.into();
        while !body.is_empty() {
            stream.reserve_capacity(body.len());
            // A request that was refused takes no more of its body.
            let Some(Ok(room)) = within(poll_fn(|context| stream.poll_capacity(context))).await else { break };
            let piece = body.split_to(room.min(body.len()));
            stream.send_data(piece, body.is_empty()).unwrap();
        }
        (answer, stream)
    }

    /// Sends a request and reads its answer whole.
    async fn ask(&self, request: Builder, body: impl Into<Bytes>) -> Result<Answer, h2::Error> {
        let (answer, _stream) = self.send(request, body).await;
        let (head, stream) = within(answer).await?.into_parts();
        Ok(Answer { status: head.status.as_u16(), headers: lines(&head.headers), body: read(stream).await? })
    }
}

fn request(path: &str) -> Builder {
    Request::post(format!("http://router{path}"))
}

fn lines(headers: &HeaderMap) -> Vec<(String, String)> {
    headers.iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}

async fn piece(stream: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let piece = within(poll_fn(|context| stream.poll_data(context))).await?;
    Some(piece.inspect(|piece| stream.flow_control().release_capacity(piece.len()).unwrap()))
}

async fn read(mut stream: RecvStream) -> Result<Vec<u8>, h2::Error> {
    let mut body = Vec::new();
    while let Some(next) = piece(&mut stream).await {
        body.extend_from_slice(&next?);
    }
    Ok(body)
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(PATIENCE, future).await.expect("the connection makes progress")
}

#[actix_web::test]
async fn requests_of_one_connection_are_answered_side_by_side() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    let client = Client::open(&harness).await;
    let answers = join_all((0..50).map(|_| client.ask(request(PATH), REQUEST))).await;
    for answer in answers {
        let answer = answer.unwrap();
        assert_eq!((answer.status, answer.answered_by().as_str()), (200, "m"));
        assert!(answer.header("date").is_some() && answer.header("connection").is_none(), "{:?}", answer.headers);
        // Its length changes with the model's name, which is not known beforehand.
        assert_eq!(answer.header("content-length"), None);
    }
    assert_eq!(engine.requests(), 50);
    let streamed = client.ask(request(PATH), STREAM).await.unwrap();
    assert_eq!(streamed.header("content-type"), Some("text/event-stream; charset=utf-8"), "{:?}", streamed.headers);
    assert!(streamed.text().ends_with("data: [DONE]\n\n"), "{}", streamed.text());
    // More than a client may send ahead.
    let long = REQUEST.replace("\"x\"", &format!("\"{}\"", "x".repeat(5 << 20)));
    assert_eq!(client.ask(request(PATH), long).await.unwrap().status, 200);
    let received = engine.last_request().unwrap();
    assert!(received.body.len() > 5 << 20);
    assert_eq!(received.headers.iter().filter(|(name, _)| name == "host").count(), 1, "{:?}", received.headers);
}

#[actix_web::test]
async fn a_request_that_its_client_gives_up_ends_at_the_engine() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    let client = Client::open(&harness).await;
    for (case, after) in [("before the answer", 0), ("in the midst of it", 3)] {
        engine.faults().clear();
        engine.faults().set_hang(after == 0);
        engine.faults().set_hang_after((after > 0).then_some(after));
        let (answer, mut stream) = client.send(request(PATH), STREAM).await;
        if after > 0 {
            let mut body = within(answer).await.unwrap().into_body();
            piece(&mut body).await.unwrap().unwrap();
            harness.until("the engine works", async || engine.running() == 1).await;
            stream.send_reset(Reason::CANCEL);
        } else {
            harness.until("the engine works", async || engine.running() == 1).await;
            stream.send_reset(Reason::CANCEL);
            drop(answer);
        }
        harness.until(&format!("the engine is idle again: {case}"), async || engine.running() == 0).await;
        engine.faults().clear();
        assert_eq!(client.ask(request(PATH), REQUEST).await.unwrap().status, 200, "{case}: others go on");
    }
    engine.faults().set_hang(true);
    let given_up = client.send(request(PATH), STREAM).await;
    harness.until("the engine works", async || engine.running() == 1).await;
    client.connection.abort();
    drop((given_up, client.requests));
    harness.until("the engine is idle again", async || engine.running() == 0).await;
}

#[actix_web::test]
async fn an_answer_that_breaks_off_is_not_taken_for_whole() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    let client = Client::open(&harness).await;
    engine.faults().set_reset_after(Some(3));
    let error = client.ask(request(PATH), STREAM).await.unwrap_err();
    assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR));
    engine.faults().clear();
    assert_eq!(client.ask(request(PATH), REQUEST).await.unwrap().status, 200, "the connection lives on");
}

#[actix_web::test]
async fn a_chunk_of_an_engine_is_a_frame_of_data_even_if_several_arrive_together() {
    let chunks = ["data: 1\n\n", "data: ", "2\n\n: ", "x\n\n", &format!("data: {}\n\n", "3".repeat(5000))];
    let written: String = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect();
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    let (harness, _engine) = behind_script(&[Reply::Keep(format!("{head}{written}0\r\n\r\n").leak())]).await;
    let client = Client::open(&harness).await;
    let (answer, _stream) = client.send(request(PATH), REQUEST).await;
    let mut body = within(answer).await.unwrap().into_body();
    let mut frames = Vec::new();
    while let Some(frame) = piece(&mut body).await {
        frames.push(String::from_utf8(frame.unwrap().to_vec()).unwrap());
    }
    frames.retain(|frame| !frame.is_empty());
    assert_eq!(frames, chunks);
}

#[actix_web::test]
async fn a_router_that_stops_lets_streams_end_and_takes_no_new_ones() {
    let config = EngineConfig { output_tokens: Some(30), time_per_output_token: PAUSE, ..EngineConfig::new("m") };
    let (harness, engine) = behind(config, &[]).await;
    let client = Client::open(&harness).await;
    let (answer, _stream) = client.send(request(PATH), STREAM).await;
    let mut body = within(answer).await.unwrap().into_body();
    let first = piece(&mut body).await.unwrap().unwrap();
    harness.router.overseer.send(Shutdown).await.unwrap();
    harness.until("the connection takes no more", async || client.requests.clone().ready().await.is_err()).await;
    assert_eq!(engine.running(), 1, "the stream goes on");
    let text = String::from_utf8([first.to_vec(), read(body).await.unwrap()].concat()).unwrap();
    assert_eq!(text.matches("\n\n").count(), 32, "the tokens, the reason, and the end: {text}");
    assert!(within(client.connection).await.unwrap().is_ok(), "the connection ends in order");
}

#[actix_web::test]
async fn heads_that_contradict_themselves_or_are_too_large_are_refused() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    let client = Client::open(&harness).await;
    let many = |count: usize| (0..count).fold(request(PATH), |head, index| head.header(format!("x-{index}"), "1"));
    let relative = || Request::post(PATH);
    for (case, head, status) in [
        ("the same host", request(PATH).header("host", "router"), 200),
        ("a host in place of the authority", relative().header("host", "router"), 200),
        ("another host", request(PATH).header("host", "other"), 400),
        ("two hosts", request(PATH).header("host", "router").header("host", "router"), 400),
        ("no host", relative(), 400),
        ("as many fields as the engine takes as well", many(80), 200),
        ("a field more", many(97), 431),
    ] {
        let answer = client.ask(head, REQUEST).await.unwrap();
        assert_eq!(answer.status, status, "{case}: {}", answer.text());
    }
    let huge = request(PATH).header("x-huge", "x".repeat(130 << 10));
    assert_eq!(client.ask(huge, REQUEST).await.map(|answer| answer.status).unwrap_or(431), 431);
    for (case, length) in [("longer than it says", "10"), ("shorter than it says", "1000")] {
        let lied = client.ask(request(PATH).header("content-length", length), REQUEST).await;
        let refused = lied.as_ref().map_or_else(|error| error.reason().is_some(), |answer| answer.status == 400);
        assert!(refused, "{case}: {lied:?}");
    }
    assert_eq!(engine.requests(), 3);
}

#[actix_web::test]
async fn a_connection_is_not_idle_while_an_answer_is_under_way() {
    // The engine takes longer over its answer than a connection without requests would be kept.
    let config = EngineConfig { output_tokens: Some(40), time_per_output_token: PAUSE, ..EngineConfig::new("m") };
    let flags = ["--client-timeout=1s", "--client-keep-alive=1s"];
    let (harness, _engine) = behind(config, &flags).await;
    let client = Client::open(&harness).await;
    let answer = client.ask(request(PATH), STREAM).await.unwrap();
    assert!(answer.text().ends_with("data: [DONE]\n\n"), "{}", answer.text());
    assert!(within(client.connection).await.unwrap().is_ok(), "afterwards it is told to leave");
}
