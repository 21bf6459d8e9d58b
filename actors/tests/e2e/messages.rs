//! Messages that two readers may understand differently: refused, or passed on in a form that has one meaning.
//!
//! A second request is sent behind each one. Whoever mistakes it for a part of the first, or the other way around,
//! gives another number of answers.

use std::net::SocketAddr;

use simulated_engine::EngineConfig;

use crate::harness::{Network, gateway_yaml, route_with};
use crate::wire::{Reply, Wire, behind, behind_script, post};

const PATH: &str = "/v1/completions";
const REQUEST: &str = r#"{"model":"public","prompt":"Say something."}"#;
const ANSWER: Reply = Reply::Keep("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}");
/// What stands behind a request, and is answered if it is taken for the next one.
const SECOND: &str = "GET /v1/models HTTP/1.1\r\nhost: router\r\nconnection: close\r\n\r\n";

#[actix_web::test]
async fn messages_of_doubtful_length_are_refused_and_nothing_behind_them_is_read() {
    let (harness, engine) = behind(EngineConfig::new("m"), &["--client-timeout=1s"]).await;
    let head = |more: &str| format!("POST {PATH} HTTP/1.1\r\nhost: router\r\n{more}\r\n");
    let length = REQUEST.len();
    let sized = |more: &str| head(&format!("content-length: {length}\r\n{more}")) + REQUEST;
    let chunked = |body: &str| head("transfer-encoding: chunked\r\n") + body;
    let mut misread = Vec::new();
    let rest = format!("{length:x}\r\n{REQUEST}\r\n0\r\n\r\n");
    for (case, request) in [
        ("length before chunks", sized("transfer-encoding: chunked\r\n")),
        ("chunks before length", head(&format!("transfer-encoding: chunked\r\ncontent-length: {length}\r\n")) + &rest),
        ("chunks twice", head("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n") + &rest),
        ("a list of chunks", head("transfer-encoding: chunked, chunked\r\n") + &rest),
        ("chunks not last", head("transfer-encoding: chunked, identity\r\n") + &rest),
        ("identity", head(&format!("transfer-encoding: identity\r\ncontent-length: {length}\r\n")) + REQUEST),
        ("a name that only looks like chunked", head("transfer-encoding: xchunked\r\n") + &rest),
        ("a vertical tab before chunked", head("transfer-encoding: \x0bchunked\r\n") + &rest),
        ("an empty encoding", sized("transfer-encoding: \r\n")),
        ("a length in hexadecimal", head("content-length: 0x2c\r\n") + REQUEST),
        ("an empty length", head("content-length: \r\n") + REQUEST),
        ("a length with blanks in it", head("content-length: 4 4\r\n") + REQUEST),
        ("a length beyond 64 bits", head("content-length: 18446744073709551660\r\n") + REQUEST),
        ("a folded header", sized("x-a: 1\r\n transfer-encoding: chunked\r\n")),
        ("a header that begins with a tab", sized("\tx-a: 1\r\n")),
        ("a blank before the colon", sized("transfer-encoding : chunked\r\n")),
        ("no colon", sized("transfer-encoding\r\n")),
        ("NUL in a value", sized("x-a: a\0b\r\n")),
        ("CR in a value", sized("x-a: a\rtransfer-encoding: chunked\r\n")),
        ("a control character in a name", sized("x\x01a: b\r\n")),
        ("two hosts", sized("host: router\r\n")),
        ("no host", sized("").replace("host: router\r\n", "")),
        ("a tunnel", "CONNECT router:80 HTTP/1.1\r\nhost: router:80\r\n\r\n".to_owned()),
        ("a chunk with a prefix", chunked(&format!("0x{rest}"))),
        ("a chunk with a sign", chunked(&format!("+{rest}"))),
        ("a chunk with a blank in front", chunked(&format!(" {rest}"))),
        ("a chunk of more than 64 bits", chunked(&format!("1000000000000000{rest}"))),
        ("a chunk with a second size", chunked(&rest.replacen("\r\n", " 5\r\n", 1))),
        ("a chunk whose line ends early", chunked(&rest.replacen("\r\n", "\n", 1))),
        ("a line break in an extension", chunked(&rest.replacen("\r\n", ";a\n\r\n", 1))),
        ("a chunk that is longer than it says", chunked(&rest.replacen(REQUEST, &format!("{REQUEST}x"), 1))),
    ] {
        let mut client = Wire::open(&harness).await;
        // The router may stop to listen before it has heard everything.
        client.try_send(request + SECOND).await.ok();
        let answered = String::from_utf8(client.closed().await).unwrap();
        if !answered.starts_with("HTTP/1.1 400 ") || answered.matches("HTTP/1.1 ").count() != 1 {
            misread.push(format!("{case}: {answered:?}"));
        }
    }
    assert!(misread.is_empty(), "{}", misread.join("\n"));
    assert_eq!(engine.requests(), 0);
}

#[actix_web::test]
async fn messages_of_doubtful_host_reach_nobody() {
    let (harness, engine) = behind_script(&[ANSWER]).await;
    let request = post(PATH, "", REQUEST);
    for (case, request) in [
        ("a user in the host", request.replace("host: router", "host: other@router")),
        ("a path in the host", request.replace("host: router", "host: router/x")),
        ("hosts in a list", request.replace("host: router", "host: router, other")),
        ("a host beyond ASCII", request.replace("host: router", "host: r\u{f6}uter")),
        ("a target without slash", request.replace(PATH, "router")),
        ("a target with a user", request.replace(PATH, "http://u@router/v1/completions")),
    ] {
        let mut client = Wire::open(&harness).await;
        let answer = client.ask(request).await;
        assert_eq!(answer.status, 400, "{case}: {}", answer.text());
        assert_eq!(answer.json()["error"]["code"], "malformed_request", "{case}");
        assert_eq!(client.closed().await, b"", "{case}");
    }
    assert!(engine.received().is_empty(), "{:?}", engine.received());
}

#[actix_web::test]
async fn messages_of_one_meaning_are_passed_on_in_one_form() {
    let (harness, engine) = behind(EngineConfig::new("m"), &[]).await;
    let plain = post(PATH, "", REQUEST);
    let chunked =
        |encoding: &str, body: &str| format!("POST {PATH} HTTP/1.1\r\nhost: router\r\n{encoding}\r\n\r\n{body}");
    let size = format!("{:x}", REQUEST.len());
    let body = format!("{size}\r\n{REQUEST}\r\n0\r\n\r\n");
    for (case, request) in [
        ("empty lines in front", format!("\r\n\r\n{plain}")),
        ("lines that end without CR", plain.replace("\r\n", "\n")),
        ("blanks around a value", post(PATH, "x-a: \t b \t\r\n", REQUEST)),
        ("bytes beyond ASCII in a value", post(PATH, "x-a: \u{e4}\r\n", REQUEST)),
        ("a length with zeros", plain.replace("content-length: ", "content-length: 000")),
        ("chunks in other case", chunked("Transfer-Encoding: Chunked", &body)),
        (
            "a size in other case and with zeros",
            chunked("transfer-encoding: chunked", &format!("000{}", body.replacen(&size, &size.to_uppercase(), 1))),
        ),
        ("an extension", chunked("transfer-encoding: chunked", &body.replacen("\r\n", ";a=\"b\"\r\n", 1))),
        (
            "trailers",
            chunked(
                "transfer-encoding: chunked",
                &body.replace("\r\n0\r\n", "\r\n0\r\ncontent-length: 7\r\nhost: x\r\n"),
            ),
        ),
        ("a WebSocket with a body", post(PATH, "connection: upgrade\r\nupgrade: websocket\r\n", REQUEST)),
        ("half a WebSocket", post(PATH, "upgrade: websocket\r\n", REQUEST)),
        (
            "an offer of h2c",
            post(PATH, "connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAA\r\n", REQUEST),
        ),
    ] {
        let mut client = Wire::open(&harness).await;
        client.send(request + SECOND).await;
        for expected in ["m", "list"] {
            let answer = client.answer().await.unwrap();
            assert_eq!(answer.status, 200, "{case}, {expected}: {}", answer.text());
        }
        let received = engine.last_request().unwrap();
        let values = |wanted: &str| received.headers.iter().filter(|(name, _)| name == wanted).count();
        assert_eq!(values("host"), 1, "{case}: {:?}", received.headers);
        assert_eq!(values("content-length") + values("transfer-encoding"), 1, "{case}: {:?}", received.headers);
        for gone in ["upgrade", "http2-settings", "connection"] {
            assert_eq!(values(gone), 0, "{case}: {:?}", received.headers);
        }
        assert_eq!(String::from_utf8_lossy(&received.body), REQUEST.replace("public", "m"), "{case}");
    }
}

#[actix_web::test]
async fn an_absolute_target_takes_the_place_of_the_host() {
    let network = Network::new();
    let _engines = (network.engine(10, "a").await, network.engine(11, "b").await);
    let mut manifests = String::new();
    for (name, host) in [("a", 10), ("b", 11)] {
        network.model_server(name, name, &[host]);
        let rule = format!("- targetModels: [{{modelServerName: {name}}}]");
        manifests += &gateway_yaml(name, &[(8083, Some(&format!("{name}.org")))]);
        manifests += &route_with(name, "modelName: public", name, &rule);
    }
    network.write("tenants.yaml", &manifests);
    let harness = network.start(&[]).await;
    for (target, host, expected) in [
        (PATH.to_owned(), "b.org", "b"),
        (format!("http://a.org{PATH}"), "b.org", "a"),
        (format!("http://A.org:8083{PATH}"), "b.org", "a"),
        (format!("http://b.org{PATH}"), "a.org", "b"),
    ] {
        let mut client = Wire::open_at(SocketAddr::new(harness.host(1), 8083)).await;
        let request = post(&target, "", REQUEST).replace("host: router", &format!("host: {host}"));
        assert_eq!(client.ask(request).await.answered_by(), expected, "{target}, {host}");
    }
}
