//! What a client can be too slow for.

use std::future::{pending, ready};
use std::time::Duration;

use http::Response;
use kthena_router_downstream::{Limits, Refusal};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep};

use crate::frames::{self, RST_STREAM, RawClient, get};
use crate::site::{Site, TestBody, local, rest, until, within};

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_within_its_beginning_is_noticed_at_once() {
    for beginning in [&b""[..], b"P", b"PRI * HTTP/2.0\r\n\r\nSM\r\n", b"PRI", b"GET / HT", b"\x16\x03"] {
        let site = Site::echo(Limits::default());
        local(async {
            let (mut client, served) = site.connect();
            client.write_all(beginning).await.unwrap();
            let start = Instant::now();
            drop(client);
            within(served).await.unwrap();
            assert_eq!(start.elapsed(), Duration::ZERO, "{beginning:?}");
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_preface_in_pieces_is_recognized_as_it_comes() {
    let site = Site::echo(Limits::default());
    local(async {
        let (mut client, _served) = site.connect();
        let start = Instant::now();
        for byte in b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0" {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let mut settings = [0; 9];
        within(client.read_exact(&mut settings)).await.unwrap();
        assert_eq!((settings[3], start.elapsed()), (frames::SETTINGS, Duration::ZERO));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_in_has_a_limit_in_all() {
    for earlier in ["", "GET / HTTP/1.1\r\nhost: x\r\n\r\n"] {
        let site = Site::echo(Limits::default());
        local(async {
            let (mut client, served) = site.connect();
            client.write_all(earlier.as_bytes()).await.unwrap();
            if !earlier.is_empty() {
                until(&mut client, "GET x /").await;
                sleep(Duration::from_secs(60)).await;
            }
            let start = Instant::now();
            let trickle = async {
                while client.write_all(b"G").await.is_ok() {
                    sleep(Duration::from_secs(1)).await;
                    let mut answer = [0; 12];
                    if let Ok(Ok(_)) = tokio::time::timeout(Duration::ZERO, client.read_exact(&mut answer)).await {
                        return answer;
                    }
                }
                panic!("there is an answer before the end");
            };
            assert_eq!(&trickle.await, b"HTTP/1.1 408");
            assert!((30..=32).contains(&start.elapsed().as_secs()), "{:?}", start.elapsed());
            drop(client);
            within(served).await.unwrap();
            assert_eq!(site.refused(), [Refusal::TooSlow]);
        })
        .await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_and_a_busy_one_is_not() {
    let site = Site::new(Limits::default(), |_, request| async move {
        if request.uri().path() == "/slow" {
            sleep(Duration::from_secs(3000)).await;
        }
        crate::site::echo(request).await
    });
    local(async {
        let (mut client, served) = site.connect();
        client.write_all(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        tokio::time::timeout(Duration::from_secs(4000), client.read_u8()).await.unwrap().unwrap();
        until(&mut client, "GET x /slow").await;
        let start = Instant::now();
        assert_eq!(rest(&mut client).await, "", "nothing is said to a client that waits for nothing");
        assert_eq!(start.elapsed().as_secs(), 75);
        drop(client);
        within(served).await.unwrap();
        assert_eq!(site.refused(), []);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_is_an_error_of_its_reader() {
    let site = Site::echo(Limits::default());
    local(async {
        let (mut client, served) = site.connect();
        client.write_all(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nabc").await.unwrap();
        let start = Instant::now();
        let answer = rest(&mut client).await;
        assert!(answer.contains("did not arrive in time"), "{answer}");
        assert_eq!(start.elapsed().as_secs(), 30);
        within(served).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 30 + 10, "the client has a moment to find the answer");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_is_reset_and_its_neighbours_live() {
    let site = Site::new(Limits::default(), |_, request| {
        let endless = request.uri().path() == "/endless";
        ready(if endless {
            Response::new(TestBody::Endless(vec![b'x'; 1000].into()))
        } else {
            Response::new(TestBody::Whole(None))
        })
    });
    local(async {
        let (io, _served) = site.connect();
        // SETTINGS_INITIAL_WINDOW_SIZE = 0.
        let mut client = RawClient::begin(io, &[(4, 0)]).await;
        let start = Instant::now();
        client.request(1, &get("/endless"), true).await;
        let reset = client.next_of(RST_STREAM, 1).await;
        assert_eq!(reset.payload[..], 8_u32.to_be_bytes(), "CANCEL");
        assert_eq!(start.elapsed().as_secs(), 30);
        client.request(3, &get("/"), true).await;
        assert_eq!(client.status_of(3).await, Some(200));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn an_http2_client_that_reads_nothing_at_all_is_cut_off() {
    let site = Site::new(Limits::default(), |_, _| ready(Response::new(TestBody::Endless(vec![b'x'; 1000].into()))));
    local(async {
        let (io, served) = site.connect();
        let mut client = RawClient::begin(io, &[(4, 0x7fff_ffff)]).await;
        client.send(frames::WINDOW_UPDATE, 0, 0, &0x7000_0000_u32.to_be_bytes()).await;
        client.request(1, &get("/"), true).await;
        let start = Instant::now();
        within(served).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 30);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_tunnel_whose_client_does_not_read_ends() {
    let site = Site::new(Limits::default(), |_, mut request| async move {
        let upgrade = request.body_mut().upgrade().unwrap();
        tokio::task::spawn_local(async move {
            let mut tunnel = upgrade.await.unwrap();
            while tunnel.write_all(&[b'x'; 1000]).await.is_ok() {}
        });
        let mut answer = crate::site::text(http::StatusCode::SWITCHING_PROTOCOLS, "");
        answer.headers_mut().insert("upgrade", "other".parse().unwrap());
        answer.headers_mut().insert("connection", "upgrade".parse().unwrap());
        answer
    });
    local(async {
        let (mut client, served) = site.connect();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: other\r\n\r\n").await.unwrap();
        let start = Instant::now();
        within(served).await.unwrap();
        assert_eq!(start.elapsed().as_secs(), 30);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_client_that_leaves_drops_its_request() {
    let (held, dropped) = tokio::sync::oneshot::channel::<()>();
    let held = std::cell::RefCell::new(Some(held));
    let site = Site::new(Limits::default(), move |_, _| {
        let held = held.borrow_mut().take();
        async move {
            let _held = held;
            pending().await
        }
    });
    local(async {
        let (mut client, served) = site.connect();
        client.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
        tokio::task::yield_now().await;
        let start = Instant::now();
        drop(client);
        assert!(within(dropped).await.is_err(), "the request is dropped");
        within(served).await.unwrap();
        assert_eq!(start.elapsed(), Duration::ZERO);
    })
    .await;
}
