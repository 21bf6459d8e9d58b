//! Protocols other than HTTP/1.1 requests: upgrades, and HTTP/2 without TLS.

use actix_web::rt;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::backends::BACKEND_PORT;
use super::scene::{answered, route_yaml, rule, scene, service_yaml};
use crate::harness::PORT;

/// Reads a head, up to and with the empty line.
async fn head(stream: &mut BufReader<TcpStream>) -> String {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(stream.read_line(&mut head).await.unwrap(), 0, "the connection ended after {head:?}");
    }
    head
}

/// Takes one upgrade, answers everything that comes after it in capitals, and says goodbye when the client has ended.
async fn capitals(listener: TcpListener) {
    let (stream, _) = listener.accept().await.unwrap();
    let mut stream = BufReader::new(stream);
    let asked = head(&mut stream).await.to_ascii_lowercase();
    assert!(asked.contains("upgrade: websocket") && asked.contains("connection: upgrade"), "{asked}");
    let switched = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\r\nhello ";
    stream.write_all(switched.as_bytes()).await.unwrap();
    let mut bytes = [0; 64];
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        stream.write_all(&bytes[..count].to_ascii_uppercase()).await.unwrap();
    }
    stream.write_all(b"bye").await.unwrap();
}

#[actix_web::test]
async fn an_upgraded_connection_is_a_tunnel_in_both_directions() {
    let scene = scene(&route_yaml("ws", &rule(&[], "socket"))).await;
    let address = scene.harness.host(20);
    let backend = rt::spawn(capitals(TcpListener::bind((address, BACKEND_PORT)).await.unwrap()));
    scene.harness.write("socket.yaml", &service_yaml("socket", &[address], ", appProtocol: kubernetes.io/ws"));
    scene.harness.until("the route has its backend", async || scene.harness.registry().await.pools == 1).await;
    let mut client = BufReader::new(TcpStream::connect((scene.harness.host(1), PORT)).await.unwrap());
    let request =
        "GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-version: 13\r\n\r\n";
    client.write_all(request.as_bytes()).await.unwrap();
    let answer = head(&mut client).await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    let mut said = [0; 6];
    client.read_exact(&mut said).await.unwrap();
    assert_eq!(&said, b"hello ", "what came with the head of the answer");
    for _ in 0..3 {
        client.write_all(b"abc").await.unwrap();
        client.read_exact(&mut said[..3]).await.unwrap();
        assert_eq!(&said[..3], b"ABC");
    }
    client.shutdown().await.unwrap();
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert_eq!(rest, "bye", "a client that has ended its way still gets the last words");
    backend.await.unwrap();
}

#[actix_web::test]
async fn an_h2c_backend_is_spoken_to_in_http_2() {
    let scene = scene(&route_yaml("h2c", &rule(&[], "multiplexed"))).await;
    let service = service_yaml("multiplexed", &[scene.harness.host(10)], ", appProtocol: kubernetes.io/h2c");
    scene.harness.write("h2c.yaml", &service);
    scene.harness.until("the Service is known", async || answered(&scene.ask("GET a/", &[]).await) == "v1").await;
    let answer = crate::harness::read(scene.request("POST a/x?y", &[]).send_body("the body").await.unwrap()).await;
    let seen = answer.json();
    assert_eq!((&seen["version"], &seen["body"]), (&"HTTP/2.0".into(), &"the body".into()));
    assert_eq!((&seen["host"], &seen["path"]), (&"a".into(), &"/x?y".into()));
}
