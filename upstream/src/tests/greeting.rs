//! Endpoints that accept connections and do not get as far as requests, and connections to those that do.

use socket2::SockRef;

use super::*;

/// Accepts connections, and does no more than hold them.
async fn accept() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::task::spawn_local(async move {
        let mut held = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            held.push(stream);
        }
    });
    address
}

#[tokio::test(flavor = "local")]
async fn an_endpoint_that_accepts_and_never_greets_is_told_apart_from_one_that_is_slow_to_answer() {
    let giving_up = |limit| Upstream { connect_timeout: limit, ..upstream(RootCertStore::empty()) };
    let (soon, late) = (giving_up(Duration::from_millis(20)), giving_up(Duration::from_secs(600)));
    let (address, headers) = (accept().await, HeaderMap::new());
    for (case, transport) in [("TLS", soon.engines(true)), ("HTTP/2", Transport::H2c)] {
        let peer = Peer { address, transport };
        let failure = soon.client().send(&peer, &mut ask(&Method::POST, &headers, Body::Empty)).await.err().unwrap();
        assert!(matches!(failure.error, AttemptError::Handshake(_)), "{case}: {failure:?}");
        assert_eq!((failure.sends, failure.processed), (0, Processed::No), "{case}");
        let (headers, client) = (&headers, late.client());
        let limited = || async {
            let limit = Some(Duration::from_millis(20));
            let mut ask = Ask { timeout: limit, ..ask(&Method::POST, headers, Body::Empty) };
            client.send(&peer, &mut ask).await.err().unwrap()
        };
        // The second one waits for the connection that the first one makes.
        let both = futures::join!(limited(), limited());
        for failure in [both.0, both.1] {
            assert!(matches!(failure.error, AttemptError::Timeout(Stage::Handshake)), "{case}: {failure:?}");
        }
    }
}

#[tokio::test(flavor = "local")]
async fn connections_notice_that_a_node_is_gone() {
    let address = accept().await;
    let stream = connect::connect(&Peer { address, transport: Transport::Http1 }).await.unwrap();
    let socket = SockRef::from(&stream);
    assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(15));
    assert_eq!(socket.tcp_user_timeout().unwrap(), Some(Duration::from_secs(60)));
}
