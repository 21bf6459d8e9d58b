//! HTTP/1.1 by hand, on both sides of the router: for what a library would hide, repair, or refuse to send.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use actix_web::rt::task::JoinHandle;
use simulated_engine::{Engine, EngineConfig};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Notify;
use tokio::task::yield_now;

use crate::harness::{Answer, ENGINE_PORT, Harness, Network, PATIENCE, PORT, route_yaml};

/// A client's connection.
pub(crate) struct Wire(BufReader<TcpStream>);

/// An engine that answers with bytes that were written beforehand, the last ones again and again; it has no metrics.
pub(crate) struct ScriptedEngine {
    received: Rc<RefCell<Vec<Received>>>,
    connections: Rc<Connections>,
    going_on: Rc<Notify>,
    serving: JoinHandle<()>,
}

/// The connections to a [`ScriptedEngine`], other than those for its metrics.
#[derive(Debug, Default)]
struct Connections {
    all: Cell<usize>,
    open: Cell<usize>,
}

/// A request that a [`ScriptedEngine`] got, other than for its metrics.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// What a [`ScriptedEngine`] does with a request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reply {
    /// Answers, and keeps the connection.
    Keep(&'static str),
    /// Answers with one byte at a time, and keeps the connection.
    Bytewise(&'static str),
    /// Answers, and closes the connection in order.
    Close(&'static str),
    /// Answers the first request of a connection; closes the connection in order, and without a word, at the next one.
    First(&'static str),
    /// Answers with the first part, and with the second one once the test says so; keeps the connection.
    Pause(&'static str, &'static str),
    /// Answers, and resets the connection once the test says so.
    Reset(&'static str),
}

/// Starts a router in front of one engine of the model `m` on host 10, which its clients call `public`.
pub(crate) async fn behind(config: EngineConfig, flags: &[&str]) -> (Harness, Engine) {
    let network = Network::new();
    let engine = network.engine_with(10, EngineConfig { model: "m".to_owned(), record: true, ..config }).await;
    network.model_server("m", "m", &[10]);
    network.write("route.yaml", &route_yaml("route", "public", "m"));
    (network.start(flags).await, engine)
}

/// Starts a router in front of an engine on host 10 that replies as it is told.
pub(crate) async fn behind_script(replies: &[Reply]) -> (Harness, ScriptedEngine) {
    behind_script_with(replies, &[]).await
}

/// Starts the same with flags of the router.
pub(crate) async fn behind_script_with(replies: &[Reply], flags: &[&str]) -> (Harness, ScriptedEngine) {
    let network = Network::new();
    let engine = ScriptedEngine::on(&network, 10, replies).await;
    network.model_server("m", "m", &[10]);
    network.write("route.yaml", &route_yaml("route", "public", "m"));
    (network.start(flags).await, engine)
}

/// Returns a POST request with a body of known length; `headers` end with a line break each.
pub(crate) fn post(path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nhost: router\r\ncontent-length: {length}\r\n{headers}\r\n{body}")
}

impl Wire {
    /// Connects to the router's inference port.
    pub(crate) async fn open(harness: &Harness) -> Self {
        Self::open_at(SocketAddr::new(harness.host(1), PORT)).await
    }

    /// Connects to any server.
    pub(crate) async fn open_at(address: SocketAddr) -> Self {
        Self(BufReader::new(TcpStream::connect(address).await.unwrap()))
    }

    /// Connects to the router's inference port; the system takes in only a few of the bytes that are not read.
    pub(crate) async fn open_narrow(harness: &Harness) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        Self(BufReader::new(socket.connect(SocketAddr::new(harness.host(1), PORT)).await.unwrap()))
    }

    /// Sends bytes; fails the test when they are not taken.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends bytes.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within(self.0.get_mut().write_all(bytes.as_ref())).await
    }

    /// Reads the head of an answer.
    pub(crate) async fn head(&mut self) -> io::Result<Answer> {
        let status_line = self.line().await?;
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {status_line:?}"));
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            match line.split_once(':') {
                Some((name, value)) => headers.push((name.to_ascii_lowercase(), value.trim().to_owned())),
                None => return Ok(Answer { status, headers, body: Vec::new() }),
            }
        }
    }

    /// Reads a chunk of a chunked body; the last one is empty.
    pub(crate) async fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let size = usize::from_str_radix(&self.line().await?, 16).map_err(io::Error::other)?;
        let mut chunk = vec![0; size + 2];
        within(self.0.read_exact(&mut chunk)).await?;
        assert_eq!(chunk.split_off(size), b"\r\n", "a chunk ends with a line break");
        Ok(chunk)
    }

    /// Reads so many bytes.
    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        within(self.0.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    /// Reads an answer whole; an error is one that ends too early.
    pub(crate) async fn answer(&mut self) -> io::Result<Answer> {
        let mut answer = self.head().await?;
        if answer.header("transfer-encoding") == Some("chunked") {
            loop {
                let chunk = self.chunk().await?;
                if chunk.is_empty() {
                    return Ok(answer);
                }
                answer.body.extend(chunk);
            }
        }
        answer.body = self.sized(&answer).await?;
        Ok(answer)
    }

    /// Reads the body of an answer that says how long it is.
    pub(crate) async fn sized(&mut self, answer: &Answer) -> io::Result<Vec<u8>> {
        let mut body = vec![0; answer.header("content-length").map_or(0, |length| length.parse().unwrap())];
        within(self.0.read_exact(&mut body)).await?;
        Ok(body)
    }

    /// Sends a request and reads its answer whole.
    pub(crate) async fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request).await;
        self.answer().await.unwrap()
    }

    /// Sends a request and reads the head of its answer.
    pub(crate) async fn head_of(&mut self, request: impl AsRef<[u8]>) -> Answer {
        self.send(request).await;
        self.head().await.unwrap()
    }

    /// Waits until the server closes the connection, and returns what it still sent.
    pub(crate) async fn closed(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset ends a connection as well as a close does.
        drop(within(self.0.read_to_end(&mut rest)).await);
        rest
    }

    /// Leaves as a client does whose process is killed before it has read everything.
    pub(crate) fn reset(self) {
        self.0.get_ref().set_zero_linger().unwrap();
    }

    async fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        within(self.0.read_line(&mut line)).await?;
        line.strip_suffix("\r\n").map(str::to_owned).ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }
}

impl ScriptedEngine {
    /// Starts an engine on a host.
    pub(crate) async fn on(network: &Network, host: u8, replies: &[Reply]) -> Self {
        Self::start(SocketAddr::new(network.host(host), ENGINE_PORT), replies).await
    }

    /// Starts an engine at an address.
    pub(crate) async fn start(address: SocketAddr, replies: &[Reply]) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let received = Rc::new(RefCell::new(Vec::new()));
        let script = Rc::new(RefCell::new(replies.iter().copied().collect::<VecDeque<_>>()));
        let requests = Rc::clone(&received);
        let going_on = Rc::new(Notify::new());
        let told = Rc::clone(&going_on);
        let connections = Rc::new(Connections::default());
        let counted = Rc::clone(&connections);
        let serving = actix_web::rt::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (requests, script, told) = (Rc::clone(&requests), Rc::clone(&script), Rc::clone(&told));
                let counted = Rc::clone(&counted);
                actix_web::rt::spawn(async move { drop(serve(stream, &requests, &script, &told, &counted).await) });
            }
        });
        Self { received, connections, going_on, serving }
    }

    /// Has an answer that pauses go on.
    pub(crate) fn go_on(&self) {
        self.going_on.notify_one();
    }

    /// Takes no more connections; those that are there go on.
    pub(crate) fn stop_listening(&self) {
        self.serving.abort();
    }

    /// Returns how many connections requests have come on.
    pub(crate) fn connections(&self) -> usize {
        self.connections.all.get()
    }

    /// Returns how many of those are open.
    pub(crate) fn open(&self) -> usize {
        self.connections.open.get()
    }

    /// Returns the requests that arrived, other than those for its metrics.
    pub(crate) fn received(&self) -> Vec<Received> {
        self.received.borrow().clone()
    }
}

impl Drop for ScriptedEngine {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Received {
    /// Returns the values of a header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim()).collect()
    }
}

/// Answers the requests of one connection, which counts from its first request to its end.
async fn serve(
    stream: TcpStream,
    requests: &RefCell<Vec<Received>>,
    script: &RefCell<VecDeque<Reply>>,
    going_on: &Notify,
    connections: &Connections,
) -> io::Result<()> {
    let is_counted = Cell::new(false);
    let served = answer_all(stream, requests, script, going_on, || {
        if !is_counted.replace(true) {
            connections.all.set(connections.all.get() + 1);
            connections.open.set(connections.open.get() + 1);
        }
    });
    let outcome = served.await;
    connections.open.set(connections.open.get() - usize::from(is_counted.get()));
    outcome
}

async fn answer_all(
    stream: TcpStream,
    requests: &RefCell<Vec<Received>>,
    script: &RefCell<VecDeque<Reply>>,
    going_on: &Notify,
    count: impl Fn(),
) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let is_first = Cell::new(true);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await? == 0 {
                return Ok(());
            }
        }
        if head.starts_with("GET /metrics ") {
            stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n").await?;
            continue;
        }
        let mut request = Received { head, body: Vec::new() };
        let length = request.header("content-length").first().map_or(0, |length| length.parse().unwrap());
        request.body.resize(length, 0);
        stream.read_exact(&mut request.body).await?;
        requests.borrow_mut().push(request);
        count();
        let reply = match &mut *script.borrow_mut() {
            replies if replies.len() > 1 => replies.pop_front(),
            replies => replies.front().copied(),
        };
        match reply.expect("a script has at least one reply") {
            Reply::First(_) if !is_first.replace(false) => return stream.shutdown().await,
            Reply::Keep(bytes) | Reply::First(bytes) => stream.write_all(bytes.as_bytes()).await?,
            Reply::Bytewise(bytes) => {
                stream.get_ref().set_nodelay(true)?;
                for byte in bytes.as_bytes() {
                    stream.write_all(&[*byte]).await?;
                    yield_now().await;
                }
            }
            Reply::Pause(first, second) => {
                stream.write_all(first.as_bytes()).await?;
                going_on.notified().await;
                stream.write_all(second.as_bytes()).await?;
            }
            Reply::Close(bytes) => {
                stream.write_all(bytes.as_bytes()).await?;
                return stream.shutdown().await;
            }
            Reply::Reset(bytes) => {
                stream.write_all(bytes.as_bytes()).await?;
                going_on.notified().await;
                return stream.get_ref().set_zero_linger();
            }
        }
    }
}

async fn within<T>(io: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, io).await.expect("the connection makes progress")
}
