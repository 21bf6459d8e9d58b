//! Sends requests to a backend on the same thread, to count what they cost:
//!
//! ```text
//! cargo build --release --package kthena-router-upstream --example requests
//! valgrind --tool=callgrind target/release/examples/requests http1 10000
//! ```
//!
//! The backend does as little as can be done, and its share is the same whatever the client does. `hyper-http1` and
//! `hyper-h2c` send the same with the connections of hyper's client, without a pool, for comparison.

use std::error::Error;
use std::future::poll_fn;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use h2::server;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::TokioIo;
use kthena_router_upstream::{Ask, Body, Client, Peer, Transport, Upstream};
use rustls::crypto::ring;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::spawn_local;

/// An answer as an engine gives it.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ndate: Sat, 28 Nov 2026 22:00:00 GMT\r\nserver: uvicorn\r\n\
    content-length: 512\r\ncontent-type: application/json\r\nx-request-id: 5f4b6c1e\r\n\r\n";
const BODY: [u8; 512] = [b'x'; 512];

fn main() -> Result<(), Box<dyn Error>> {
    const USAGE: &str = "usage: requests http1|h2c|hyper-http1|hyper-h2c COUNT";
    let mut arguments = std::env::args().skip(1);
    let client = arguments.next().ok_or(USAGE)?;
    let (transport, is_hyper) = match client.as_str() {
        "http1" => (Transport::Http1, false),
        "h2c" => (Transport::H2c, false),
        "hyper-http1" => (Transport::Http1, true),
        "hyper-h2c" => (Transport::H2c, true),
        _ => return Err(USAGE.into()),
    };
    let count: usize = arguments.next().ok_or(USAGE)?.parse()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default())?;
    runtime.block_on(run(transport, is_hyper, count))
}

async fn run(transport: Transport, is_hyper: bool, count: usize) -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let peer = Peer { address: listener.local_addr()?, transport: transport.clone() };
    spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            match transport {
                Transport::H2c => spawn_local(serve_http2(stream)),
                Transport::Http1 | Transport::Tls(_) => spawn_local(serve_http1(stream)),
            };
        }
    });
    let headers = headers();
    if is_hyper {
        return send_by_hyper(&peer, &headers, count).await;
    }
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let client = Upstream::new(Duration::from_secs(3), Arc::new(tls)).client();
    for _ in 0..count {
        request(&client, &peer, &headers).await?;
    }
    Ok(())
}

async fn request(client: &Client, peer: &Peer, headers: &HeaderMap) -> Result<(), Box<dyn Error>> {
    let mut ask = Ask {
        method: &Method::POST,
        target: "/v1/chat/completions",
        host: "model.example.com",
        headers,
        replaced: &[],
        upgrade: None,
        body: Body::Whole(Bytes::from_static(&BODY)),
        keeping: None,
        connect_timeout: None,
        timeout: Some(Duration::from_secs(60)),
        fresh: false,
        repeated: false,
    };
    let mut answer = client.send(peer, &mut ask).await?;
    let mut length = 0;
    while let Some(piece) = poll_fn(|context| answer.body.poll_chunk(context)).await {
        length += piece?.len();
    }
    if length == BODY.len() { Ok(()) } else { Err("an answer is not whole".into()) }
}

async fn send_by_hyper(peer: &Peer, headers: &HeaderMap, count: usize) -> Result<(), Box<dyn Error>> {
    let stream = TcpStream::connect(peer.address).await?;
    stream.set_nodelay(true)?;
    let stream = TokioIo::new(stream);
    if peer.transport == Transport::H2c {
        let (mut sender, connection) = http2::handshake(LocalExecutor, stream).await?;
        spawn_local(connection);
        for _ in 0..count {
            sender.ready().await?;
            let sent = sender.send_request(hyper_request("http://model.example.com/v1/chat/completions", headers)?);
            read_from_hyper(tokio::time::timeout(Duration::from_secs(60), sent).await??).await?;
        }
    } else {
        let (mut sender, connection) = http1::handshake(stream).await?;
        spawn_local(connection);
        for _ in 0..count {
            sender.ready().await?;
            let sent = sender.send_request(hyper_request("/v1/chat/completions", headers)?);
            read_from_hyper(tokio::time::timeout(Duration::from_secs(60), sent).await??).await?;
        }
    }
    Ok(())
}

fn hyper_request(uri: &str, headers: &HeaderMap) -> Result<Request<Full<Bytes>>, http::Error> {
    let mut request = Request::post(uri).body(Full::new(Bytes::from_static(&BODY)))?;
    let ends = |name: &HeaderName| *name == http::header::CONNECTION;
    request
        .headers_mut()
        .extend(headers.iter().filter(|(name, _)| !ends(name)).map(|(name, value)| (name.clone(), value.clone())));
    if request.uri().authority().is_none() {
        request.headers_mut().insert(http::header::HOST, HeaderValue::from_static("model.example.com"));
    }
    Ok(request)
}

async fn read_from_hyper(answer: Response<Incoming>) -> Result<(), Box<dyn Error>> {
    let (mut body, mut length) = (answer.into_body(), 0);
    while let Some(frame) = body.frame().await {
        length += frame?.data_ref().map_or(0, Bytes::len);
    }
    if length == BODY.len() { Ok(()) } else { Err("an answer is not whole".into()) }
}

/// Runs what hyper has to run on this thread.
#[derive(Clone)]
struct LocalExecutor;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for LocalExecutor {
    fn execute(&self, task: F) {
        spawn_local(task);
    }
}

/// The headers of a request as clients of language models send them.
fn headers() -> HeaderMap {
    let fields = [
        ("accept", "application/json"),
        ("accept-encoding", "gzip, deflate"),
        ("authorization", "Bearer sk-0123456789abcdef0123456789abcdef"),
        ("connection", "keep-alive"),
        ("content-type", "application/json"),
        ("user-agent", "OpenAI/Python 2.8.0"),
        ("x-stainless-lang", "python"),
        ("x-stainless-retry-count", "0"),
        ("x-request-id", "0b7c2a52-4d1b-4c5e-9a43-5b0f8f1f3a55"),
        ("x-forwarded-for", "10.0.0.1"),
    ];
    fields.map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).into_iter().collect()
}

async fn serve_http1(mut stream: TcpStream) {
    let answer = [ANSWER, &BODY].concat();
    let mut request = [0; 4096];
    // A request fits into one segment of the loopback device.
    while stream.read(&mut request).await.is_ok_and(|length| length > 0) {
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

async fn serve_http2(stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let Ok(mut connection) = server::handshake(stream).await else { return };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        let Ok(mut stream) = respond.send_response(Response::new(()), false) else { return };
        if stream.send_data(Bytes::from_static(&BODY), true).is_err() {
            return;
        }
    }
}
