//! Requests that wait for long.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use futures::StreamExt;
use http::Response;
use kthena_router_downstream::{Incoming, Limits, Refusal};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

use crate::site::{Site, TestBody, echo, local, rest, until, within};

/// Waits for a minute, with or without the body, before it answers.
async fn patient(request: http::Request<Incoming>) -> Response<TestBody> {
    sleep(Duration::from_secs(60)).await;
    echo(request).await
}

fn waiting() -> Site {
    Site::new(Limits::default(), |_, request| async move {
        match request.uri().path() {
            "/at-once" => echo(request).await,
            // What is still to come is read after it has waited.
            "/unread" => patient(request).await,
            _ => {
                let (parts, mut body) = request.into_parts();
                while let Some(piece) = body.next().await {
                    piece.unwrap();
                }
                patient(http::Request::from_parts(parts, Incoming::empty())).await
            }
        }
    })
}

#[tokio::test(start_paused = true)]
async fn a_request_that_has_waited_is_answered_as_any_other() {
    let post = |path: &str, more: &str| format!("POST {path} HTTP/1.1\r\nhost: x\r\n{more}\r\n");
    for (case, request, expected, stays) in [
        ("no body", post("/a", ""), "POST x /a ", true),
        ("a body", post("/a", "content-length: 3\r\n") + "abc", "POST x /a ", true),
        ("chunks", post("/a", "transfer-encoding: chunked\r\n") + "3\r\nabc\r\n0\r\n\r\n", "POST x /a ", true),
        ("a body that is read later", post("/unread", "content-length: 3\r\n") + "abc", "POST x /unread abc", true),
        ("the last request", post("/a", "connection: close\r\n"), "connection: close", false),
        ("an older client", "GET /a HTTP/1.0\r\nhost: x\r\n\r\n".to_owned(), "HTTP/1.0 200 OK", false),
        (
            "an older client that stays",
            "GET /a HTTP/1.0\r\nhost: x\r\nconnection: keep-alive\r\n\r\n".to_owned(),
            "connection: keep-alive",
            true,
        ),
    ] {
        local(async {
            let (mut client, served) = waiting().connect();
            let start = Instant::now();
            client.write_all(request.as_bytes()).await.unwrap();
            if !stays {
                let answer = rest(&mut client).await;
                assert!(answer.contains(expected), "{case}: {answer}");
                return within(served).await.unwrap();
            }
            let answer = until(&mut client, " /").await;
            assert_eq!(start.elapsed().as_secs(), 60, "{case}");
            client.write_all(b"GET /at-once HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
            let answers = answer + &rest(&mut client).await;
            assert!(answers.contains(expected), "{case}: {answers}");
            assert!(answers.contains("GET x /at-once "), "{case}: {answers}");
            assert_eq!(answers.matches("HTTP/1.").count(), 2, "{case}: {answers}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_pipelined_behind_a_request_that_waits_is_served_after_it() {
    for pause in [0, 1] {
        local(async {
            let (mut client, _served) = waiting().connect();
            client.write_all(b"HEAD /a HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            sleep(Duration::from_secs(pause)).await;
            let long =
                format!("POST /at-once HTTP/1.1\r\nhost: x\r\nx: {}\r\ncontent-length: 2\r\n\r\nhi", "y".repeat(9000));
            client.write_all(long.as_bytes()).await.unwrap();
            client.write_all(b"GET /b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
            let answers = rest(&mut client).await;
            let places = ["POST x /at-once hi", "GET x /b"].map(|answer| answers.find(answer));
            assert!(places[0].is_some() && places[0] < places[1], "{pause}: {answers}");
            assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), 3, "{pause}: {answers}");
            assert!(!answers.contains("HEAD x /a"), "an answer to HEAD has no body: {answers}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_lost_of_what_is_pipelined_behind_requests_that_wait_one_after_the_other() {
    const COUNT: usize = 20;
    local(async {
        let (mut client, _served) = waiting().connect_wide(1 << 20);
        // The head comes alone, and what follows is more than is read at once.
        client.write_all(b"POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n").await.unwrap();
        sleep(Duration::from_secs(1)).await;
        let post = |path: &str, body: &str| {
            format!("POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}", body.len())
        };
        let bodies: Vec<_> = (0..COUNT).map(|number| format!("{number:_>600}")).collect();
        let at_once: String = bodies.iter().map(|body| post("/at-once", body)).collect();
        let pipelined = "hi".to_owned() + &post("/b", "") + &post("/c", "") + &at_once;
        client.write_all(pipelined.as_bytes()).await.unwrap();
        client.write_all(b"GET /d HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
        let answers = rest(&mut client).await;
        let expected = ["/a ", "/b ", "/c "].into_iter().chain(bodies.iter().map(String::as_str)).chain(["GET x /d "]);
        let mut places = expected.map(|answer| answers.find(answer));
        assert!(places.all(|place| place.is_some()), "{answers}");
        assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), COUNT + 4, "{answers}");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_with_a_length_beside_its_chunks_is_refused_behind_one_that_waits() {
    local(async {
        let site = waiting();
        let (mut client, served) = site.connect();
        client
            .write_all(
                b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n\
                POST /b HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n\
                GET /at-once HTTP/1.1\r\nhost: x\r\n\r\n",
            )
            .await
            .unwrap();
        let answers = rest(&mut client).await;
        assert!(answers.contains("GET x /a ") && answers.contains("connection: close"), "{answers}");
        assert!(!answers.contains("/b") && !answers.contains("/at-once"), "{answers}");
        within(served).await.unwrap();
        assert_eq!(site.refused(), [Refusal::Length]);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_while_its_request_waits_is_noticed() {
    struct Noted(Rc<Cell<bool>>);
    impl Drop for Noted {
        fn drop(&mut self) {
            self.0.set(true);
        }
    }
    let is_dropped = Rc::new(Cell::new(false));
    let noted = Rc::clone(&is_dropped);
    let site = Site::new(Limits::default(), move |_, request| {
        let noted = Noted(Rc::clone(&noted));
        async move {
            let answer = patient(request).await;
            drop(noted);
            answer
        }
    });
    local(async {
        let (mut client, served) = site.connect();
        let start = Instant::now();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        sleep(Duration::from_secs(1)).await;
        assert!(!is_dropped.get());
        drop(client);
        within(served).await.unwrap();
        assert!(is_dropped.get());
        assert_eq!(start.elapsed().as_secs(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_waits_while_the_port_closes_is_the_last() {
    for waits in [0, 1] {
        let site = waiting();
        local(async {
            let (mut client, served) = site.connect();
            client.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
            sleep(Duration::from_secs(waits)).await;
            site.server.closing.cancel();
            let answer = rest(&mut client).await;
            if waits == 1 {
                assert!(answer.contains("connection: close") && answer.contains("GET x /a"), "{answer}");
            }
            within(served).await.unwrap();
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_after_another_task_has_read_its_body_is_noticed() {
    let site = Site::new(Limits::default(), |_, request: http::Request<Incoming>| async move {
        let mut body = request.into_body();
        tokio::task::spawn_local(async move { while body.next().await.is_some() {} });
        std::future::pending().await
    });
    local(async {
        for body in ["content-length: 3\r\n\r\n", "transfer-encoding: chunked\r\n\r\n"] {
            let (mut client, served) = site.connect();
            client.write_all(format!("POST / HTTP/1.1\r\nhost: x\r\n{body}").as_bytes()).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            client.write_all(if body.starts_with('c') { b"abc" } else { b"0\r\n\r\n" }).await.unwrap();
            sleep(Duration::from_secs(1)).await;
            let start = Instant::now();
            drop(client);
            within(served).await.unwrap();
            assert_eq!(start.elapsed(), Duration::ZERO, "{body}");
        }
    })
    .await;
}
