//! HTTP/2, with and without what its connections are refused for.

use h2::server::SendResponse;
use h2::{Reason, RecvStream, server};
use http::{Request, Response as Reply};

use super::*;

/// What a server of the tests does with requests.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Conduct {
    /// Answers with the request, as far as it has come.
    Echo,
    /// Refuses the first request, and then echoes.
    RefuseFirst,
    /// Echoes one request, and says with it that there will be no other on this connection.
    LeaveAfterOne,
    /// Answers with half of what it announces.
    HalfAnswer,
}

/// Starts a server that takes two requests of a connection at once; returns how many connections it got.
async fn serve(conduct: Conduct) -> (Peer, Rc<Cell<usize>>, Rc<Cell<usize>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let peer = Peer { address: listener.local_addr().unwrap(), transport: Transport::H2c };
    let (connections, most) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let (counted, most_seen) = (Rc::clone(&connections), Rc::clone(&most));
    tokio::task::spawn_local(async move {
        let refusing = Rc::new(Cell::new(conduct == Conduct::RefuseFirst));
        while let Ok((stream, _)) = listener.accept().await {
            counted.set(counted.get() + 1);
            let (refusing, most) = (Rc::clone(&refusing), Rc::clone(&most_seen));
            tokio::task::spawn_local(async move {
                let mut connection =
                    server::Builder::new().max_concurrent_streams(2).handshake::<_, Bytes>(stream).await.unwrap();
                let running = Rc::new(Cell::new(0));
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    if refusing.take() {
                        respond.send_reset(Reason::REFUSED_STREAM);
                        continue;
                    }
                    if conduct == Conduct::LeaveAfterOne {
                        connection.graceful_shutdown();
                    }
                    running.set(running.get() + 1);
                    most.set(most.get().max(running.get()));
                    let running = Rc::clone(&running);
                    tokio::task::spawn_local(async move {
                        respond_to(request, respond, conduct).await;
                        running.set(running.get() - 1);
                    });
                }
            });
        }
    });
    (peer, connections, most)
}

async fn respond_to(request: Request<RecvStream>, mut respond: SendResponse<Bytes>, conduct: Conduct) {
    let (head, mut body) = request.into_parts();
    let mut text = format!("{} {}", head.method, head.uri);
    while let Some(Ok(piece)) = body.data().await {
        body.flow_control().release_capacity(piece.len()).unwrap();
        text.push_str(&format!(" {}", piece.len()));
    }
    tokio::task::yield_now().await;
    let announced = if conduct == Conduct::HalfAnswer { text.len() * 2 } else { text.len() };
    let reply = Reply::builder().header("content-length", announced).body(()).unwrap();
    let mut stream = respond.send_response(reply, false).unwrap();
    stream.send_data(text.into(), true).unwrap();
}

#[tokio::test(flavor = "local")]
async fn requests_share_a_connection_as_far_as_it_takes_them() {
    let (peer, connections, most) = serve(Conduct::Echo).await;
    let client = client();
    let expected = Ok((200, "GET http://example.com/a?b=c".to_owned()));
    assert_eq!(fetch(&client, &peer, &Method::GET, Body::Empty).await, expected);
    assert_eq!(fetch(&client, &peer, &Method::GET, Body::Empty).await, expected);
    assert_eq!(connections.get(), 1);
    let at_once = (0..10).map(|_| fetch(&client, &peer, &Method::GET, Body::Empty));
    for fetched in futures::future::join_all(at_once).await {
        assert_eq!(fetched, expected);
    }
    assert!(most.get() <= 2, "{} requests of one connection at once", most.get());
}

#[tokio::test(flavor = "local")]
async fn bodies_larger_than_all_windows_pass() {
    let (peer, ..) = serve(Conduct::Echo).await;
    let large = Bytes::from(vec![b'x'; 3 << 20]);
    let streamed = stream::iter([Ok(large.clone()), Ok(Bytes::from_static(b"end"))]).boxed_local();
    for (case, body, length) in [
        ("all there", Body::Whole(large), 3 << 20),
        ("as it arrives", Body::Stream(BodyStream { source: streamed, length: None }), (3 << 20) + 3),
        ("none", Body::Whole(Bytes::new()), 0),
    ] {
        let (status, text) = fetch(&client(), &peer, &Method::POST, body).await.unwrap();
        let counted: usize = text.split(' ').skip(2).map(|length| length.parse::<usize>().unwrap()).sum();
        assert_eq!((status, counted), (200, length), "{case}");
    }
}

#[tokio::test(flavor = "local")]
async fn what_the_other_side_did_not_take_up_is_sent_again() {
    for (case, conduct, connections) in
        [("a refused stream", Conduct::RefuseFirst, 2), ("a connection that is left", Conduct::LeaveAfterOne, 3)]
    {
        let (peer, counted, _) = serve(conduct).await;
        let client = client();
        if conduct == Conduct::RefuseFirst {
            // Only a connection that is there already is worth another try.
            let refused = fetch(&client, &peer, &Method::GET, Body::Empty).await;
            assert!(refused.is_err(), "{case}: {refused:?}");
        }
        for _ in 0..3 {
            let fetched = fetch(&client, &peer, &Method::POST, Body::Whole(Bytes::from_static(b"hi"))).await;
            assert_eq!(fetched, Ok((200, "POST http://example.com/a?b=c 2".to_owned())), "{case}");
        }
        assert!(counted.get() <= connections, "{case}: {} connections", counted.get());
    }
}

#[tokio::test(flavor = "local")]
async fn an_answer_that_is_shorter_than_announced_is_not_whole() {
    let (peer, ..) = serve(Conduct::HalfAnswer).await;
    let fetched = fetch(&client(), &peer, &Method::GET, Body::Empty).await;
    assert_eq!(fetched, Err("body: the connection ended before the answer".to_owned()));
}

#[tokio::test(flavor = "local")]
async fn informational_answers_are_skipped_and_trailers_follow_the_body() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let peer = Peer { address: listener.local_addr().unwrap(), transport: Transport::H2c };
    tokio::task::spawn_local(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            assert_eq!(request.headers().get("te").unwrap(), "trailers");
            respond.send_informational(Reply::builder().status(103).body(()).unwrap()).unwrap();
            let mut stream = respond.send_response(Reply::new(()), false).unwrap();
            stream.send_data(Bytes::from_static(b"hello"), false).unwrap();
            stream.send_trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), 0.into())])).unwrap();
        }
    });
    let (client, headers) =
        (client(), HeaderMap::from_iter([("te".parse().unwrap(), "gzip, Trailers".parse().unwrap())]));
    for _ in 0..2 {
        let mut answer = client.send(&peer, &mut ask(&Method::POST, &headers, Body::Empty)).await.unwrap();
        assert_eq!(answer.head.status, 200);
        assert_eq!(answer.body.next().await.unwrap().unwrap(), "hello");
        assert!(answer.body.next().await.is_none());
        let trailers = std::future::poll_fn(|context| answer.body.poll_trailers(context)).await.unwrap().unwrap();
        assert_eq!(trailers["grpc-status"], "0");
    }
}

#[tokio::test(flavor = "local")]
async fn a_request_whose_answer_nobody_reads_takes_no_room_from_others() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let peer = Peer { address: listener.local_addr().unwrap(), transport: Transport::H2c };
    // The whole connection takes 64 KiB of requests that the backend has not read.
    tokio::task::spawn_local(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            tokio::task::spawn_local(async move {
                // The answer comes before the request has arrived.
                let mut stream = respond.send_response(Reply::new(()), false).unwrap();
                stream.send_data(Bytes::from_static(b"early"), false).unwrap();
                let mut body = request.into_body();
                while let Some(Ok(piece)) = body.data().await {
                    body.flow_control().release_capacity(piece.len()).unwrap();
                }
                stream.send_data(Bytes::new(), true).unwrap();
            });
        }
    });
    let (client, headers, body) = (client(), HeaderMap::new(), Bytes::from(vec![b'x'; 1 << 20]));
    let mut ask = ask(&Method::POST, &headers, Body::Whole(body.clone()));
    let mut unread = client.send(&peer, &mut ask).await.unwrap();
    assert_eq!(unread.body.next().await.unwrap().unwrap(), "early");
    let other = fetch(&client, &peer, &Method::POST, Body::Whole(body));
    let other = tokio::time::timeout(Duration::from_secs(20), other).await;
    assert_eq!(other, Ok(Ok((200, "early".to_owned()))));
    assert!(unread.body.next().await.is_none(), "the first one goes on when it is read");
}
