//! HTTP/2.

use std::future::ready;

use bytes::Bytes;
use http::{Request, Response};
use kthena_router_downstream::{Limits, Refusal};
use tokio::io::AsyncWriteExt;

use crate::frames::{DATA, END_STREAM, RST_STREAM, RawClient, get, post};
use crate::site::{Site, TestBody, echo, local, within};

#[tokio::test(start_paused = true)]
async fn a_request_is_answered() {
    let site = Site::echo(Limits::default());
    local(async {
        let (client, served) = site.connect();
        let (mut requests, connection) = within(h2::client::handshake(client)).await.unwrap();
        let driver = tokio::task::spawn_local(connection);
        let request = Request::post("http://a.org/x").body(()).unwrap();
        let (answer, mut body) = requests.send_request(request, false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let (head, mut body) = within(answer).await.unwrap().into_parts();
        assert_eq!((head.status.as_u16(), head.headers["content-length"].as_bytes()), (200, &b"19"[..]));
        assert!(head.headers.contains_key("date"));
        assert_eq!(within(body.data()).await.unwrap().unwrap(), "POST a.org /x hello"[..]);
        drop((requests, body));
        within(driver).await.unwrap().unwrap();
        within(served).await.unwrap();
    })
    .await;
}

/// Sends a request, and returns the status of its answer, and what was refused.
async fn asked(fields: &[(&str, &str)], ends: bool) -> (Option<u16>, Vec<Refusal>) {
    let site = Site::echo(Limits::default());
    let status = local(async {
        let (io, _served) = site.connect();
        let mut client = RawClient::begin(io, &[]).await;
        client.request(1, fields, ends).await;
        client.status_of(1).await
    })
    .await;
    (status, site.refused())
}

#[tokio::test(start_paused = true)]
async fn the_service_sees_no_malformed_path_or_host() {
    let [method, scheme, authority] = [(":method", "GET"), (":scheme", "http"), (":authority", "a.org")];
    for path in ["http://x/admin", "admin", "?q", "x:y", "*", "//", "/a"] {
        let (status, refused) = asked(&[method, scheme, authority, (":path", path)], true).await;
        if path.starts_with('/') {
            assert_eq!((status, refused.len()), (Some(200), 0), "{path}");
        } else {
            // The library resets what it cannot parse itself.
            assert!(
                status.is_none() || (status, &refused[..]) == (Some(400), &[Refusal::Target]),
                "{path}: {status:?}"
            );
        }
    }
    for (host, refusal) in [("b.org", Refusal::HostDiffers), ("a.org,b.org", Refusal::Host), ("a:abc", Refusal::Host)] {
        let answered = asked(&[method, scheme, authority, (":path", "/"), ("host", host)], true).await;
        assert_eq!(answered, (Some(400), vec![refusal]), "{host}");
    }
    for authority in ["a,b", "a:99999", "u@a.org", ""] {
        let (status, refused) = asked(&[method, scheme, (":authority", authority), (":path", "/")], true).await;
        assert!(status.is_none() || status == Some(400), "{authority}: {status:?} {refused:?}");
    }
    let other_scheme = asked(&[method, (":scheme", "ftp"), authority, (":path", "/")], true).await;
    assert_eq!(other_scheme, (Some(400), vec![Refusal::Target]));
}

#[tokio::test(start_paused = true)]
async fn a_length_that_is_not_that_of_the_body_is_refused() {
    for (lengths, ends) in [(&["7"][..], true), (&["7", "7"], false), (&["7", "8"], false), (&["+7"], false)] {
        let mut fields = post("/").to_vec();
        fields.extend(lengths.iter().map(|length| ("content-length", *length)));
        let (status, refused) = asked(&fields, ends).await;
        let is_refused = (status, &refused[..]) == (Some(400), &[Refusal::Length]);
        assert!(is_refused || (status.is_none() && refused.is_empty()), "{lengths:?}: {status:?} {refused:?}");
    }
    // More or less than was said is an error of the stream, and no request of the service's.
    for (sent, length) in [("longer than it", "3"), ("ab", "3")] {
        let site = Site::echo(Limits::default());
        local(async {
            let (io, _served) = site.connect();
            let mut client = RawClient::begin(io, &[]).await;
            client.request(1, &[&post("/")[..], &[("content-length", length)]].concat(), false).await;
            client.send(DATA, END_STREAM, 1, sent.as_bytes()).await;
            let reset = client.next_of(RST_STREAM, 1).await;
            assert_eq!(reset.payload[..], 1_u32.to_be_bytes(), "PROTOCOL_ERROR");
            client.request(3, &get("/"), true).await;
            assert_eq!(client.status_of(3).await, Some(200), "the connection lives");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_panics_costs_its_own_request() {
    let site = Site::new(Limits::default(), |_, request| async move {
        assert_ne!(request.uri().path(), "/panic", "as the test says");
        echo(request).await
    });
    local(async {
        let (io, _served) = site.connect();
        let mut client = RawClient::begin(io, &[]).await;
        client.request(1, &get("/panic"), true).await;
        client.request(3, &get("/"), true).await;
        assert_eq!(client.status_of(3).await, Some(200));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_breaks_off_is_reset() {
    let site = Site::new(Limits::default(), |_, _| {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel();
        sender.send(Ok("half".into())).unwrap();
        sender.send(Err("broken".into())).unwrap();
        ready(Response::new(TestBody::Pieces(receiver)))
    });
    local(async {
        let (io, _served) = site.connect();
        let mut client = RawClient::begin(io, &[]).await;
        client.request(1, &get("/"), true).await;
        assert_eq!(client.next_of(RST_STREAM, 1).await.payload[..], 2_u32.to_be_bytes(), "INTERNAL_ERROR");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_closes_an_http2_connection_says_so_by_goaway() {
    let site = Site::new(Limits::default(), |_, _| {
        let mut answer = Response::new(TestBody::Whole(None));
        answer.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
        ready(answer)
    });
    local(async {
        let (io, served) = site.connect();
        let mut client = RawClient::begin(io, &[]).await;
        client.request(1, &get("/"), true).await;
        client.next_of(crate::frames::GOAWAY, 0).await;
        assert_eq!(client.status_of(1).await, Some(200));
        client.io.shutdown().await.unwrap();
        within(served).await.unwrap();
    })
    .await;
}
