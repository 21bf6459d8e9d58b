//! HTTP/1.

use std::cell::{Cell, RefCell};
use std::future::ready;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use http::{HeaderValue, Response, StatusCode};
use kthena_router_downstream::{Incoming, Limits, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use crate::site::{Site, TestBody, local, rest, text, until, within};

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
    let one_more = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(96));
    for (request, status, refusal) in [
        (one_more.as_str(), 431, Refusal::HeadTooLarge),
        ("GET / HTTP/1.1\r\nhost : x\r\n\r\n", 400, Refusal::Syntax),
        ("G@T / HTTP/1.1\r\nhost: x\r\n\r\n", 400, Refusal::Syntax),
        ("GET / HTTP/3.0\r\nhost: x\r\n\r\n", 400, Refusal::Syntax),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", 400, Refusal::Syntax),
        ("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1, 2\r\n\r\n", 400, Refusal::Syntax),
        ("GET / HTTP/1.1\r\n\r\n", 400, Refusal::HostCount),
        ("GET / HTTP/1.1\r\nhost: a,b\r\n\r\n", 400, Refusal::Host),
        ("GET / HTTP/1.1\r\nhost: a:99999\r\n\r\n", 400, Refusal::Host),
        ("CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n", 400, Refusal::Connect),
        ("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 400, Refusal::TransferCoding),
        (
            "POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
            Refusal::Length,
        ),
        (
            "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
            400,
            Refusal::Length,
        ),
        (
            "\r\n\r\nPOST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
            400,
            Refusal::Length,
        ),
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

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_closes_the_connection_unless_it_is_there_already() {
    for (body, length, closes) in [("abc", 3, false), ("", 100_000, true), ("abc", 100_000, true)] {
        let site = Site::new(Limits::default(), |_, _| ready(text(StatusCode::NOT_FOUND, "nothing")));
        local(async {
            let (mut client, _served) = site.connect();
            let request = format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n{body}");
            client.write_all(request.as_bytes()).await.unwrap();
            let answer = until(&mut client, "nothing").await;
            assert_eq!(answer.contains("connection: close"), closes, "{answer}");
            if closes {
                assert_eq!(rest(&mut client).await, "");
            } else {
                client.write_all(request.as_bytes()).await.unwrap();
                until(&mut client, "nothing").await;
            }
        })
        .await;
    }
}

#[tokio::test]
async fn a_client_that_is_still_sending_finds_an_early_answer() {
    let site = Site::new(Limits::default(), |_, _| ready(text(StatusCode::PAYLOAD_TOO_LARGE, "too much")));
    local(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (socket, peer) = listener.accept().await.unwrap();
        let served = tokio::task::spawn_local(Rc::clone(&site.server).serve(socket, peer, address));
        // All of it is sent before the answer is looked at.
        let length = 8 << 20;
        client
            .write_all(format!("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {length}\r\n\r\n").as_bytes())
            .await
            .unwrap();
        for _ in 0..length >> 16 {
            within(client.write_all(&[b'x'; 1 << 16])).await.unwrap();
        }
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("too much"), "{answer}");
        drop(client);
        within(served).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_waits_to_continue_is_told_only_when_its_body_is_wanted() {
    let request = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
    let refusing = Site::new(Limits::default(), |_, _| ready(text(StatusCode::PAYLOAD_TOO_LARGE, "too much")));
    let answer = local(refusing.exchange(request)).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let site = Site::echo(Limits::default());
    local(async {
        let (mut client, _served) = site.connect();
        client.write_all(request).await.unwrap();
        assert_eq!(until(&mut client, "\r\n\r\n").await, "HTTP/1.1 100 Continue\r\n\r\n");
        client.write_all(b"abc").await.unwrap();
        until(&mut client, "POST x / abc").await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn malformed_chunks_are_answered_and_nothing_after_them_is_served() {
    for chunks in ["g\r\n", "3\r\nabcd\r\n", "3;\n\r\nabc\r\n", "ffffffffffffffffff\r\n", "-1\r\n", "0x3\r\nabc\r\n"] {
        let site = Site::echo(Limits::default());
        let request = format!(
            "POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n{chunks}GET /smuggled HTTP/1.1\r\nhost: x\r\n\r\n"
        );
        let answer = local(site.exchange(request.as_bytes())).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{chunks}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{chunks}: {answer}");
        assert!(answer.contains("the request body is malformed"), "{chunks}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_changes_the_protocol_gets_the_connection() {
    let site = Site::new(Limits::default(), |_, mut request| {
        let upgrade = request.body_mut().upgrade();
        async move {
            let Some(upgrade) = upgrade else { return text(StatusCode::OK, "no upgrade") };
            if request.uri().path() == "/no" {
                return text(StatusCode::FORBIDDEN, "not you");
            }
            tokio::task::spawn_local(async move {
                let mut tunnel = upgrade.await.unwrap();
                let mut bytes = [0; 4];
                tunnel.read_exact(&mut bytes).await.unwrap();
                tunnel.write_all(&bytes).await.unwrap();
                tunnel.shutdown().await.unwrap();
            });
            let mut answer = text(StatusCode::SWITCHING_PROTOCOLS, "");
            answer.headers_mut().insert("connection", HeaderValue::from_static("upgrade"));
            answer.headers_mut().insert("upgrade", HeaderValue::from_static("echo"));
            answer
        }
    });
    local(async {
        let (mut client, served) = site.connect();
        let request = |path| format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n");
        client.write_all(request("/no").as_bytes()).await.unwrap();
        until(&mut client, "not you").await;
        // What follows the head is of the tunnel already.
        client.write_all((request("/") + "ping").as_bytes()).await.unwrap();
        let answer = rest(&mut client).await;
        assert!(answer.starts_with("HTTP/1.1 101 ") && answer.ends_with("\r\n\r\nping"), "{answer}");
        within(served).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_http_1_0_ends_with_the_connection() {
    let (sender, receiver) = mpsc::unbounded_channel();
    sender.send(Ok("piece".into())).unwrap();
    drop(sender);
    let receiver = RefCell::new(Some(receiver));
    let site = Site::new(Limits::default(), move |_, _| {
        ready(Response::new(TestBody::Pieces(receiver.borrow_mut().take().unwrap())))
    });
    let answer = local(site.exchange(b"GET / HTTP/1.0\r\n\r\n")).await;
    assert!(answer.ends_with("\r\n\r\npiece") && !answer.contains("chunked"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_gets_the_whole_answer_of_a_connection_that_closes() {
    let site = Site::new(Limits::default(), |_, _| ready(text(StatusCode::OK, vec![b'x'; 1 << 20])));
    local(async {
        let (mut client, served) = site.connect();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut length = 0;
        let mut piece = [0; 4 << 10];
        loop {
            sleep(Duration::from_secs(1)).await;
            let read = client.read(&mut piece).await.unwrap();
            length += read;
            if read == 0 {
                break;
            }
        }
        assert!(length > 1 << 20, "{length}");
        within(served).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_of_a_known_length_learns_that_it_was_sent_whole() {
    let ended = Rc::new(Cell::new(false));
    let site = {
        let ended = Rc::clone(&ended);
        Site::new(Limits::default(), move |_, _| {
            ready(Response::new(TestBody::Told(Some("all".into()), Rc::clone(&ended))))
        })
    };
    let answer = local(site.exchange(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
    assert!(answer.contains("content-length: 3\r\n") && answer.ends_with("\r\n\r\nall"), "{answer}");
    assert!(ended.get());
}

#[tokio::test(start_paused = true)]
async fn an_answer_comes_whole_before_that_to_a_malformed_request_behind_it() {
    let site = Site::new(Limits::default(), |_, _| ready(text(StatusCode::OK, vec![b'x'; 100_000])));
    local(async {
        let (mut client, served) = site.connect();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\nG@T / HTTP/1.1\r\n\r\n").await.unwrap();
        let answers = rest(&mut client).await;
        let body = answers.find("\r\n\r\n").unwrap() + 4;
        assert!(answers[body..body + 100_000].bytes().all(|byte| byte == b'x'), "the first body is whole");
        assert!(answers[body + 100_000..].starts_with("HTTP/1.1 400 "), "the second answer stands behind it");
        within(served).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_may_be_read_by_another_task_than_its_connection() {
    let (noted, mut notes) = mpsc::unbounded_channel();
    let site = Site::new(Limits::default(), move |_, request: http::Request<Incoming>| {
        let noted = noted.clone();
        async move {
            let mut body = request.into_body();
            let (sum, summed) = tokio::sync::oneshot::channel();
            tokio::task::spawn_local(async move {
                let mut length = 0;
                while let Some(piece) = body.next().await {
                    match piece {
                        Ok(piece) => length += piece.len(),
                        Err(error) => noted.send(error.to_string()).unwrap(),
                    }
                }
                sum.send(length).ok();
            });
            text(StatusCode::OK, format!("{} bytes", summed.await.unwrap()))
        }
    });
    local(async {
        let (mut client, _served) = site.connect();
        let head = "POST / HTTP/1.1\r\nhost: x\r\n";
        client.write_all(format!("{head}content-length: 200000\r\n\r\n").as_bytes()).await.unwrap();
        for _ in 0..200 {
            client.write_all(&[b'x'; 1000]).await.unwrap();
        }
        until(&mut client, "200000 bytes").await;
        client.write_all(format!("{head}transfer-encoding: chunked\r\n\r\n").as_bytes()).await.unwrap();
        for piece in ["3\r\nabc\r\n", "2", "\r\nde\r\n0\r\n", "\r\n"] {
            client.write_all(piece.as_bytes()).await.unwrap();
            sleep(Duration::from_secs(1)).await;
        }
        until(&mut client, "5 bytes").await;
        client.write_all(format!("{head}content-length: 9\r\n\r\nabc").as_bytes()).await.unwrap();
        sleep(Duration::from_secs(1)).await;
        drop(client);
        assert_eq!(within(notes.recv()).await.as_deref(), Some("the request body broke off"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_whose_connection_is_done_with_it_ends_for_who_still_reads_it() {
    let (noted, mut notes) = mpsc::unbounded_channel();
    let site = Site::new(Limits::default(), move |_, request: http::Request<Incoming>| {
        let (noted, mut body) = (noted.clone(), request.into_body());
        tokio::task::spawn_local(async move {
            while let Some(piece) = body.next().await {
                noted.send(piece.map(|piece| piece.len()).map_err(|error| error.to_string())).unwrap();
            }
        });
        ready(text(StatusCode::OK, "early"))
    });
    local(async {
        let (mut client, served) = site.connect();
        client.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n").await.unwrap();
        assert!(rest(&mut client).await.contains("early"));
        drop(client);
        within(served).await.unwrap();
        assert_eq!(within(notes.recv()).await, Some(Err("the request body broke off".to_owned())));
        assert!(notes.try_recv().is_err(), "it is told once");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn pieces_of_any_size_are_chunks_of_their_own() {
    let sizes = [1, 100, 3000, 4096, 5000, 20_000, 70_000, 2];
    let site = Site::new(Limits::default(), move |_, _| {
        let (sender, receiver) = mpsc::unbounded_channel();
        for size in sizes {
            sender.send(Ok(vec![b'x'; size].into())).unwrap();
        }
        ready(Response::new(TestBody::Pieces(receiver)))
    });
    let answer = local(site.exchange(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await;
    let chunks: String = sizes.iter().map(|size| format!("{size:x}\r\n{}\r\n", "x".repeat(*size))).collect();
    assert!(answer.ends_with(&format!("\r\n\r\n{chunks}0\r\n\r\n")), "the chunks are those of the body");
}

#[tokio::test(start_paused = true)]
async fn a_client_that_is_refused_is_told_why_in_the_words_of_the_service() {
    for (request, reason) in [
        ("G@T / HTTP/1.1\r\nhost: x\r\n\r\n".to_owned(), "malformed_syntax"),
        (format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "a".repeat(130 << 10)), "head_too_large"),
        (format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "a".repeat(70_000)), "target_too_long"),
        ("GET / HTT".to_owned(), "head_timeout"),
    ] {
        let site = Site::echo(Limits::default());
        local(async {
            let (mut client, _served) = site.connect_wide(1 << 20);
            client.write_all(request.as_bytes()).await.unwrap();
            let answer = rest(&mut client).await;
            assert!(answer.contains("connection: close") && answer.ends_with(reason), "{reason}: {answer}");
        })
        .await;
    }
}
