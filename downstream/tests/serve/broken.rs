//! What must not be taken for something else: answers and requests that break off, or come in the midst of others.

use std::cell::RefCell;
use std::future::ready;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Response, StatusCode};
use kthena_router_downstream::{BoxError, Incoming, Limits};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::site::{Site, TestBody, local, rest, text, until, within};

/// Makes a site that answers with a body of pieces, which has this length if it is said to have one.
fn pieces(length: Option<u64>, pieces: Vec<Result<Bytes, BoxError>>) -> Site {
    let pieces = RefCell::new(pieces);
    Site::new(Limits::default(), move |_, _| {
        let (sender, receiver) = mpsc::unbounded_channel();
        for piece in pieces.take() {
            sender.send(piece).unwrap();
        }
        ready(Response::new(match length {
            Some(length) => TestBody::Announced(length, receiver),
            None => TestBody::Pieces(receiver),
        }))
    })
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_while_its_client_reads_slowly_is_not_ended() {
    let piece = || Ok(Bytes::from_static(&[b'x'; 3000]));
    for (case, site) in [
        ("chunks", pieces(None, vec![piece(), Err("broken".into())])),
        ("a length", pieces(Some(5000), vec![piece(), Err("broken".into())])),
        ("too short", pieces(Some(5000), vec![piece()])),
    ] {
        local(async {
            let (mut client, served) = site.connect_wide(1000);
            client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nGET /next HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            sleep(Duration::from_secs(1)).await;
            let answer = rest(&mut client).await;
            assert_eq!(answer.matches('x').count(), 3000, "{case}: what there was of it is sent: {answer:.200}");
            assert!(!answer.contains("0\r\n\r\n"), "{case}: {answer:.200}");
            assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{case}: {answer:.200}");
            within(served).await.unwrap();
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_said_before_an_answer_broke_off_is_sent() {
    let site = pieces(None, vec![Ok(vec![b'x'; 100_000].into()), Err("broken".into())]);
    let answer = local(site.exchange(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")).await;
    assert_eq!(answer.matches('x').count(), 100_000);
    assert!(answer.ends_with("x\r\n"), "it is not ended");
}

#[tokio::test(start_paused = true)]
async fn leave_to_send_a_body_does_not_come_in_the_midst_of_the_answer() {
    let site = Site::new(Limits::default(), |_, request: http::Request<Incoming>| {
        let (sender, receiver) = mpsc::unbounded_channel();
        let mut body = request.into_body();
        tokio::task::spawn_local(async move {
            sender.send(Ok("begin".into())).unwrap();
            sleep(Duration::from_secs(1)).await;
            while let Some(Ok(piece)) = body.next().await {
                sender.send(Ok(piece)).unwrap();
            }
        });
        ready(Response::new(TestBody::Pieces(receiver)))
    });
    local(async {
        let (mut client, _served) = site.connect();
        let head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
        client.write_all(head).await.unwrap();
        let begin = until(&mut client, "begin\r\n").await;
        assert!(begin.starts_with("HTTP/1.1 200 OK"), "{begin}");
        sleep(Duration::from_secs(2)).await;
        // It sends the body without leave, as it may.
        client.write_all(b"abc").await.unwrap();
        assert_eq!(until(&mut client, "0\r\n\r\n").await, "3\r\nabc\r\n0\r\n\r\n");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_was_given_no_leave_to_send_a_body_is_told_that_the_connection_ends() {
    let site = Site::new(Limits::default(), |_, _| ready(text(StatusCode::UNAUTHORIZED, "who are you")));
    let head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
    let answer = local(site.exchange(head)).await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("connection: close"), "{answer}");
}
