//! What must not be taken for something else: answers and requests that break off, or come in the midst of others.

use std::cell::RefCell;
use std::future::ready;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use kthena_router_downstream::{BoxError, Limits};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::site::{Site, TestBody, local, rest, within};

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
