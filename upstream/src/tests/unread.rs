//! Answers over HTTP/2 that nobody reads, beside others on the same connection.

use h2::server;
use http::Response as Reply;
use tokio::task::yield_now;

use super::*;

/// The window that the client gives to an answer.
const WINDOW: usize = 128 << 10;

/// A backend that answers `/short` with two bytes, and everything else with bytes without end.
struct Backend {
    peer: Peer,
    connections: Rc<Cell<usize>>,
    /// How many bytes of the endless answers have been sent.
    sent: Rc<Cell<usize>>,
}

impl Backend {
    /// Starts a backend that takes `streams` requests of a connection at once, and sends frames of `frame` bytes.
    async fn start(streams: u32, frame: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let peer = Peer { address: listener.local_addr().unwrap(), transport: Transport::H2c };
        let backend = Self { peer, connections: Rc::default(), sent: Rc::default() };
        let (connections, sent) = (Rc::clone(&backend.connections), Rc::clone(&backend.sent));
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                connections.set(connections.get() + 1);
                let sent = Rc::clone(&sent);
                tokio::task::spawn_local(async move {
                    let mut builder = server::Builder::new();
                    let handshake = builder.max_concurrent_streams(streams).handshake::<_, Bytes>(stream);
                    let mut connection = handshake.await.unwrap();
                    while let Some(Ok((request, mut respond))) = connection.accept().await {
                        let mut stream = respond.send_response(Reply::new(()), false).unwrap();
                        if request.uri().path() == "/short" {
                            stream.send_data(Bytes::from_static(b"ok"), true).unwrap();
                        } else {
                            tokio::task::spawn_local(send_endlessly(stream, frame, Rc::clone(&sent)));
                        }
                    }
                });
            }
        });
        backend
    }

    /// Begins endless answers that nobody reads, and returns once the backend can send no more of them.
    async fn stall(&self, client: &Client, answers: usize) -> Vec<Box<Answer>> {
        let (headers, mut stalled) = (HeaderMap::new(), Vec::new());
        for _ in 0..answers {
            stalled.push(client.send(&self.peer, &mut ask(&Method::GET, &headers, Body::Empty)).await.unwrap());
        }
        let sending = async {
            while self.sent.get() < answers * WINDOW {
                yield_now().await;
            }
        };
        let sent = tokio::time::timeout(Duration::from_secs(60), sending).await;
        assert!(sent.is_ok(), "only {} bytes of {answers} answers can be sent", self.sent.get());
        stalled
    }
}

async fn send_endlessly(mut stream: h2::SendStream<Bytes>, frame: usize, sent: Rc<Cell<usize>>) -> Option<()> {
    loop {
        stream.reserve_capacity(frame);
        let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await?.ok()?.min(frame);
        stream.send_data(Bytes::from(vec![b'x'; room]), false).ok()?;
        sent.set(sent.get() + room);
        if sent.get().is_multiple_of(1_000) {
            yield_now().await;
        }
    }
}

async fn fetch_short(client: &Client, peer: &Peer) -> Result<(u16, String), String> {
    let headers = HeaderMap::new();
    let mut ask = Ask { target: "/short", ..ask(&Method::GET, &headers, Body::Empty) };
    let fetched = async { read(client.send(peer, &mut ask).await).await };
    tokio::time::timeout(Duration::from_secs(20), fetched).await.unwrap_or_else(|_| Err("it does not end".to_owned()))
}

#[tokio::test(flavor = "local")]
async fn answers_that_nobody_reads_hold_up_no_others() {
    for streams in [250, 1000] {
        let (backend, client) = (Backend::start(streams, 16 << 10).await, client());
        let stalled = backend.stall(&client, 200).await;
        for _ in 0..3 {
            assert_eq!(fetch_short(&client, &backend.peer).await, Ok((200, "ok".to_owned())), "{streams} streams");
        }
        assert_eq!(backend.connections.get(), 2, "{streams} streams");
        drop(stalled);
    }
}

#[tokio::test(flavor = "local")]
async fn small_frames_that_nobody_reads_end_no_connection() {
    let (backend, client) = (Backend::start(250, 1).await, client());
    let mut stalled = backend.stall(&client, 1).await;
    assert_eq!(fetch_short(&client, &backend.peer).await, Ok((200, "ok".to_owned())));
    assert_eq!(backend.connections.get(), 1);
    let mut read = 0;
    while read <= WINDOW {
        read += stalled[0].body.next().await.unwrap().unwrap().len();
    }
}
