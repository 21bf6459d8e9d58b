//! Reads a request's body into memory, up to a limit, or passes it on as it arrives.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{Bytes, BytesMut};
use futures::{FutureExt, Stream, StreamExt};
use kthena_router::config::LimitConfig;
use tokio::time::{Sleep, sleep, timeout};

use super::error::ProxyError;
use crate::upstream::{Body, BodyFault, BodyStream};

/// How much is reserved at once on the word of a Content-Length that may be a lie.
const TRUSTED: usize = 1 << 20;

/// Bodies of up to this length are read before they are sent: whoever takes them later may then be another endpoint.
const SMALL: usize = 64 << 10;

/// The router's own answer, with what is left of the body that it answers.
///
/// The server closes a connection whose request was not read to its end, and before that reads on for a moment, so that
/// a client that is still sending finds the answer. If the body were dropped, the server would do so without a time
/// limit for a body in chunks.
pub(super) struct WithUnread {
    answer: BoxBody,
    _unread: Payload,
}

impl WithUnread {
    /// Makes an answer to a request of which `unread` is left.
    pub(super) fn new(answer: BoxBody, unread: Payload) -> Self {
        Self { answer, _unread: unread }
    }
}

impl MessageBody for WithUnread {
    type Error = <BoxBody as MessageBody>::Error;

    fn size(&self) -> BodySize {
        self.answer.size()
    }

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Self::Error>>> {
        Pin::new(&mut self.get_mut().answer).poll_next(context)
    }
}

/// The body of a request, as far as it is needed.
pub(super) enum Inbound<'r> {
    /// It was read already.
    Read(Bytes),
    /// It is still to come.
    Unread(&'r mut Payload),
}

/// A body that is passed on as it arrives; each piece must arrive within a time after it is wanted.
struct Paced {
    payload: Payload,
    pause: Duration,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Inbound<'_> {
    /// Returns the body to send: all of it where it is to be sent more than once, or is small.
    pub(super) async fn outbound(
        self,
        headers: &HeaderMap,
        repeatable: bool,
        limits: &LimitConfig,
    ) -> Result<Body, ProxyError> {
        let payload = match self {
            Self::Read(bytes) => return Ok(Body::Whole(bytes)),
            Self::Unread(Payload::None) => return Ok(Body::Empty),
            Self::Unread(payload) => payload,
        };
        let length = announced_length(headers);
        if repeatable || length.is_some_and(|length| length <= SMALL) {
            return read(headers, payload, limits.max_body_bytes, limits.client_timeout).await.map(Body::Whole);
        }
        let payload = std::mem::replace(payload, Payload::None);
        let source = Box::pin(Paced { payload, pause: limits.client_timeout, timer: None });
        Ok(Body::Stream(BodyStream { source, length: length.map(|length| length as u64) }))
    }
}

impl Stream for Paced {
    type Item = Result<Bytes, BodyFault>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if let Poll::Ready(piece) = this.payload.poll_next_unpin(context) {
            this.timer = None;
            return Poll::Ready(piece.map(|piece| piece.map_err(BodyFault::Read)));
        }
        let timer = this.timer.get_or_insert_with(|| Box::pin(sleep(this.pause)));
        timer.as_mut().poll(context).map(|()| Some(Err(BodyFault::Late)))
    }
}

/// Reads the body; each piece of it must arrive within `pause` after the one before.
pub(super) async fn read(
    headers: &HeaderMap,
    payload: &mut Payload,
    limit: usize,
    pause: Duration,
) -> Result<Bytes, ProxyError> {
    let announced = announced_length(headers);
    if announced.is_some_and(|length| length > limit) {
        return Err(ProxyError::BodyTooLarge { limit });
    }
    let Some(first) = next(payload, pause).await? else { return Ok(Bytes::new()) };
    if announced == Some(first.len()) {
        // The common case: the body came in one piece, which is used as it is.
        return if first.len() > limit { Err(ProxyError::BodyTooLarge { limit }) } else { Ok(first) };
    }
    let mut body = BytesMut::with_capacity(announced.unwrap_or_default().min(TRUSTED).max(first.len()));
    let mut piece = Some(first);
    while let Some(bytes) = piece {
        if body.len() + bytes.len() > limit {
            return Err(ProxyError::BodyTooLarge { limit });
        }
        body.extend_from_slice(&bytes);
        piece = next(payload, pause).await?;
    }
    Ok(body.freeze())
}

/// Returns the next piece; a timer is only set where it is not there yet.
async fn next(payload: &mut Payload, pause: Duration) -> Result<Option<Bytes>, ProxyError> {
    let piece = match payload.next().now_or_never() {
        Some(piece) => piece,
        None => timeout(pause, payload.next()).await.map_err(|_| ProxyError::BodyTimeout)?,
    };
    piece.transpose().map_err(ProxyError::BodyRead)
}

fn announced_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
