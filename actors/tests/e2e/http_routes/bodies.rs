//! Bodies of requests and answers on their way through HTTPRoutes, which read none of them.

use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::backends::BACKEND_PORT;
use super::scene::{route_yaml, rule, scene, service_yaml};
use crate::harness::read;
use crate::wire::Wire;

#[actix_web::test]
async fn bodies_of_every_length_and_framing_reach_the_backend_whole() {
    let mirrored = "- backendRefs: [{name: v1, port: 8080}]\n  filters: [{type: RequestMirror, requestMirror: \
                    {backendRef: {name: v2, port: 8080}}}]\n  matches: [{path: {value: /mirrored}}]\n";
    let h2c = service_yaml("h2c", &["127.0.0.1".parse().unwrap()], "");
    let scene = scene(&(route_yaml("r", &(rule(&[], "v1") + mirrored)) + &h2c)).await;
    let service = service_yaml("h2c", &[scene.harness.host(10)], ", appProtocol: kubernetes.io/h2c");
    scene.harness.write("h2c.yaml", &(service + &route_yaml("h2c", &rule(&["path: {value: /h2c}"], "h2c"))));
    let spoken = async || scene.ask("GET a/h2c", &[]).await.json()["version"] == "HTTP/2.0";
    scene.harness.until("the backend is spoken to in HTTP/2", spoken).await;
    for path in ["streamed", "mirrored", "h2c"] {
        for length in [0_usize, 3, 64 << 10, (64 << 10) + 1, 3 << 20] {
            // A byte order mark belongs to a text as any other of its bytes.
            let mark = if length == 0 { "" } else { "\u{feff}" };
            let body = mark.to_owned() + &"x".repeat(length.saturating_sub(mark.len()));
            let known = scene.request(&format!("POST a/{path}"), &[]).send_body(body.clone()).await.unwrap();
            assert!(read(known).await.json()["body"] == *body, "{path}: {length} bytes of known length");
            let pieces = body.as_bytes().chunks(50_000).map(|piece| Ok::<_, std::io::Error>(piece.to_vec().into()));
            let pieces: Vec<_> = pieces.collect();
            let chunked = scene.request(&format!("PUT a/{path}"), &[]).send_stream(futures::stream::iter(pieces));
            let seen = read(chunked.await.unwrap()).await.json();
            assert!(seen["body"] == *body, "{path}: {length} bytes in chunks");
        }
    }
}

#[actix_web::test]
async fn a_large_body_reaches_the_backend_before_the_client_has_finished() {
    let scene = scene(&route_yaml("r", &rule(&[], "slow"))).await;
    let address = scene.harness.host(20);
    let listener = TcpListener::bind(SocketAddr::new(address, BACKEND_PORT)).await.unwrap();
    scene.harness.write("slow.yaml", &service_yaml("slow", &[address], ""));
    let open = async || scene.ask("GET a/", &[]).await.status;
    let ready = async || tokio::time::timeout(std::time::Duration::from_millis(50), open()).await.is_err();
    scene.harness.until("the backend gets requests", ready).await;
    drop(listener.accept().await.unwrap());

    let mut client = Wire::open(&scene.harness).await;
    let half = "x".repeat(100_000);
    client.send(format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 200000\r\n\r\n{half}")).await;
    let mut received = Vec::new();
    let mut stream = loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut buffer = vec![0; 1 << 20];
        while let Ok(length @ 1..) = stream.read(&mut buffer).await {
            received.extend_from_slice(&buffer[..length]);
            if received.len() >= half.len() {
                break;
            }
        }
        if received.len() >= half.len() {
            break stream;
        }
        received.clear();
    };
    client.send(&half).await;
    let mut rest = vec![0; 200_000];
    let head = received.windows(4).position(|window| window == b"\r\n\r\n").unwrap() + 4;
    let left = 200_000 - (received.len() - head);
    stream.read_exact(&mut rest[..left]).await.unwrap();
    stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone").await.unwrap();
    assert_eq!(client.answer().await.unwrap().text(), "done");
}

#[actix_web::test]
async fn an_answer_to_head_says_how_long_the_other_would_be_and_ends_there() {
    let scene = scene(&route_yaml("r", &rule(&[], "v1"))).await;
    let mut client = Wire::open(&scene.harness).await;
    let get = "GET /x HTTP/1.1\r\nhost: a\r\nx-request-id: one\r\n\r\n";
    let head = client.head_of(get.replace("GET", "HEAD")).await;
    let length: usize = head.header("content-length").unwrap().parse().unwrap();
    assert!(head.status == 200 && length > 100, "{head:?}");
    let answer = client.ask(get).await;
    assert_eq!((answer.status, answer.body.len() + 1), (200, length), "`HEAD` is one letter longer than `GET`");
    let log = scene.harness.logged("\"GET /x HTTP/1.1\" 200 ").await;
    assert!(log.contains("\"HEAD /x HTTP/1.1\" 200 "), "{log}");
    for field in ["backend_type=service backend_name=default/v1 ", " http_route=default/r ", "gateway=default/gateway"]
    {
        assert!(log.contains(field), "{field}: {log}");
    }
    assert!(!log.contains("model_"), "{log}");
}

#[actix_web::test]
async fn backends_learn_of_the_client_what_the_router_knows() {
    let scene = scene(&route_yaml("r", &rule(&[], "v1"))).await;
    let request = "GET / HTTP/1.1\r\nhost: a.example\r\nx-forwarded-for: 192.0.2.1\r\nx-forwarded-proto: https\r\n\
                   x-forwarded-host: other\r\nconnection: x-of-client, keep-alive\r\nx-of-client: 1\r\nte: trailers\r\n\r\n";
    let seen = Wire::open(&scene.harness).await.ask(request).await.json();
    let header = |name: &str| seen["headers"][name][0].as_str().map(str::to_owned);
    let addresses = header("x-forwarded-for").unwrap();
    assert!(
        addresses.starts_with("127.") && !addresses.contains(','),
        "what a client says is not believed: {addresses}"
    );
    assert_eq!(header("x-forwarded-proto").as_deref(), Some("http"));
    assert_eq!(header("x-forwarded-host").as_deref(), Some("a.example"));
    assert_eq!(header("x-request-id").map(|id| id.len()), Some(36));
    for name in ["x-of-client", "te", "connection", "date"] {
        assert_eq!(seen["headers"][name], Value::Null, "{name}");
    }
}
