//! HTTP/1.

use std::cell::RefCell;
use std::future::ready;

use http::Response;
use kthena_router_downstream::{Limits, Refusal};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::site::{Site, TestBody, local, rest, until, within};

#[tokio::test(start_paused = true)]
async fn pipelined_requests_have_their_own_framing() {
    let site = Site::echo(Limits::default());
    let requests = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\nHEAD /b HTTP/1.1\r\nhost: x\r\n\r\n\
        GET /c HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\nGET /d HTTP/1.1\r\nhost: x\r\n\r\n";
    let answer = local(site.exchange(requests)).await;
    assert_eq!(answer.matches("HTTP/1.1 200 OK").count(), 3, "{answer}");
    assert!(answer.contains("GET x /a ") && answer.contains("GET x /c "), "{answer}");
    assert!(!answer.contains("HEAD x /b"), "an answer to HEAD has no body: {answer}");
    assert!(!answer.contains("/d"), "nothing is served after `connection: close`: {answer}");
}

#[tokio::test(start_paused = true)]
async fn malformed_requests_are_answered_noted_and_closed() {
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(200 << 10));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    for (request, status, refusal) in [
        ("GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400, Refusal::Syntax),
        ("G@T / HTTP/1.1\r\nhost: x\r\n\r\n", 400, Refusal::Syntax),
        ("GET / HTTP/3.0\r\nhost: x\r\n\r\n", 400, Refusal::Syntax),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400, Refusal::Syntax),
        ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1, 2\r\n\r\n", 400, Refusal::Syntax),
        ("GET / HTTP/1.1\r\n\r\n", 400, Refusal::HostCount),
        ("GET / HTTP/1.1\r\nhost: a,b\r\n\r\n", 400, Refusal::Host),
        ("GET / HTTP/1.1\r\nhost: a:99999\r\n\r\n", 400, Refusal::Host),
        ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", 405, Refusal::Connect),
        ("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 501, Refusal::TransferCoding),
        (&long, 431, Refusal::HeadTooLarge),
        (&many, 431, Refusal::HeadTooLarge),
    ] {
        let site = Site::echo(Limits::default());
        let requests = format!("{request}GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n");
        let answer = local(async {
            let (mut client, served) = site.connect();
            let (mut reader, mut writer) = tokio::io::split(&mut client);
            let (answer, _) = tokio::join!(rest(&mut reader), writer.write_all(requests.as_bytes()));
            drop(client);
            within(served).await.unwrap();
            answer
        })
        .await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{request:.60}: {answer}");
        assert!(answer.contains("connection: close"), "{request:.60}: {answer}");
        assert!(!answer.contains("smuggled"), "{request:.60}: {answer}");
        assert_eq!(site.refused(), [refusal], "{request:.60}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_sent_as_it_comes() {
    let (sender, receiver) = mpsc::unbounded_channel();
    let receiver = RefCell::new(Some(receiver));
    let site = Site::new(Limits::default(), move |_, _| {
        ready(Response::new(TestBody::Pieces(receiver.borrow_mut().take().unwrap())))
    });
    local(async {
        let (mut client, _served) = site.connect();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        for piece in ["one", "two"] {
            sender.send(Ok(piece.into())).unwrap();
            let seen = until(&mut client, piece).await;
            assert!(seen.ends_with(&format!("3\r\n{piece}\r\n")), "{seen}");
        }
        sender.send(Err("broken".into())).unwrap();
        let end = rest(&mut client).await;
        assert!(!end.contains("0\r\n\r\n"), "an answer that breaks off is not ended: {end}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off() {
    let site = Site::new(Limits::default(), |_, _| ready(Response::new(TestBody::Endless(vec![b'x'; 1000].into()))));
    local(async {
        let (mut client, served) = site.connect();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        let start = Instant::now();
        within(served).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 30);
    })
    .await;
}
