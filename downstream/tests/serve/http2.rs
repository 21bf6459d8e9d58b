//! HTTP/2.

use bytes::Bytes;
use http::Request;
use kthena_router_downstream::Limits;

use crate::site::{Site, local, within};

#[tokio::test(start_paused = true)]
async fn a_request_is_answered() {
    let site = Site::echo(Limits::default());
    local(async {
        let (client, served) = site.connect();
        let (mut requests, connection) = within(h2::client::handshake(client)).await.unwrap();
        let driver = tokio::task::spawn_local(connection);
        let (answer, mut body) =
            requests.send_request(Request::post("http://a.org/x").body(()).unwrap(), false).unwrap();
        body.send_data(Bytes::from_static(b"hello"), true).unwrap();
        let (head, mut body) = within(answer).await.unwrap().into_parts();
        assert_eq!((head.status.as_u16(), head.headers["content-length"].as_bytes()), (200, &b"19"[..]));
        assert_eq!(within(body.data()).await.unwrap().unwrap(), "POST a.org /x hello"[..]);
        drop((requests, body));
        within(driver).await.unwrap().unwrap();
        within(served).await.unwrap();
    })
    .await;
}
