//! A port that closes.

use std::time::Duration;

use kthena_router_downstream::Limits;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, sleep};

use crate::frames::{DATA, GOAWAY, RawClient, get};
use crate::site::{Site, echo, local, rest, until, within};

/// A service that answers `/slow` after a minute.
fn slow() -> Site {
    Site::new(Limits::default(), |_, request| async move {
        if request.uri().path() == "/slow" {
            sleep(Duration::from_secs(60)).await;
        }
        echo(request).await
    })
}

#[tokio::test(start_paused = true)]
async fn idle_connections_end_at_once() {
    let site = slow();
    local(async {
        let (_silent, one) = site.connect();
        let (mut begun, two) = site.connect();
        begun.write_all(b"PRI").await.unwrap();
        let (mut idle, three) = site.connect();
        idle.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        until(&mut idle, "GET x /").await;
        let start = Instant::now();
        site.server.closing.cancel();
        for served in [one, two, three] {
            within(served).await.unwrap();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn clients_that_have_their_answers_and_stay_are_waited_for_no_more() {
    for (case, request, seconds) in [
        ("all was read", "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", 0),
        (
            "more was sent behind it",
            "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\nGET /more HTTP/1.1\r\nhost: x\r\n\r\n",
            1,
        ),
        ("a body is on its way", "POST / HTTP/1.1\r\nhost: a,b\r\ncontent-length: 5\r\n\r\n", 1),
    ] {
        let site = slow();
        local(async {
            let (mut client, served) = site.connect();
            client.write_all(request.as_bytes()).await.unwrap();
            // The server has said all that it has to say, and waits for the client to close as well.
            assert!(rest(&mut client).await.contains("connection: close"), "{case}");
            let start = Instant::now();
            site.server.closing.cancel();
            within(served).await.unwrap();
            assert_eq!(start.elapsed().as_secs(), seconds, "{case}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_head_that_is_arriving_has_a_moment_to_arrive() {
    for (rest_of_head, seconds) in [("tp: x\r\n\r\n", 0), ("", 1)] {
        let site = slow();
        local(async {
            let (mut client, served) = site.connect();
            client.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\nht").await.unwrap();
            sleep(Duration::from_secs(1)).await;
            let start = Instant::now();
            site.server.closing.cancel();
            tokio::task::yield_now().await;
            client.write_all(rest_of_head.as_bytes()).await.unwrap();
            let answer = rest(&mut client).await;
            assert_eq!(answer.contains("GET x /a") && answer.contains("connection: close"), seconds == 0, "{answer}");
            within(served).await.unwrap();
            assert_eq!(start.elapsed().as_secs(), seconds);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn running_requests_end_in_their_own_time_and_none_begins_after_them() {
    let site = slow();
    local(async {
        let (mut client, served) = site.connect();
        client.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\nGET /later HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        sleep(Duration::from_secs(1)).await;
        site.server.closing.cancel();
        let answer = rest(&mut client).await;
        assert!(answer.contains("connection: close") && answer.contains("GET x /slow"), "{answer}");
        assert!(!answer.contains("/later"), "{answer}");
        within(served).await.unwrap();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn http2_clients_that_never_answer_do_not_hold_a_port_that_closes() {
    let site = slow();
    local(async {
        let (io, idle) = site.connect();
        let mut idle_client = RawClient::begin(io, &[]).await;
        idle_client.request(1, &get("/"), true).await;
        assert_eq!(idle_client.status_of(1).await, Some(200));
        let (io, busy) = site.connect();
        let mut client = RawClient::begin(io, &[]).await;
        client.request(1, &get("/slow"), true).await;
        sleep(Duration::from_secs(1)).await;
        let start = Instant::now();
        site.server.closing.cancel();
        within(idle).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 3, "a client without requests has a moment");
        client.next_of(GOAWAY, 0).await;
        let answer = client.next_of(DATA, 1).await;
        assert_eq!(answer.payload[..], b"GET a.org /slow "[..], "a running request is answered");
        within(busy).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 59 + 3);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_idle_http2_connection_is_told_to_leave() {
    let site = slow();
    local(async {
        let (io, served) = site.connect();
        let mut client = RawClient::begin(io, &[]).await;
        client.request(1, &get("/"), true).await;
        assert_eq!(client.status_of(1).await, Some(200));
        let start = Instant::now();
        client.next_of(GOAWAY, 0).await;
        assert_eq!(start.elapsed().as_secs(), 75);
        within(served).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 78);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_came_in_part_behind_another_request_has_the_time_of_a_head() {
    for (closes, seconds) in [(true, 1), (false, 30)] {
        let site = slow();
        local(async {
            let (mut client, served) = site.connect();
            client.write_all(b"GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\nho").await.unwrap();
            until(&mut client, "GET x /a").await;
            let start = Instant::now();
            if closes {
                site.server.closing.cancel();
            }
            let answer = rest(&mut client).await;
            assert_eq!(answer.starts_with("HTTP/1.1 408 "), !closes, "{answer}");
            assert_eq!(start.elapsed().as_secs(), seconds);
            drop(client);
            within(served).await.unwrap();
        })
        .await;
    }
}
