//! Reads a request's body into memory, up to a limit.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::body::{BodySize, BoxBody, MessageBody};
use actix_web::dev::Payload;
use actix_web::http::header::{self, HeaderMap};
use actix_web::web::{Bytes, BytesMut};
use futures::{FutureExt, StreamExt};
use tokio::time::timeout;

use super::error::ProxyError;

/// How much is reserved at once on the word of a Content-Length that may be a lie.
const TRUSTED: usize = 1 << 20;

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
