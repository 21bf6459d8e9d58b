//! A connection that has changed to another protocol: bytes pass both ways until either side ends.
//!
//! Source: RFC 9110, section 7.8, and RFC 6455. The ways do not wait for each other, and there is no time limit: who holds
//! a WebSocket open may have nothing to say for hours.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use actix_http::{ConnectionType, Response};
use actix_web::HttpResponse;
use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::Payload;
use actix_web::rt::task::JoinHandle;
use actix_web::web::{Bytes, BytesMut};
use futures::StreamExt;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio_util::io::poll_read_buf;

use super::exchange::Exchange;
use crate::lease::Lease;
use crate::upstream::{AnswerBody, BodyError, Tunnel};

/// How much is read at once.
const ROOM: usize = 16 << 10;

/// The way from the backend to the client.
struct Downward {
    arrived: Bytes,
    reader: Box<dyn AsyncRead + Unpin>,
    buffer: BytesMut,
    /// The other way, which ends with this one.
    upward: JoinHandle<()>,
    _exchange: Exchange,
    /// Given back when the tunnel ends.
    _lease: Lease,
}

/// Makes the response to a client whose backend agreed to change the protocol.
pub(super) fn response(
    mut head: Response<()>,
    incoming: AnswerBody,
    client: Payload,
    mut exchange: Exchange,
    lease: Lease,
) -> HttpResponse {
    // However it ends from here on is what the two sides wanted.
    exchange.completes(head.status().as_u16());
    head.head_mut().set_connection_type(ConnectionType::Upgrade);
    let Some(Tunnel { arrived, reader, writer }) = incoming.into_tunnel() else {
        return HttpResponse::from(head).map_into_boxed_body();
    };
    let upward = actix::spawn(pass_upward(client, writer));
    let downward = Downward { arrived, reader, buffer: BytesMut::new(), upward, _exchange: exchange, _lease: lease };
    HttpResponse::from(head.set_body(downward)).map_into_boxed_body()
}

async fn pass_upward(mut client: Payload, mut writer: Box<dyn AsyncWrite + Unpin>) {
    while let Some(Ok(bytes)) = client.next().await {
        if writer.write_all(&bytes).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
    // The backend answers the end with its own, which ends the tunnel; if it is gone already there is nothing to do.
    writer.shutdown().await.ok();
}

impl MessageBody for Downward {
    type Error = BodyError;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        let this = self.get_mut();
        if !this.arrived.is_empty() {
            return Poll::Ready(Some(Ok(std::mem::take(&mut this.arrived))));
        }
        this.buffer.reserve(ROOM);
        match ready!(poll_read_buf(Pin::new(&mut this.reader), context, &mut this.buffer)) {
            Ok(read) if read > 0 => Poll::Ready(Some(Ok(this.buffer.split().freeze()))),
            _ => Poll::Ready(None),
        }
    }
}

impl Drop for Downward {
    fn drop(&mut self) {
        self.upward.abort();
    }
}
