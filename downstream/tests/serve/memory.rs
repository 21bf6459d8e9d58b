//! What clients can make the router hold.

use std::cell::Cell;
use std::future::{pending, ready};
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use http::{Response, StatusCode};
use kthena_router_downstream::{Budget, Incoming, Limits, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use crate::frames::{self, DATA, END_STREAM, GOAWAY, PADDED, RST_STREAM, RawClient, WINDOW_UPDATE, get, post};
use crate::site::{Site, TestBody, local, rest, text, until, within};

/// A service that holds each request, and its body, for ever.
fn hoard(budget: &Budget) -> Site {
    Site::with(Limits::default(), budget.clone(), None, |_, request| async move {
        let _held = request;
        pending().await
    })
}

#[tokio::test(start_paused = true)]
async fn nothing_is_held_on_the_word_of_a_length() {
    let budget = Budget::new(64 << 20);
    let site = hoard(&budget);
    local(async {
        let mut clients = Vec::new();
        for _ in 0..4 {
            let (io, served) = site.connect();
            let mut client = RawClient::begin(io, &[]).await;
            for stream in (1..512).step_by(2) {
                client.request(stream, &[&post("/")[..], &[("content-length", "1")]].concat(), false).await;
            }
            clients.push((client, served));
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!(budget.used(), 4 * 256, "as many bytes as may come");
        drop(clients.pop());
        sleep(Duration::from_secs(1)).await;
        assert_eq!(budget.used(), 3 * 256, "a connection that ends gives back what its requests held");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn requests_beyond_the_budget_are_answered_with_503() {
    let budget = Budget::new(1 << 20);
    let site = hoard(&budget);
    local(async {
        let (io, _served) = site.connect();
        let mut client = RawClient::begin(io, &[]).await;
        for stream in (1..=15).step_by(2) {
            client.request(stream, &post("/"), false).await;
        }
        sleep(Duration::from_secs(1)).await;
        assert_eq!(budget.used(), 1 << 20, "eight bodies of which 128 KiB may be sent ahead");
        client.request(17, &post("/"), false).await;
        assert_eq!(client.status_of(17).await, Some(503));
        let (mut http1, _served) = site.connect();
        http1.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 7000000\r\n\r\n").await.unwrap();
        let answer = until(&mut http1, "\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        assert_eq!(site.refused(), [Refusal::Memory; 2]);
        client.send(RST_STREAM, 0, 1, &8_u32.to_be_bytes()).await;
        sleep(Duration::from_secs(1)).await;
        assert!(budget.used() < 1 << 20, "a request that is given up makes room");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn heads_that_never_end_count() {
    let budget = Budget::new(256 << 10);
    let site = hoard(&budget);
    local(async {
        let mut clients = Vec::new();
        for _ in 0..4 {
            let (mut client, _served) = site.connect();
            let half = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}", "a".repeat(100 << 10));
            client.write_all(half.as_bytes()).await.ok();
            clients.push(client);
        }
        sleep(Duration::from_secs(1)).await;
        assert!(budget.used() <= 256 << 10);
        assert_eq!(site.refused(), [Refusal::Memory; 2]);
        let answer = rest(&mut clients[3]).await;
        assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        clients.clear();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(budget.used(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn empty_and_tiny_frames_end_the_connection() {
    for (payload, most) in [(&b""[..], 200), (b"x", 200_000)] {
        let budget = Budget::new(64 << 20);
        let site = hoard(&budget);
        local(async {
            let (io, served) = site.connect();
            // SETTINGS_INITIAL_WINDOW_SIZE = 0: the answer would wait for ever.
            let mut client = RawClient::begin(io, &[(4, 0)]).await;
            client.request(1, &post("/nope"), false).await;
            let frame = frames::frame(DATA, 0, 1, payload);
            let mut sent = 0;
            while sent < most && !served.is_finished() {
                let Ok(Ok(())) = tokio::time::timeout(Duration::from_secs(5), client.io.write_all(&frame)).await else {
                    break;
                };
                sent += 1;
            }
            assert!(sent < most, "{sent} frames of {} bytes are taken in", payload.len());
            drop(client);
            within(served).await.unwrap();
            assert_eq!(site.refused(), [Refusal::Http2]);
            assert_eq!(budget.used(), 0);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_unread_body_of_an_answered_request_is_refused() {
    let site = Site::new(Limits::default(), |_, _| ready(text(StatusCode::NOT_FOUND, "nothing here")));
    local(async {
        let (io, _served) = site.connect();
        let mut client = RawClient::begin(io, &[]).await;
        client.request(1, &post("/nope"), false).await;
        assert_eq!(client.status_of(1).await, Some(404));
        let reset = client.next_of(RST_STREAM, 1).await;
        assert_eq!(reset.payload[..], 0_u32.to_be_bytes(), "NO_ERROR");
        // What is on its way does no harm, and its windows come back.
        for _ in 0..1000 {
            client.send(DATA, 0, 1, &[b'x'; 16 << 10]).await;
            while let Ok(Some(_)) = tokio::time::timeout(Duration::ZERO, client.next()).await {}
        }
        client.request(3, &get("/"), true).await;
        assert_eq!(client.status_of(3).await, Some(404));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn uploads_that_are_stuck_do_not_block_others_of_their_connection() {
    let site = Site::new(Limits::default(), |_, request| async move {
        if request.uri().path() == "/stuck" {
            let _held = request;
            return pending().await;
        }
        crate::site::echo(request).await
    });
    local(async {
        let (io, _served) = site.connect();
        let mut client = RawClient::begin(io, &[]).await;
        for stream in (1..60).step_by(2) {
            client.request(stream, &post("/stuck"), false).await;
            for _ in 0..8 {
                client.send(DATA, 0, stream, &[b'x'; 16 << 10]).await;
            }
        }
        client.request(61, &post("/"), false).await;
        for _ in 0..64 {
            client.send(DATA, 0, 61, &[b'x'; 1 << 10]).await;
        }
        client.send(DATA, END_STREAM, 61, b"").await;
        assert_eq!(client.status_of(61).await, Some(200));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn padding_is_credited() {
    let read = Rc::new(Cell::new(0));
    let site = {
        let read = Rc::clone(&read);
        Site::new(Limits::default(), move |_, request: http::Request<Incoming>| {
            let read = Rc::clone(&read);
            async move {
                let mut body = request.into_body();
                while let Some(Ok(piece)) = body.next().await {
                    read.set(read.get() + piece.len());
                }
                Response::new(TestBody::Whole(None))
            }
        })
    };
    local(async {
        let (io, _served) = site.connect();
        let mut client = RawClient::begin(io, &[]).await;
        client.request(1, &post("/"), false).await;
        // 128 KiB may be sent ahead on a stream; 1000 bytes of each frame are for the padding and its length.
        let mut payload = vec![255; 1000];
        payload.resize(1256, 0);
        let (mut window, mut sent) = (128 << 10_usize, 0);
        while sent < 1 << 20 {
            while window < payload.len() {
                let update = client.next_of(WINDOW_UPDATE, 1).await;
                window += u32::from_be_bytes(update.payload[..].try_into().unwrap()) as usize;
            }
            client.send(DATA, PADDED, 1, &payload).await;
            window -= payload.len();
            sent += payload.len();
        }
        client.send(DATA, END_STREAM, 1, b"").await;
        assert_eq!(client.status_of(1).await, Some(200));
        assert_eq!(read.get(), sent / payload.len() * 1000);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_with_too_many_fields_is_answered_with_431() {
    let site = Site::echo(Limits::default());
    local(async {
        let (io, served) = site.connect();
        let mut client = RawClient::begin(io, &[]).await;
        let fields: Vec<_> = get("/").into_iter().chain(std::iter::repeat_n(("x", "y"), 97)).collect();
        client.request(1, &fields, true).await;
        assert_eq!(client.status_of(1).await, Some(431));
        drop(client);
        within(served).await.unwrap();
        assert_eq!(site.refused(), [Refusal::HeadTooLarge]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_protocol_error_is_told_and_noted() {
    let site = Site::echo(Limits::default());
    local(async {
        let (io, served) = site.connect();
        let mut client = RawClient::begin(io, &[]).await;
        client.send(DATA, 0, 7, b"for nobody").await;
        assert!(client.next_of(GOAWAY, 0).await.payload.len() >= 8);
        let mut end = [0; 1];
        assert!(matches!(within(client.io.read(&mut end)).await, Ok(0)));
        drop(client);
        within(served).await.unwrap();
        assert_eq!(site.refused(), [Refusal::Http2]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_came_with_its_head_counts_as_long_as_it_is_held() {
    let budget = Budget::new(64 << 20);
    let site = hoard(&budget);
    local(async {
        let (mut client, served) = site.connect();
        let request = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9000\r\n\r\n{}", "x".repeat(9000));
        client.write_all(request.as_bytes()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(budget.used(), 9000);
        drop(client);
        within(served).await.unwrap();
        assert_eq!(budget.used(), 0);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn nothing_is_held_of_a_body_that_was_read() {
    let is_unique = Rc::new(Cell::new(false));
    let site = {
        let is_unique = Rc::clone(&is_unique);
        Site::new(Limits::default(), move |_, request: http::Request<Incoming>| {
            let is_unique = Rc::clone(&is_unique);
            async move {
                let (mut body, mut last) = (request.into_body(), None);
                while let Some(Ok(piece)) = body.next().await {
                    last = Some(piece);
                }
                sleep(Duration::from_secs(1)).await;
                is_unique.set(last.is_some_and(|last| last.is_unique()));
                text(StatusCode::OK, "read")
            }
        })
    };
    local(async {
        let (mut client, _served) = site.connect();
        let body = "x".repeat(100_000);
        for request in [
            format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{body}"),
            format!("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n186a0\r\n{body}\r\n0\r\n\r\n"),
        ] {
            client.write_all(request.as_bytes()).await.unwrap();
            until(&mut client, "read").await;
            assert!(is_unique.take(), "the connection has no part of the buffer that a piece is in");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn what_is_thrown_away_after_an_early_answer_does_not_count() {
    let budget = Budget::new(1 << 20);
    let site = Site::with(Limits::default(), budget.clone(), None, |_, _| {
        ready(text(StatusCode::PAYLOAD_TOO_LARGE, "too much"))
    });
    local(async {
        let (mut client, _served) = site.connect();
        client.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 8000000\r\n\r\n").await.unwrap();
        assert!(rest(&mut client).await.ends_with("too much"));
        for _ in 0..8000 {
            client.write_all(&[b'x'; 1000]).await.unwrap();
            assert_eq!(budget.used(), 0);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn of_what_is_pipelined_behind_a_request_little_is_read() {
    let site = Site::new(Limits::default(), |_, request: http::Request<Incoming>| async move {
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.next().await {}
        pending().await
    });
    let (body, pipe) = ("x".repeat(100_000), 256 << 10);
    for request in [
        "GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(),
        format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{body}"),
        format!("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n186a0\r\n{body}\r\n0\r\n\r\n"),
    ] {
        local(async {
            let (mut client, _served) = site.connect_wide(pipe);
            // All of it is there at once.
            client.write_all((request.clone() + &body).as_bytes()).await.unwrap();
            let mut behind = body.len();
            while let Ok(Ok(written)) = tokio::time::timeout(Duration::from_secs(1), client.write(&[b'y'; 1000])).await
            {
                behind += written;
            }
            let read = behind - pipe;
            assert!(read <= 16 << 10, "{read} bytes behind {request:.60}");
        })
        .await;
    }
}
