//! Answers over HTTP/2 that have no body, of backends that send one.

use h2::server;
use http::Response;

use super::*;

/// Answers each request with the status that its path names, an announced length and that many bytes.
async fn serve() -> Peer {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let peer = Peer { address: listener.local_addr().unwrap(), transport: Transport::H2c };
    tokio::task::spawn_local(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = server::handshake(stream).await.unwrap();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let status: u16 = request.uri().path().trim_start_matches('/').parse().unwrap();
            let response = Response::builder().status(status).header("content-length", 5).body(()).unwrap();
            let mut stream = respond.send_response(response, false).unwrap();
            stream.send_data(Bytes::from_static(b"hello"), true).unwrap();
        }
    });
    peer
}

#[tokio::test(flavor = "local")]
async fn a_body_that_an_answer_cannot_have_is_not_read_and_costs_nobody_the_connection() {
    let (peer, client, headers) = (serve().await, client(), HeaderMap::new());
    for (method, target, size, expected) in [
        (&Method::GET, "/204", BodySize::None, ""),
        (&Method::GET, "/304", BodySize::None, ""),
        (&Method::HEAD, "/200", BodySize::Sized(5), ""),
        (&Method::HEAD, "/204", BodySize::None, ""),
        (&Method::GET, "/200", BodySize::Sized(5), "hello"),
    ] {
        let answer = client.send(&peer, &mut Ask { target, ..ask(method, &headers, Body::Empty) }).await.unwrap();
        assert_eq!(answer.size, size, "{method} {target}");
        let body: Vec<_> = answer.body.map(Result::unwrap).collect().await;
        assert_eq!(body.concat(), expected.as_bytes(), "{method} {target}");
    }
}
