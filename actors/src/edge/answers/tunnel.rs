//! A connection that has changed to another protocol: bytes pass both ways until either side ends.
//!
//! Source: RFC 9110, section 7.8, and RFC 6455. The ways do not wait for each other, and there is no time limit: who
//! holds a WebSocket open may have nothing to say for hours. A client that ends its way still gets what the backend
//! sends.

use bytes::Bytes;
use http::header::{CONNECTION, HeaderValue};
use http::{Response, Version};
use kthena_router_downstream::Upgrade;
use kthena_router_upstream::{Answer, Tunnel};
use tokio::io::{AsyncWriteExt, copy, split};
use tokio::task::spawn_local;

use crate::edge::exchange::{Exchange, Held};

/// Makes the response to a client whose backend agreed to change the protocol. The exchange and what is held end with
/// the tunnel.
pub(super) fn response(backend: Box<Answer>, client: Upgrade, mut exchange: Exchange, held: Held) -> Response<Bytes> {
    let Answer { mut head, body, .. } = *backend;
    // However it ends from here on is what the two sides wanted.
    exchange.completes(head.status.as_u16());
    head.version = Version::default();
    head.headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    if let Some(backend) = body.into_tunnel() {
        spawn_local(async move {
            pass(backend, client).await;
            drop((exchange, held));
        });
    }
    Response::from_parts(head, Bytes::new())
}

/// Passes bytes until the backend has ended its way.
async fn pass(backend: Tunnel, client: Upgrade) {
    let Tunnel { arrived, mut reader, mut writer } = backend;
    let Some(client) = client.await else { return };
    let (mut from_client, mut to_client) = split(client);
    let upward = async {
        // Whether the backend takes all of it shows in what it sends.
        copy(&mut from_client, &mut writer).await.ok();
        writer.shutdown().await.ok();
    };
    let downward = async {
        if to_client.write_all(&arrived).await.is_ok() && to_client.flush().await.is_ok() {
            copy(&mut reader, &mut to_client).await.ok();
        }
        to_client.shutdown().await.ok();
    };
    tokio::pin!(upward, downward);
    tokio::select! {
        () = &mut downward => {}
        () = &mut upward => downward.await,
    }
}
