use std::cell::{Cell, RefCell};
use std::net::{Ipv4Addr, SocketAddr};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::Method;
use http::header::{HeaderMap, HeaderName};
use rustls::RootCertStore;
use rustls::crypto::ring;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

mod bodiless;
mod encrypted;
mod frames;
mod greeting;
mod multiplexed;
mod repeated;
mod unread;

/// A server that does with each connection what a test says.
struct Server {
    address: SocketAddr,
    connections: Rc<Cell<usize>>,
    received: Rc<RefCell<Vec<String>>>,
}

/// What a server does when a request's head, and as much of its body as comes with it, is there.
#[derive(Clone, Copy)]
enum Step {
    Send(&'static str),
    Close,
    Wait,
    /// Takes two seconds, by a clock that does not wait.
    Work,
}

impl Server {
    /// Starts a server; the steps of the last connection are those of all further ones.
    async fn start(scripts: &[&[Step]]) -> Self {
        let scripts: Vec<_> = scripts.iter().map(|script| script.to_vec()).collect();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server =
            Self { address: listener.local_addr().unwrap(), connections: Rc::default(), received: Rc::default() };
        let (connections, received) = (Rc::clone(&server.connections), Rc::clone(&server.received));
        tokio::task::spawn_local(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let script = scripts[connections.get().min(scripts.len() - 1)].clone();
                connections.set(connections.get() + 1);
                tokio::task::spawn_local(play(stream, script, Rc::clone(&received)));
            }
        });
        server
    }

    fn peer(&self) -> Peer {
        Peer { address: self.address, transport: Transport::Http1 }
    }
}

/// Follows a script; each answer is to one request.
async fn play(mut stream: TcpStream, script: Vec<Step>, received: Rc<RefCell<Vec<String>>>) {
    let mut is_asked = false;
    for step in script {
        if !std::mem::replace(&mut is_asked, true) {
            let mut request = vec![0; 64 << 10];
            match stream.read(&mut request).await {
                Ok(length) if length > 0 => {
                    received.borrow_mut().push(String::from_utf8_lossy(&request[..length]).into_owned());
                }
                _ => return,
            }
        }
        match step {
            Step::Send(bytes) => {
                stream.write_all(bytes.as_bytes()).await.ok();
                is_asked = false;
            }
            Step::Close => return,
            Step::Wait => std::future::pending().await,
            Step::Work => tokio::time::sleep(Duration::from_secs(2)).await,
        }
    }
    std::future::pending::<()>().await;
}

fn client() -> Client {
    upstream(RootCertStore::empty()).client()
}

fn upstream(trusted: RootCertStore) -> Upstream {
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(trusted)
        .with_no_client_auth();
    Upstream::new(Duration::from_secs(5), Arc::new(tls))
}

fn ask<'a>(method: &'static Method, headers: &'a HeaderMap, body: Body) -> Ask<'a> {
    Ask {
        method,
        target: "/a?b=c",
        host: "example.com",
        headers,
        replaced: &[],
        upgrade: None,
        body,
        keeping: None,
        connect_timeout: None,
        timeout: None,
        fresh: false,
        repeated: false,
    }
}

/// Sends a request and returns the status and the body of its answer; an error is where it fails.
async fn fetch(client: &Client, peer: &Peer, method: &'static Method, body: Body) -> Result<(u16, String), String> {
    let headers = HeaderMap::new();
    read(client.send(peer, &mut ask(method, &headers, body)).await).await
}

/// Returns the status and the body of an answer; an error is where it fails.
async fn read(sent: Result<Box<Answer>, Failure>) -> Result<(u16, String), String> {
    let answer = sent.map_err(|failure| format!("head: {}", failure.error))?;
    let status = answer.head.status.as_u16();
    let pieces: Vec<_> = answer.body.collect().await;
    let pieces: Result<Vec<_>, _> = pieces.into_iter().collect();
    let body = pieces.map_err(|error| format!("body: {error}"))?.concat();
    Ok((status, String::from_utf8(body).unwrap()))
}

fn pieces(pieces: &'static [&'static str], length: Option<u64>) -> Body {
    let source = stream::iter(pieces).map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).boxed_local();
    Body::Stream(BodyStream { source, length })
}

const OK: Step = Step::Send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");

#[tokio::test(flavor = "local")]
async fn a_connection_serves_one_request_after_another_and_two_at_once_take_two() {
    let server = Server::start(&[&[OK; 9]]).await;
    let (client, peer) = (client(), server.peer());
    for _ in 0..3 {
        assert_eq!(fetch(&client, &peer, &Method::GET, Body::Empty).await, Ok((200, "ok".to_owned())));
    }
    assert_eq!(server.connections.get(), 1);
    let both = futures::join!(
        fetch(&client, &peer, &Method::GET, Body::Empty),
        fetch(&client, &peer, &Method::GET, Body::Empty)
    );
    assert!(both.0.is_ok() && both.1.is_ok(), "{both:?}");
    assert!(server.connections.get() >= 2);
}

#[tokio::test(flavor = "local")]
async fn answers_that_leave_the_connection_in_doubt_are_its_last() {
    for (case, step) in [
        ("more than announced", Step::Send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n")),
        ("it says so", Step::Send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")),
        ("HTTP/1.0", Step::Send("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok")),
    ] {
        let server = Server::start(&[&[step], &[OK]]).await;
        let (client, peer) = (client(), server.peer());
        for _ in 0..2 {
            let fetched = fetch(&client, &peer, &Method::GET, Body::Empty).await;
            assert_eq!(fetched, Ok((200, "ok".to_owned())), "{case}");
        }
        assert_eq!(server.connections.get(), 2, "{case}");
    }
}

#[tokio::test(flavor = "local")]
async fn what_is_dropped_before_its_end_closes_its_connection() {
    let server = Server::start(&[&[Step::Send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok"), Step::Wait]]).await;
    let (client, peer, headers) = (client(), server.peer(), HeaderMap::new());
    let answer = client.send(&peer, &mut ask(&Method::GET, &headers, Body::Empty)).await.unwrap();
    assert_eq!(answer.size, BodySize::Sized(9));
    drop(answer);
    client.send(&peer, &mut ask(&Method::GET, &headers, Body::Empty)).await.unwrap();
    assert_eq!(server.connections.get(), 2);
}

#[tokio::test(flavor = "local")]
async fn a_head_that_does_not_come_is_not_waited_for_longer_than_asked() {
    let server = Server::start(&[&[Step::Wait]]).await;
    let (client, headers) = (client(), HeaderMap::new());
    let mut ask = Ask { timeout: Some(Duration::from_millis(20)), ..ask(&Method::GET, &headers, Body::Empty) };
    assert!(matches!(
        client.send(&server.peer(), &mut ask).await,
        Err(Failure { error: AttemptError::Timeout(Stage::Exchange), sends: 1, .. })
    ));
    let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
    let peer = Peer { address: nobody, transport: Transport::Http1 };
    let fetched = fetch(&client, &peer, &Method::GET, Body::Empty).await;
    assert_eq!(fetched, Err("head: no connection could be made".to_owned()));
}

#[tokio::test(flavor = "local")]
async fn requests_are_written_as_the_method_and_the_body_want() {
    const ANY: &[Step] = &[OK];
    let with = "POST /a?b=c HTTP/1.1\r\nhost: example.com\r\n";
    for (case, method, body, expected) in [
        ("GET", &Method::GET, Body::Empty, "GET /a?b=c HTTP/1.1\r\nhost: example.com\r\n\r\n".to_owned()),
        ("POST without a body", &Method::POST, Body::Empty, format!("{with}content-length: 0\r\n\r\n")),
        (
            "all there",
            &Method::POST,
            Body::Whole(Bytes::from_static(b"hi")),
            format!("{with}content-length: 2\r\n\r\nhi"),
        ),
        (
            "all there, and not small",
            &Method::POST,
            Body::Whole("x".repeat(3000).into()),
            format!("{with}content-length: 3000\r\n\r\n{}", "x".repeat(3000)),
        ),
        (
            "of known length",
            &Method::POST,
            pieces(&["h", "", "i"], Some(2)),
            format!("{with}content-length: 2\r\n\r\nhi"),
        ),
        (
            "of unknown length",
            &Method::POST,
            pieces(&["0123456789", "", "hi"], None),
            format!("{with}transfer-encoding: chunked\r\n\r\na\r\n0123456789\r\n2\r\nhi\r\n0\r\n\r\n"),
        ),
    ] {
        let server = Server::start(&[ANY]).await;
        assert!(fetch(&client(), &server.peer(), method, body).await.is_ok(), "{case}");
        assert_eq!(*server.received.borrow(), [expected], "{case}");
    }
    for (case, body) in [("too much", pieces(&["hello"], Some(3))), ("too little", pieces(&["hi"], Some(3)))] {
        let server = Server::start(&[ANY]).await;
        let fetched = fetch(&client(), &server.peer(), &Method::POST, body).await;
        assert_eq!(fetched, Err("head: the request's body could not be read".to_owned()), "{case}");
    }
}

#[tokio::test(flavor = "local")]
async fn cookies_that_arrive_apart_are_sent_together_and_replaced_headers_once() {
    let server = Server::start(&[&[OK]]).await;
    let mut headers = HeaderMap::new();
    for (name, value) in [("cookie", "a=1"), ("cookie", "b=2"), ("x-request-id", "theirs")] {
        headers.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let replaced = [("x-request-id".parse().unwrap(), "ours".parse().unwrap())];
    let mut ask = Ask { replaced: &replaced, ..ask(&Method::GET, &headers, Body::Empty) };
    client().send(&server.peer(), &mut ask).await.unwrap();
    let received = server.received.borrow();
    assert!(received[0].contains("\r\ncookie: a=1; b=2\r\nx-request-id: ours\r\n\r\n"), "{received:?}");
}

#[tokio::test(flavor = "local")]
async fn an_answer_that_comes_before_its_request_is_sent_whole_is_read() {
    let server = Server::start(&[&[Step::Send("HTTP/1.1 413 Large\r\ncontent-length: 2\r\n\r\nno"), Step::Wait]]).await;
    let peer = server.peer();
    let endless = stream::once(async { Ok(Bytes::from_static(b"x")) }).chain(stream::pending()).boxed_local();
    let body = Body::Stream(BodyStream { source: endless, length: None });
    let client = client();
    assert_eq!(fetch(&client, &peer, &Method::POST, body).await, Ok((413, "no".to_owned())));
    fetch(&client, &peer, &Method::GET, Body::Empty).await.unwrap();
    assert_eq!(server.connections.get(), 2, "half a request is on the first connection");
}

#[tokio::test(flavor = "local")]
async fn heads_without_bodies_leave_their_connections() {
    const HEAD: Step = Step::Send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n");
    const NOT_MODIFIED: Step = Step::Send("HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n");
    let server = Server::start(&[&[HEAD, NOT_MODIFIED, OK]]).await;
    let (client, peer, headers) = (client(), server.peer(), HeaderMap::new());
    for (method, status, size) in [
        (&Method::HEAD, 200, BodySize::Sized(5)),
        (&Method::GET, 304, BodySize::None),
        (&Method::GET, 200, BodySize::Sized(2)),
    ] {
        let answer = client.send(&peer, &mut ask(method, &headers, Body::Empty)).await.unwrap();
        assert_eq!((answer.head.status.as_u16(), answer.size), (status, size));
        let expected = if status == 200 && method == Method::GET { &b"ok"[..] } else { b"" };
        let body: Vec<_> = answer.body.map(Result::unwrap).collect().await;
        assert_eq!(body.concat(), expected, "{method} {status}");
    }
    assert_eq!(server.connections.get(), 1);
}

#[tokio::test(flavor = "local")]
async fn an_answer_that_is_not_http_or_too_large_has_its_own_words_and_is_not_asked_for_again() {
    let fields =
        |count: usize| format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n{}\r\nok", "x: y\r\n".repeat(count - 1));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(128 << 10));
    for (case, answer, expected) in [
        ("150 fields", fields(150), Ok((200, "ok".to_owned()))),
        ("256 fields", fields(256), Ok((200, "ok".to_owned()))),
        ("257 fields", fields(257), Err("its head has more than 256 fields")),
        ("a long field", long, Err("its head is longer than 128 KiB")),
        ("another protocol", "220 mail.example.com ESMTP\r\n".to_owned(), Err("it is not HTTP/1.1")),
        ("HTTP/2", "\0\0\x12\x04\0\0\0\0\0".to_owned(), Err("it is not HTTP/1.1")),
    ] {
        let answer = Step::Send(answer.leak());
        let server = Server::start(&[&[OK, answer, Step::Wait]]).await;
        let client = client();
        fetch(&client, &server.peer(), &Method::GET, Body::Empty).await.unwrap();
        let headers = HeaderMap::new();
        let mut ask = ask(&Method::GET, &headers, Body::Empty);
        let fetched = read(client.send(&server.peer(), &mut ask).await).await;
        let expected = expected.map_err(|fault| format!("head: the answer is malformed: {fault}"));
        assert_eq!(fetched, expected, "{case}");
        assert_eq!(server.received.borrow().len(), 2, "{case}");
    }
}

#[tokio::test(flavor = "local")]
async fn each_way_of_a_tunnel_ends_by_itself() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let peer = Peer { address: listener.local_addr().unwrap(), transport: Transport::Http1 };
    tokio::task::spawn_local(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nfirst ";
        stream.write_all(switch).await.unwrap();
        let mut heard = String::new();
        stream.read_to_string(&mut heard).await.unwrap();
        stream.write_all(format!("after {heard}").as_bytes()).await.unwrap();
    });
    let (headers, protocol) = (HeaderMap::new(), "x".parse().unwrap());
    let mut ask = Ask { upgrade: Some(&protocol), ..ask(&Method::GET, &headers, Body::Empty) };
    let answer = client().send(&peer, &mut ask).await.unwrap();
    let Tunnel { arrived, mut reader, mut writer } = answer.body.into_tunnel().unwrap();
    writer.write_all(b"the last words").await.unwrap();
    writer.shutdown().await.unwrap();
    let mut rest = String::new();
    reader.read_to_string(&mut rest).await.unwrap();
    assert_eq!((&arrived[..], &*rest), (&b"first "[..], "after the last words"));
}

#[tokio::test(flavor = "local")]
async fn the_future_of_a_request_is_small() {
    let (client, headers) = (client(), HeaderMap::new());
    let peer = Peer { address: SocketAddr::from((Ipv4Addr::LOCALHOST, 1)), transport: Transport::Http1 };
    let mut ask = ask(&Method::GET, &headers, Body::Empty);
    let size = size_of_val(&client.send(&peer, &mut ask));
    assert!(size <= 1_500, "{size} bytes");
}
