//! What goes wrong on demand.

use std::io::ErrorKind;

use crate::support::{ask, begin, engine, post, read, send, until};
use actix_web::rt::net::TcpStream;
use futures::StreamExt;
use simulated_engine::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const CHAT: &str = "/v1/chat/completions";
const PLAIN: &str = r#"{"model":"m"}"#;
const STREAMED: &str = r#"{"model":"m","stream":true}"#;

/// Speaks HTTP by hand, to see how the connection itself ends.
async fn raw(engine: &Engine, directive: &str, body: &str) -> (String, Option<ErrorKind>) {
    let mut stream = TcpStream::connect(engine.addresses()[0]).await.expect("the engine accepts");
    let length = body.len();
    let request = format!(
        "POST {CHAT} HTTP/1.1\r\nhost: engine\r\nx-simulate-fault: {directive}\r\n\
         content-length: {length}\r\n\r\n{body}"
    );
    let written = stream.write_all(request.as_bytes()).await;
    written.expect("the request is sent");
    let mut received = Vec::new();
    let end = stream.read_to_end(&mut received).await;
    let text = String::from_utf8_lossy(&received).into_owned();
    (text, end.err().map(|error| error.kind()))
}

#[actix_web::test]
async fn the_error_rate_and_status_can_change_while_serving() {
    let engine = engine(|config| {
        config.error_rate = 1.0;
        config.error_status = 503;
    })
    .await;
    let answer = ask(&engine, CHAT, PLAIN).await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["error"]["message"], "simulated fault");
    engine.faults().set_error_status(429).unwrap();
    assert_eq!(ask(&engine, CHAT, PLAIN).await.status, 429);
    engine.faults().clear();
    assert_eq!(ask(&engine, CHAT, PLAIN).await.status, 200);
    assert_eq!((engine.requests(), engine.aborted()), (3, 0));
}

#[actix_web::test]
async fn faults_are_set_and_read_over_http() {
    let engine = engine(|_| {}).await;
    let path = "/simulate/faults";
    let answer = ask(&engine, path, r#"{"error_rate":1,"reset_after":3}"#).await;
    assert_eq!(answer.status, 200);
    let expected = r#"{"error_rate":1.0,"error_status":500,"hang":false,"hang_after":null,"reset":false,"reset_after":3,"unready":false,"handover":"none","stall_transfers":false}"#;
    assert_eq!(read(&engine, path).await.body, expected);
    assert_eq!(ask(&engine, CHAT, PLAIN).await.status, 500);
    for body in [r#"{"error_rate":2}"#, r#"{"eror_rate":1}"#, "x"] {
        assert_eq!(ask(&engine, path, body).await.status, 400, "{body}");
    }
    assert_eq!(read(&engine, path).await.body, expected);
}

#[actix_web::test]
async fn a_directive_concerns_one_request() {
    let engine = engine(|_| {}).await;
    let cases = [("status=502", 502), ("status=404", 404), ("explode", 400)];
    for (directive, status) in cases {
        let request = post(&engine, CHAT).insert_header(("x-simulate-fault", directive));
        assert_eq!(send(request, PLAIN).await.status, status, "{directive}");
    }
    assert_eq!(ask(&engine, CHAT, PLAIN).await.status, 200);
}

#[actix_web::test]
async fn a_stream_is_reset_after_its_chunks() {
    let engine = engine(|_| {}).await;
    for chunks in [0, 1, 3] {
        let (text, end) = raw(&engine, &format!("reset-after={chunks}"), STREAMED).await;
        assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
        assert_eq!(text.matches("data: ").count(), chunks, "{text}");
        assert_eq!(end, Some(ErrorKind::ConnectionReset), "after {chunks}");
    }
    until("no request runs", || engine.running() == 0).await;
    assert_eq!(engine.aborted(), 0);
}

#[actix_web::test]
async fn a_whole_answer_is_reset_in_its_middle() {
    let engine = engine(|_| {}).await;
    let (text, end) = raw(&engine, "reset-after=0", PLAIN).await;
    assert!(text.contains("{\"choices\":["), "{text}");
    assert!(!text.ends_with('}'), "{text}");
    assert_eq!(end, Some(ErrorKind::ConnectionReset));
}

#[actix_web::test]
async fn a_reset_comes_instead_of_an_answer() {
    let engine = engine(|_| {}).await;
    for body in [PLAIN, STREAMED] {
        let (text, _) = raw(&engine, "reset", body).await;
        assert_eq!(text, "", "{body}");
    }
    engine.faults().set_reset(true);
    assert!(post(&engine, CHAT).send_body(PLAIN).await.is_err());
    until("no request runs", || engine.running() == 0).await;
    assert_eq!((engine.requests(), engine.aborted()), (3, 0));
}

#[actix_web::test]
async fn a_hanging_request_runs_until_its_client_leaves() {
    let engine = engine(|_| {}).await;
    engine.faults().set_hang(true);
    for (left, body) in [PLAIN, STREAMED].into_iter().enumerate() {
        let request = begin(&engine, CHAT, body);
        until("the request runs", || engine.running() == 1).await;
        assert_eq!(engine.aborted(), left as u64);
        request.abort();
        until("it is gone", || engine.aborted() == left as u64 + 1).await;
        assert_eq!(engine.running(), 0);
    }
}

#[actix_web::test]
async fn a_stream_stands_still_after_its_chunks() {
    let engine = engine(|_| {}).await;
    engine.faults().set_hang_after(Some(2));
    let mut response = post(&engine, CHAT).send_body(STREAMED).await.unwrap();
    let mut events = 0;
    while events < 2 {
        let chunk = response.next().await.unwrap().unwrap();
        events += String::from_utf8_lossy(&chunk).matches("data: ").count();
    }
    assert_eq!((engine.running(), engine.aborted()), (1, 0));
    drop(response);
    until("it is gone", || engine.aborted() == 1).await;
}

#[actix_web::test]
async fn readiness_is_refused_on_demand() {
    let engine = engine(|_| {}).await;
    assert_eq!(read(&engine, "/health").await.status, 200);
    engine.faults().set_unready(true);
    assert_eq!(read(&engine, "/health").await.status, 503);
    engine.faults().set_unready(false);
    assert_eq!(read(&engine, "/health").await.status, 200);
}
