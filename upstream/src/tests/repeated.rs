//! When a request is sent a second time.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::sync::mpsc;
use std::thread;

use super::*;

const CLOSED: &str = "head: the connection ended before the answer began";
const STALE: &str = "head: a kept connection was closed before the answer began";

/// Sends a request; returns its answer, how often it was sent, and whether a failure leaves open that it was acted on.
async fn attempt(
    client: &Client,
    peer: &Peer,
    ask: &mut Ask<'_>,
) -> (Result<(u16, String), String>, u32, Option<Processed>) {
    match client.send(peer, ask).await {
        Ok(answer) => {
            let sends = answer.sends;
            (read(Ok(answer)).await, sends, None)
        }
        Err(failure) => {
            let (sends, processed) = (failure.sends, failure.processed);
            (read(Err(failure)).await, sends, Some(processed))
        }
    }
}

#[tokio::test(flavor = "local")]
async fn what_a_backend_may_have_acted_on_is_sent_once() {
    for (case, method, body) in [
        ("POST", &Method::POST, Body::Whole(Bytes::from_static(b"hello"))),
        ("POST without a body", &Method::POST, Body::Empty),
        ("GET, which only a policy may repeat", &Method::GET, Body::Empty),
        ("a body that is gone", &Method::PUT, pieces(&["hello"], Some(5))),
    ] {
        let broken = |how: &str| (Err(how.to_owned()), 1, Some(Processed::Maybe));
        // The first connection takes the second request whole, and says nothing to it.
        let server = Server::start(&[&[OK, Step::Close], &[OK]]).await;
        let (client, peer, headers) = (client(), server.peer(), HeaderMap::new());
        fetch(&client, &peer, &Method::GET, Body::Empty).await.unwrap();
        assert_eq!(attempt(&client, &peer, &mut ask(method, &headers, body)).await, broken(STALE), "{case}");
        assert_eq!(server.received.borrow().len(), 2, "{case}: requests that the backend has seen");
        let server = Server::start(&[&[Step::Close]]).await;
        let fetched = attempt(&client, &server.peer(), &mut ask(method, &headers, Body::Empty)).await;
        assert_eq!(fetched, broken(CLOSED), "{case}, on a fresh connection");
        assert_eq!(server.connections.get(), 1, "{case}");
    }
}

#[tokio::test(flavor = "local", start_paused = true)]
async fn what_a_backend_has_worked_on_is_no_request_to_a_stale_connection() {
    let server = Server::start(&[&[OK, Step::Work, Step::Close], &[OK]]).await;
    let (client, peer, headers) = (client(), server.peer(), HeaderMap::new());
    fetch(&client, &peer, &Method::GET, Body::Empty).await.unwrap();
    let fetched = attempt(&client, &peer, &mut ask(&Method::POST, &headers, Body::Empty)).await;
    assert_eq!(fetched, (Err(CLOSED.to_owned()), 1, Some(Processed::Maybe)));
}

/// Answers one request on a connection, closes it when told to, and tells so; then answers one on the next.
fn close_when_told(listener: &std::net::TcpListener, told: &mpsc::Receiver<()>, closed: &mpsc::Sender<()>) {
    let answer = || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").unwrap();
        stream
    };
    let first = answer();
    told.recv().unwrap();
    drop(first);
    closed.send(()).unwrap();
    drop(answer());
}

/// Has a client keep a connection, which its server then closes. The runtime has had no chance to notice, because this thread
/// stands still meanwhile. Returns the server, which answers one more request, and its thread.
async fn closed_while_idle(client: &Client) -> (Peer, thread::JoinHandle<()>) {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let peer = Peer { address: listener.local_addr().unwrap(), transport: Transport::Http1 };
    let ((tell, told), (closing, closed)) = (mpsc::channel(), mpsc::channel());
    let server = thread::spawn(move || close_when_told(&listener, &told, &closing));
    fetch(client, &peer, &Method::GET, Body::Empty).await.unwrap();
    tell.send(()).unwrap();
    closed.recv().unwrap();
    (peer, server)
}

#[tokio::test(flavor = "local")]
async fn after_a_stale_connection_the_next_one_is_fresh() {
    // Two connections wait; the backend ends either at its second request.
    let server = Server::start(&[&[OK, Step::Close], &[OK, Step::Close], &[OK]]).await;
    let (client, peer, headers) = (client(), server.peer(), HeaderMap::new());
    let (one, two) = futures::join!(
        fetch(&client, &peer, &Method::GET, Body::Empty),
        fetch(&client, &peer, &Method::GET, Body::Empty)
    );
    assert!(one.is_ok() && two.is_ok() && server.connections.get() == 2);
    let get = async || attempt(&client, &peer, &mut ask(&Method::GET, &headers, Body::Empty)).await;
    assert_eq!(get().await.0, Err(STALE.to_owned()));
    assert_eq!((get().await.0.map(|(status, _)| status), server.connections.get()), (Ok(200), 3));
}

#[tokio::test(flavor = "local")]
async fn what_may_be_run_twice_is_sent_again_on_a_fresh_connection_to_a_kept_ones_backend() {
    let server = Server::start(&[&[OK, Step::Close], &[OK]]).await;
    let (client, peer, headers) = (client(), server.peer(), HeaderMap::new());
    fetch(&client, &peer, &Method::GET, Body::Empty).await.unwrap();
    let mut asked = Ask::get("/", "host", &headers);
    let answer = client.send_again(&peer, &mut asked).await.unwrap();
    assert_eq!((answer.head.status.as_u16(), server.connections.get()), (200, 2));
    let server = Server::start(&[&[Step::Close]]).await;
    let failed = client.send_again(&server.peer(), &mut asked).await;
    assert!(matches!(failed, Err(Failure { error: AttemptError::Broken(_), sends: 1, .. })));
}

#[tokio::test(flavor = "local")]
async fn a_connection_that_was_closed_while_it_was_idle_costs_no_request() {
    let whole = || Body::Whole(Bytes::from_static(b"hello"));
    for (case, repeated, body) in [
        ("none", false, Body::Empty),
        ("all there", false, whole()),
        ("of known length, once", false, pieces(&["hello"], Some(5))),
        ("of unknown length, once", false, pieces(&["hello"], None)),
        ("of known length, once, whatever its sender says", true, pieces(&["hello"], Some(5))),
    ] {
        let (client, headers) = (client(), HeaderMap::new());
        let (peer, server) = closed_while_idle(&client).await;
        let mut asked = Ask { repeated, ..ask(&Method::POST, &headers, body) };
        let (fetched, sends, _) = attempt(&client, &peer, &mut asked).await;
        assert_eq!((fetched, sends), (Ok((200, "ok".to_owned())), 1), "{case}");
        server.join().unwrap();
    }
}

#[tokio::test(flavor = "local")]
async fn a_request_that_is_sent_again_finds_a_closed_connection_as_soon_as_the_runtime_knows_of_it() {
    for is_known in [true, false] {
        let (client, headers) = (client(), HeaderMap::new());
        let (peer, server) = closed_while_idle(&client).await;
        if is_known {
            // When the runtime knows of what came later, it knows of the end of the connection.
            let (later, watched) = UnixStream::pair().unwrap();
            watched.set_nonblocking(true).unwrap();
            drop(later);
            tokio::net::UnixStream::from_std(watched).unwrap().readable().await.unwrap();
        }
        let body = Body::Whole(Bytes::from_static(b"hello"));
        let mut asked = Ask { repeated: true, ..ask(&Method::POST, &headers, body) };
        let outcome = attempt(&client, &peer, &mut asked).await;
        if is_known {
            assert_eq!(outcome, (Ok((200, "ok".to_owned())), 1, None));
        } else {
            assert_eq!(outcome, (Err(STALE.to_owned()), 1, Some(Processed::Maybe)));
            asked.fresh = true;
            assert_eq!(attempt(&client, &peer, &mut asked).await.0, Ok((200, "ok".to_owned())));
        }
        server.join().unwrap();
    }
}
